"""Networks as published: sizes, names, and layers that survive being saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.classify import Network
from pipeline.errors import ConfigurationError
from pipeline.models.backbones import backbone_of, read_backbone_weights
from pipeline.models.layers import Beside, CentreZoom, ImageNetInput
from pipeline.models.onnx_weights import read_mobilenet_v2
from pipeline.models.published import build_cam_cnn, build_transfer
from pipeline.preprocess import Preprocessing
from pipeline.training.recipes import RECIPES
from pipeline.types import FieldTile, Rectangle

#: Building these takes seconds each, NASNetLarge half a minute.
LARGE = {
    "nasnetlarge",
    "cam-cnn-densenet121",
    "cam-cnn-inceptionv3",
    "cam-cnn-resnet50",
    "densenet201",
    "dss-pretrain-resnet34",
    "dss-pretrain-resnet50",
    "dss-pretrain-vit-b16",
    "dss-resnet34",
    "dss-resnet50",
    "dss-vit-b16",
    "efficientnet",
    "inceptionv3",
    "mobilenetv3",
    "resnet50v2",
    "xception",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in LARGE else []) for name in RECIPES],
)
def test_every_network_has_the_listed_parameters_and_layers(name):
    recipe = RECIPES[name]
    classes = len(recipe.classes.names) if recipe.classes else 4
    network = recipe.build(classes)
    trainable = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    assert network.count_params() == recipe.parameters
    assert trainable == (recipe.trainable_parameters or recipe.parameters)
    assert network.output_shape == (None, classes)
    if recipe.read is None:
        assert network.layers[-1].kernel.shape[-1] == classes
    assert len(network.get_layer(recipe.embedding_layer).output.shape) == 2
    assert len(network.get_layer(recipe.feature_map_layer).output.shape) == 4


def test_the_published_counts_are_those_of_the_papers():
    """From the papers themselves, not from what was built."""
    assert RECIPES["all-net"].parameters == 1_097_604
    allnet = RECIPES["allnet-2022"]
    assert (allnet.parameters, allnet.trainable_parameters) == (95_099_266, 95_097_474)
    transfer = RECIPES["resnet50-transfer"]
    assert transfer.trainable_parameters == 401_412
    assert transfer.parameters - transfer.trainable_parameters == 23_587_712


def test_the_input_of_imagenet_networks_is_that_of_keras_applications():
    import keras

    image = np.random.default_rng(0).random((2, 5, 5, 3), np.float32)
    modules = {
        "caffe": keras.applications.vgg16,
        "symmetric": keras.applications.mobilenet_v2,
        "standardised": keras.applications.densenet,
        "bytes": keras.applications.efficientnet,
    }
    for scaling, module in modules.items():
        expected = module.preprocess_input(image.copy() * 255.0)
        np.testing.assert_allclose(ImageNetInput(scaling)(image), expected, atol=1e-4)


def test_the_zoom_shows_the_middle():
    image = np.zeros((1, 40, 40, 3), np.float32)
    image[0, 8:32, 8:32] = 1.0
    np.testing.assert_allclose(CentreZoom(0.6, 50)(image), 1.0, atol=1e-6)
    image[0, :8] = 9.0
    image[0, 32:] = 9.0
    np.testing.assert_allclose(CentreZoom(0.6, 50)(image), 1.0, atol=1e-6)


def test_what_lies_beside_changes_nothing():
    one, other = np.ones((2, 3), np.float32), np.zeros((2, 4), np.float32)
    np.testing.assert_array_equal(Beside()([one, other]), one)


def tile(size: int) -> FieldTile:
    pixels = np.random.default_rng(1).integers(0, 256, (size, size, 3), np.uint8)
    cells = np.ones((size, size), bool)
    return FieldTile(pixels, Rectangle(0, 0, size, size), cells, cells, 1)


def test_every_layer_of_this_project_survives_being_saved(tmp_path):
    import keras

    image = keras.Input((20, 20, 3))
    hidden = ImageNetInput("caffe")(CentreZoom(0.5, 30)(image))
    pooled = keras.layers.GlobalAveragePooling2D(name="average")(hidden)
    hidden = Beside()([keras.layers.Flatten()(hidden), pooled])
    model = keras.Model(image, keras.layers.Dense(4, activation="softmax")(hidden))
    model.save(tmp_path / "network.keras")
    shown = np.random.default_rng(0).random((1, 20, 20, 3), np.float32)
    layers = {
        "preprocessing": Preprocessing(input_size=20, tile_size=20),
        "embedding_layer": "average",
        "feature_map_layer": model.layers[1].name,
    }
    loaded = Network.load(tmp_path / "network.keras", **layers)
    np.testing.assert_array_equal(loaded.probabilities(shown), np.asarray(model(shown)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv2-0.35-transfer", "cam-cnn-mobilenet"])
def test_a_saved_network_judges_and_is_explained_as_before(name, tmp_path):
    recipe = RECIPES[name]
    path = tmp_path / "network.keras"
    model = recipe.build(4)
    model.save(path)
    layers = {
        "preprocessing": recipe.preprocessing,
        "embedding_layer": recipe.embedding_layer,
        "feature_map_layer": recipe.feature_map_layer,
    }
    before, after = Network(model, **layers), Network.load(path, **layers)
    shown = before.input_of(tile(224))
    for ours, theirs in zip(
        before.embed_and_score(shown), after.embed_and_score(shown), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    features, gradients = after.feature_gradients(shown, 2)
    assert features.shape == gradients.shape and np.abs(gradients).max() > 0


@pytest.mark.slow
def test_a_heat_map_of_a_zoomed_network_leaves_the_margins_out():
    recipe = RECIPES["cam-cnn-mobilenet"]
    network = Network(
        build_cam_cnn("mobilenet", 4),
        preprocessing=recipe.preprocessing,
        embedding_layer=recipe.embedding_layer,
        feature_map_layer=recipe.feature_map_layer,
    )
    features, gradients = network.feature_gradients(network.input_of(tile(224)), 0)
    seen = np.zeros(features.shape[:2], bool)
    seen[2:-2, 2:-2] = True
    assert not features[~seen].any() and not gradients[~seen].any()
    assert features[seen].any() and gradients[seen].any()


@pytest.mark.parametrize("file", ["given.keras", "given.weights.h5", "given_notop.h5"])
def test_weights_of_keras_applications_are_taken(file, tmp_path):
    import keras

    given = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(224, 224, 3))
    path = tmp_path / file
    if file.endswith(".weights.h5"):
        given.save_weights(path)
    else:
        given.save(path)
    network = build_cam_cnn("mobilenet", 4)
    shown = np.random.default_rng(0).random((1, 224, 224, 3), np.float32)
    inner = keras.Model(
        network.get_layer("imagenet_input").output, network.get_layer("features").input
    )
    assert np.abs(np.asarray(inner(shown)) - np.asarray(given(shown))).max() > 0
    read_backbone_weights(network, path)
    np.testing.assert_allclose(inner(shown), given(shown), atol=1e-6)


def test_weights_of_another_network_are_refused(tmp_path):
    import keras

    other = keras.applications.MobileNetV2(include_top=False, weights=None)
    other.save(tmp_path / "other.keras")
    (tmp_path / "damaged.h5").write_bytes(b"nothing")
    network = build_cam_cnn("mobilenet", 4)
    for name in ("other.keras", "damaged.h5", "missing.keras"):
        with pytest.raises(ConfigurationError, match=name):
            read_backbone_weights(network, tmp_path / name)


@pytest.fixture
def double_precision() -> Iterator[None]:
    """Leaves the other's rounding alone: single precision differs by 1e-4 between processors."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    ("backbone", "file"),
    [
        ("mobilenetv2-0.35", "mobilenet_v2_0.35_224_notop.onnx"),
        ("mobilenetv2", "mobilenet_v2_1.0_224_notop_dequant.onnx"),
    ],
)
def test_onnx_weights_give_what_onnx_runtime_computes(
    backbone, file, shared_data, double_precision
):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = shared_data(f"weights/{file}")
    network = build_transfer(backbone, 4)
    read_mobilenet_v2(network, path)
    shown = np.random.default_rng(0).random((2, 224, 224, 3), np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {"input": (shown * 2 - 1).transpose(0, 3, 1, 2).astype(np.float32)}
    features, embedding = session.run(["features", "embedding"], given)
    ours = np.asarray(backbone_of(network)(shown.astype(np.float64)))
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, features.transpose(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(ours.mean(axis=(1, 2)), embedding, atol=1e-4)


def test_onnx_files_of_other_networks_are_refused(shared_data, tmp_path):
    network = build_transfer("mobilenetv2", 4)
    with pytest.raises(ConfigurationError, match="width"):
        read_mobilenet_v2(network, shared_data("weights/mobilenet_v2_0.35_224_notop.onnx"))
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"\x00nothing")
    for path in (damaged, Path("missing.onnx")):
        with pytest.raises(ConfigurationError, match=path.name):
            read_mobilenet_v2(network, path)
