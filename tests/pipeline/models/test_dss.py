"""The networks of Genovese et al. 2024: published sizes, standardised input."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.classify import Network
from pipeline.errors import ConfigurationError
from pipeline.models.dss import BACKBONES, backbone_of, build_dss, read_weights, standardise
from pipeline.training.orthogonality import penalise
from pipeline.training.recipes import RECIPES
from tests.pipeline.models.test_networks import tile

#: Trainable parameters without the top, as torchvision counts them.
PUBLISHED = {
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_534_592,
    "vit-b16": 85_798_656,
}

#: Places a dss-network is penalised in.
PENALISED = {"resnet18": 3 + 8, "resnet34": 3 + 16, "resnet50": 4 + 16, "vit-b16": 24}


#: Building these takes ten seconds each.
LARGE = {"resnet34", "resnet50", "vit-b16"}


def shown(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).random((count, 224, 224, 3), np.float32)


@pytest.mark.parametrize(
    "backbone",
    [pytest.param(one, marks=pytest.mark.slow if one in LARGE else []) for one in BACKBONES],
)
def test_the_backbones_have_the_published_sizes(backbone):
    network = build_dss(backbone, 2)
    part = backbone_of(network)
    assert sum(int(np.prod(w.shape)) for w in part.trainable_weights) == PUBLISHED[backbone]
    assert network.output_shape == (None, 2)
    assert network.get_layer("features").output.shape[1:3] == (
        (14, 14) if backbone == "vit-b16" else (7, 7)
    )
    assert not network.losses
    penalise(network, 0.1)
    assert len(network.losses) == PENALISED[backbone]


def test_images_are_standardised_by_what_was_given(tmp_path):
    network = build_dss("resnet18", 2)
    images = shown(3) * np.float32([0.5, 1.0, 0.2]) + np.float32([0.1, 0.0, 0.3])
    standardise(network, iter(images))
    scaled = np.asarray(network.get_layer("zscores")(images))
    np.testing.assert_allclose(scaled.mean(axis=(0, 1, 2)), 0.0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=(0, 1, 2)), 1.0, atol=1e-4)
    copy = build_dss("resnet18", 2)
    copy.set_weights(network.get_weights())
    np.testing.assert_array_equal(np.asarray(copy(images)), np.asarray(network(images)))


def test_a_channel_that_never_changes_becomes_zero():
    network = build_dss("resnet18", 2)
    standardise(network, [np.full((4, 4, 3), 0.25, np.float32)])
    scaled = network.get_layer("zscores")(np.full((1, 4, 4, 3), 0.25, np.float32))
    np.testing.assert_array_equal(np.asarray(scaled), 0.0)
    with pytest.raises(ConfigurationError, match="no images"):
        standardise(network, [])


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "vit-b16"])
def test_a_saved_network_judges_and_is_explained_as_before(backbone, tmp_path):
    recipe = RECIPES[f"dss-{backbone}"]
    model = recipe.build(4)
    standardise(model, shown())
    penalise(model, 0.1)
    model.save(tmp_path / "network.keras")
    layers = {
        "preprocessing": recipe.preprocessing,
        "embedding_layer": recipe.embedding_layer,
        "feature_map_layer": recipe.feature_map_layer,
    }
    before = Network(model, **layers)
    after = Network.load(tmp_path / "network.keras", **layers)
    image = before.input_of(tile(224))
    for ours, theirs in zip(
        before.embed_and_score(image), after.embed_and_score(image), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    features, gradients = after.feature_gradients(image, 1)
    assert features.shape == gradients.shape and np.abs(gradients).max() > 0


def test_weights_of_the_same_backbone_are_taken_and_others_refused(tmp_path):
    given, network = build_dss("resnet18", 9), build_dss("resnet18", 2)
    standardise(given, shown())
    backbone_of(given).save(tmp_path / "backbone.keras")
    read_weights(network, tmp_path / "backbone.keras")
    np.testing.assert_allclose(
        np.asarray(backbone_of(network)(shown())),
        np.asarray(backbone_of(given)(shown())),
        atol=1e-5,
    )
    with pytest.raises(ConfigurationError, match=r"backbone\.keras"):
        read_weights(build_dss("resnet34", 2), tmp_path / "backbone.keras")


@pytest.mark.slow
def test_resnet50_takes_what_keras_applications_publishes(tmp_path):
    import keras

    given = keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=(224, 224, 3), pooling="avg"
    )
    given.save(tmp_path / "given_notop.h5")
    network = build_dss("resnet50", 2)
    read_weights(network, tmp_path / "given_notop.h5")
    np.testing.assert_allclose(
        np.asarray(backbone_of(network)(shown())), np.asarray(given(shown())), atol=1e-5
    )
