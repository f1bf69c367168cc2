"""Deep networks whose first layers are shared, against plain evaluation of every image."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from pipeline.explain.exact import (
    LocalNetwork,
    UnsupportedNetworkError,
    evaluate,
    scores_by_maps,
)
from pipeline.explain.exact.folded import folded
from tests.pipeline.explain.test_exact_scores import SHAPE, plainly, superpixel_samples

layers = keras.layers


def normalised(hidden: Any, seed: int) -> Any:
    layer = layers.BatchNormalization(scale=seed % 2 == 0)
    found = layer(hidden)
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.uniform(0.3, 2, w.shape).astype("f4") for w in layer.get_weights()])
    return found


def deep_network() -> Any:
    """Inverted residuals as in MobileNetV2, and a flattened map at the end."""
    keras.utils.set_random_seed(5)
    image = keras.Input((*SHAPE, 3))
    hidden = layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False)(image)
    hidden = layers.ReLU(6.0)(normalised(hidden, 1))
    for number in range(3):
        inner = layers.Conv2D(12, 1, use_bias=False)(hidden)
        inner = layers.ReLU(6.0)(normalised(inner, 2 + number))
        inner = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(inner)
        inner = layers.Dropout(0.5)(layers.ReLU()(normalised(inner, 5 + number)))
        inner = normalised(layers.Conv2D(6, 1)(inner), 8 + number)
        hidden = layers.Add(name=f"block{number}")([hidden, inner])
    hidden = layers.Flatten()(hidden)
    return keras.Model(image, layers.Dense(4, activation="softmax")(hidden))


@pytest.fixture(scope="module")
def model() -> Any:
    return deep_network()


@pytest.mark.parametrize(
    ("largest", "field", "last"), [(6, 3, "re_lu"), (9, 7, "block0"), (15, 15, "block2")]
)
def test_scores_are_those_of_plain_evaluation(
    model: Any, largest: int, field: int, last: str
) -> None:
    first = LocalNetwork.before(model, SHAPE, largest)
    assert first.field_of_view == (field, field)
    assert first.steps[-1].name.startswith(last)
    samples = superpixel_samples(np.random.default_rng(field), 6, 33)
    expected = plainly(model, samples)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(scores_by_maps(first, samples, 10), expected, rtol=0, atol=1e-5)


def test_little_memory_gives_the_same_scores_in_parts(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = LocalNetwork.before(model, SHAPE, 9)
    samples = superpixel_samples(np.random.default_rng(1), 6, 33)
    whole = scores_by_maps(first, samples, 10)
    monkeypatch.setattr(evaluate, "TABLE_BYTES", 20_000)
    np.testing.assert_allclose(scores_by_maps(first, samples, 10), whole, rtol=0, atol=1e-6)


def test_maps_that_differ_too_much_are_left_to_others(model: Any) -> None:
    first = LocalNetwork.before(model, SHAPE, 3)
    samples = superpixel_samples(np.random.default_rng(1), 2, 40)
    # Two superpixels: a place sees one of them, two ways, or both, four ways, or blank ground.
    assert scores_by_maps(first, samples, 10, most_distinct=1 / 40) is None
    assert scores_by_maps(first, samples, 10, most_distinct=4 / 40) is not None


def test_nothing_is_cut_where_two_maps_are_needed() -> None:
    image = keras.Input((*SHAPE, 3))
    first = layers.Conv2D(4, 3, padding="same")(image)
    joined = layers.Concatenate()([layers.Conv2D(4, 9, padding="same")(first), image])
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(joined)))
    with pytest.raises(UnsupportedNetworkError, match="does not begin with local layers"):
        LocalNetwork.before(model, SHAPE, 5)


def test_a_folded_network_says_the_same(model: Any) -> None:
    images = np.random.default_rng(0).uniform(size=(5, *SHAPE, 3)).astype(np.float32)
    copy = folded(model)
    assert not [one for one in copy.layers if isinstance(one, layers.BatchNormalization)]
    np.testing.assert_allclose(np.asarray(copy(images)), np.asarray(model(images)), atol=1e-5)


def test_normalisation_stays_where_it_is_not_of_one_convolution_alone() -> None:
    keras.utils.set_random_seed(2)
    image = keras.Input((8, 8, 3))
    twice = layers.Conv2D(4, 3, name="twice")(image)
    active = layers.Conv2D(4, 3, activation="relu")(image)
    shared = layers.Conv2D(3, 1)
    again = shared(shared(image))
    parts = [normalised(one, n) for n, one in enumerate((twice, active, again, image))]
    hidden = layers.Concatenate()([layers.Flatten()(one) for one in (*parts, twice)])
    model = keras.Model(image, layers.Dense(2)(hidden))
    images = np.random.default_rng(0).uniform(size=(5, 8, 8, 3)).astype(np.float32)
    copy = folded(model)
    assert sum(isinstance(one, layers.BatchNormalization) for one in copy.layers) == 4
    np.testing.assert_allclose(np.asarray(copy(images)), np.asarray(model(images)), atol=1e-5)
