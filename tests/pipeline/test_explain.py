"""LIME and Grad-CAM against independent computations on a small network."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.explain import explain
from pipeline.explain.grad_cam import grad_cam
from pipeline.explain.lime import BatchedExplainer, explain_with_lime, share_inside
from pipeline.preprocess import Preprocessing
from pipeline.types import ClassScores, FieldGeometry, FieldTile, Rectangle

SIZE = 48


@pytest.fixture(scope="module")
def network():
    """A small random network of ALL-Net's kind."""
    import keras

    from pipeline.classify import Network

    keras.utils.set_random_seed(4)
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    features = layers.Conv2D(6, 3, activation="relu")(image)
    features = layers.MaxPooling2D(name="features")(features)
    hidden = layers.Dense(8, activation="relu", name="embedding")(
        layers.GlobalAveragePooling2D()(features)
    )
    scores = layers.Dense(4, activation="softmax", kernel_initializer="he_normal")(hidden)
    return Network(
        keras.Model(image, scores),
        preprocessing=Preprocessing(input_size=SIZE, tile_size=SIZE),
        embedding_layer="embedding",
        feature_map_layer="features",
    )


@pytest.fixture(scope="module")
def tile() -> FieldTile:
    """A pale field with two dark discs; the left one is a white cell."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pixels = np.full((SIZE, SIZE, 3), 230, np.uint8)
    cell = (rows - 20) ** 2 + (columns - 14) ** 2 < 64
    pixels[cell] = (90, 40, 150)
    pixels[(rows - 30) ** 2 + (columns - 36) ** 2 < 36] = (200, 140, 150)
    noise = np.random.default_rng(1).integers(-8, 8, pixels.shape)
    pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return FieldTile(pixels, Rectangle(0, 0, SIZE, SIZE), cell, 1)


def test_sampling_gives_what_the_reference_package_gives(network, tile):
    from lime.lime_image import LimeImageExplainer

    image = tile.pixels.astype(np.float32) / np.float32(255)
    ours = BatchedExplainer(random_state=np.random.RandomState(11))
    theirs = LimeImageExplainer(random_state=np.random.RandomState(11))
    options = {"labels": (2,), "top_labels": None, "num_samples": 120, "random_seed": 11}
    found = ours.explain_instance(image, network.probabilities, batch_size=50, **options)
    expected = theirs.explain_instance(
        image, lambda batch: network.probabilities(np.stack(batch)), batch_size=50, **options
    )
    np.testing.assert_array_equal(found.segments, expected.segments)
    assert dict(found.local_exp[2]) == pytest.approx(dict(expected.local_exp[2]), abs=1e-6)
    assert found.intercept[2] == pytest.approx(expected.intercept[2], abs=1e-6)


def test_lime_is_the_same_for_the_same_seed_and_lists_what_speaks_for_the_label(network, tile):
    first, superpixels = explain_with_lime(tile, "pre_b", network, samples=100, seed=5)
    again, _ = explain_with_lime(tile, "pre_b", network, samples=100, seed=5)
    assert first == again
    assert len(first.weights) == superpixels.max() + 1
    weights = [region.weight for region in first.top_regions]
    assert weights == sorted(weights, reverse=True)
    assert all(weight > 0 for weight in weights)
    assert len(weights) <= 5
    for region in first.top_regions:
        inside = superpixels == region.number
        assert region.area == pytest.approx(inside.mean())
        assert (
            inside[
                region.box.y : region.box.y + region.box.height,
                region.box.x : region.box.x + region.box.width,
            ].sum()
            == inside.sum()
        )


def test_grad_cam_follows_from_finite_differences_of_the_logit(network, tile):
    import keras

    cam, _ = grad_cam(tile, "pro_b", network)
    model = network.model
    features = keras.Model(model.inputs, model.get_layer("features").output)
    maps = features.predict(tile.pixels[None] / np.float32(255), verbose=0)[0].astype(np.float64)
    kernels = [
        layer.get_weights() for layer in model.layers if isinstance(layer, keras.layers.Dense)
    ]
    (hidden_kernel, hidden_bias), (kernel, bias) = kernels

    def logit(values: np.ndarray) -> float:
        pooled = values.mean(axis=(0, 1))
        hidden = np.maximum(pooled @ hidden_kernel + hidden_bias, 0)
        return float(hidden @ kernel[:, 3] + bias[3])

    step = 1e-3
    importance = np.zeros(maps.shape[-1])
    for channel in range(maps.shape[-1]):
        up, down = maps.copy(), maps.copy()
        # Raising a whole channel sums the derivatives over its cells: cells x their mean.
        up[..., channel] += step
        down[..., channel] -= step
        importance[channel] = (logit(up) - logit(down)) / (2 * step) / maps[..., 0].size
    expected = np.maximum((maps * importance).sum(axis=-1), 0)
    assert expected.max() > 0
    np.testing.assert_allclose(cam, expected / expected.max(), atol=1e-4)


def test_an_explanation_carries_numbers_and_readable_pictures(network, tile):
    geometry = FieldGeometry("as_is", None, True, (tile,))
    probabilities = network.probabilities(tile.pixels[None] / np.float32(255)).astype(np.float64)
    scores = ClassScores("pre_b", probabilities[0], np.zeros(8, np.float32), probabilities, 0)
    explanations, pictures = explain(scores, geometry, network, samples=60, seed=1)
    assert explanations.lime.label == explanations.grad_cam.label == "pre_b"
    assert explanations.pictures == sorted(pictures) == ["grad_cam", "lime"]
    sizes = {}
    for name, content in pictures.items():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            sizes[name] = picture.size
    assert sizes == {"grad_cam": (448, 448), "lime": (2 * 448 + 12, 448)}


def test_share_inside_is_null_where_it_means_nothing():
    relevance = np.array([[3.0, 1.0]])
    assert share_inside(relevance, np.array([[True, False]])) == 0.75
    assert share_inside(relevance, np.array([[False, False]])) is None
    assert share_inside(np.zeros((1, 2)), np.array([[True, False]])) is None
