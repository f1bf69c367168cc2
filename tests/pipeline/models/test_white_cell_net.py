"""What the white-cell network can see, and what it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

SIDE = 224


@pytest.fixture(scope="module")
def network() -> Any:
    import keras

    from pipeline.models.white_cell_net import build_white_cell_net

    keras.utils.set_random_seed(3)
    built = build_white_cell_net()
    # Fresh batch normalisation is nearly the identity; a trained one is not.
    rng = np.random.default_rng(3)
    for layer in built.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            mean = rng.normal(0, 0.1, mean.shape)
            layer.set_weights([gamma, beta, mean, variance * rng.uniform(0.5, 2, variance.shape)])
    return built


def field(*cells: tuple[int, int]) -> np.ndarray:
    """Discs of the same noise on zeros, float32 ``(1, 224, 224, 3)``."""
    image = np.zeros((SIDE, SIDE, 3), np.float32)
    texture = np.random.default_rng(4).uniform(0.2, 0.9, (24, 24, 3)).astype(np.float32)
    rows, columns = np.mgrid[:24, :24]
    disc = np.hypot(rows - 11.5, columns - 11.5) < 12
    for y, x in cells:
        image[y : y + 24, x : x + 24][disc] = texture[disc]
    return image[None]


def probabilities(network: Any, image: np.ndarray) -> np.ndarray:
    return np.asarray(network(image, training=False))[0]


def test_it_has_as_many_parameters_as_the_recipe_says(network):
    from pipeline.training.recipes import RECIPES

    recipe = RECIPES["white-cells"]
    trainable = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    assert network.count_params() == recipe.parameters
    assert trainable == recipe.trainable_parameters
    assert (recipe.embedding_layer, recipe.feature_map_layer) == ("embedding", "weighted")


def test_where_a_cell_lies_does_not_matter(network):
    one, other = field((32, 40)), field((128, 96))
    np.testing.assert_allclose(
        probabilities(network, one), probabilities(network, other), atol=1e-5
    )


def test_a_cell_twice_says_what_it_says_once(network):
    once, twice = field((32, 40)), field((32, 40), (136, 144))
    np.testing.assert_allclose(
        probabilities(network, once), probabilities(network, twice), atol=1e-5
    )


def test_a_cell_counts_by_its_area_not_by_the_size_of_the_field(network):
    small = field((32, 40))[:, :144, :144]
    np.testing.assert_allclose(
        probabilities(network, small), probabilities(network, field((32, 40))), atol=1e-5
    )


def test_different_cells_are_judged_differently(network):
    image = field((32, 40))
    darker = image * np.float32(0.5)
    assert np.abs(probabilities(network, image) - probabilities(network, darker)).max() > 1e-3


def test_a_field_without_cells_is_judged_without_trouble(network):
    found = probabilities(network, np.zeros((1, SIDE, SIDE, 3), np.float32))
    assert np.isfinite(found).all() and found.sum() == pytest.approx(1, abs=1e-5)


def test_the_map_that_explanations_look_at_is_zero_beside_the_cells(network):
    import keras

    weighted = keras.Model(network.input, network.get_layer("weighted").output)
    found = np.asarray(weighted(field((32, 40)), training=False))[0].any(axis=2)
    rows, columns = np.nonzero(found)
    assert found.any()
    assert rows.min() >= 4 and rows.max() <= 6 and columns.min() >= 5 and columns.max() <= 7


def test_a_place_sees_65_pixels_and_no_more(network):
    import keras

    features = keras.Model(network.input, network.get_layer("features").output)
    image = np.random.default_rng(5).uniform(0.1, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
    changed = image.copy()
    changed[0, 112, 112] = 0.01
    before, after = (np.asarray(features(x, training=False))[0] for x in (image, changed))
    rows, columns = np.nonzero(np.abs(before - after).max(axis=2) > 1e-7)
    for positions in (rows, columns):
        # Place i looks at pixels 8 i + 4 +- 32, more or less one stride.
        assert (np.abs(8 * positions + 4 - 112) <= 40).all()
        assert len(set(positions)) <= 9
