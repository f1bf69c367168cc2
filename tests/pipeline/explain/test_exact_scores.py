"""Scores of perturbed images from shared patches against plain evaluation of every image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.explain.exact import (
    LocalNetwork,
    MaskedSamples,
    SuperpixelSamples,
    UnsupportedNetworkError,
    evaluate,
    scores_of,
)

SHAPE = (19, 22)


class Draw:
    """Random layers on top of a map, all from one seed."""

    def __init__(self, seed: int) -> None:
        import keras

        keras.utils.set_random_seed(seed)
        self.layers = keras.layers
        self.rng = np.random.default_rng(seed)

    def choose(self, *of: Any) -> Any:
        return of[self.rng.integers(len(of))]

    def layer(self, hidden: Any) -> Any:
        kind = self.choose(
            *("conv", "depthwise", "max", "mean", "norm", "pad", "crop", "pointwise", "sum"),
            *("gate", "pooled"),
        )
        return getattr(self, kind)(hidden)

    def window(self) -> dict[str, Any]:
        return {"strides": self.choose(1, 2), "padding": self.choose("same", "valid")}

    def conv(self, hidden: Any) -> Any:
        options = self.window()
        if options["strides"] == 1:
            options["dilation_rate"] = self.choose(1, 2)
        activation = self.choose(None, "relu", "tanh")
        bias = self.choose(True, False)
        return self.layers.Conv2D(
            self.choose(3, 5),
            self.choose(1, 2, 3),
            activation=activation,
            use_bias=bias,
            bias_initializer="random_normal",
            **options,
        )(hidden)

    def depthwise(self, hidden: Any) -> Any:
        return self.layers.DepthwiseConv2D(
            3, depth_multiplier=self.choose(1, 2), bias_initializer="random_normal", **self.window()
        )(hidden)

    def max(self, hidden: Any) -> Any:
        return self.layers.MaxPooling2D(self.choose(2, 3), **self.window())(hidden)

    def pooled(self, hidden: Any) -> Any:
        """What is done in one step, with few channels and with many."""
        convolution = self.layers.Conv2D(
            self.choose(2, 20),
            3,
            padding=self.choose("same", "valid"),
            activation=self.choose("relu", None),
            bias_initializer="random_normal",
        )
        inner = convolution(hidden if self.choose(True, False) else self.wide(hidden))
        found = self.layers.MaxPooling2D(2, padding=self.choose("same", "valid"))(
            self.layers.Dropout(0.5)(inner)
        )
        if self.choose(True, False):
            return found
        # Where what is pooled is looked at elsewhere too, they are two steps.
        others = self.layers.AveragePooling2D(2, padding="same")(inner)
        return self.layers.Add()([self.layers.MaxPooling2D(2, padding="same")(inner), others])

    def wide(self, hidden: Any) -> Any:
        return self.layers.Conv2D(18, 1)(hidden)

    def mean(self, hidden: Any) -> Any:
        return self.layers.AveragePooling2D(self.choose(2, 3), **self.window())(hidden)

    def norm(self, hidden: Any) -> Any:
        layer = self.layers.BatchNormalization(scale=self.choose(True, False))
        found = layer(hidden)
        weights = [self.rng.uniform(0.3, 2, w.shape).astype("f4") for w in layer.get_weights()]
        layer.set_weights(weights)
        return self.layers.ReLU()(found) if self.choose(True, False) else found

    def pad(self, hidden: Any) -> Any:
        return self.layers.ZeroPadding2D(((1, 0), (2, 1)))(hidden)

    def crop(self, hidden: Any) -> Any:
        return self.layers.Cropping2D(((1, 0), (0, 1)))(hidden)

    def pointwise(self, hidden: Any) -> Any:
        return self.choose(
            self.layers.ReLU(max_value=1.0),
            self.layers.Rescaling(2.0, offset=-0.5),
            self.layers.Activation("sigmoid"),
            self.layers.Dropout(0.5),
        )(hidden)

    def sum(self, hidden: Any) -> Any:
        inner = self.layers.Conv2D(hidden.shape[-1], 3, padding="same", activation="relu")(hidden)
        joined = self.layers.Add()([hidden, inner])
        return self.layers.Concatenate()([joined, hidden]) if self.choose(True, False) else joined

    def gate(self, hidden: Any) -> Any:
        gate = self.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(hidden)
        return self.layers.Multiply()([hidden, gate])


def random_network(seed: int, depth: int) -> Any:
    import keras

    draw = Draw(seed)
    image = keras.Input((None, None, 3))
    hidden = image
    shown = keras.ops.cast(keras.ops.max(image, axis=-1, keepdims=True) > 0, "float32")
    if draw.choose(True, False):
        hidden = keras.layers.Multiply()([draw.layers.Rescaling(2.0, offset=-1.0)(image), shown])
    for _ in range(depth):
        hidden = draw.layer(hidden)
    pooled = draw.choose(
        keras.layers.GlobalAveragePooling2D(), lambda x: keras.ops.sum(x, axis=(1, 2)) / 40
    )(hidden)
    if draw.choose(True, False):
        total = keras.ops.sum(shown, axis=(1, 2)) / 100
        pooled = keras.layers.Concatenate()([pooled, total])
    hidden = keras.layers.Dense(6, activation="relu")(pooled)
    return keras.Model(image, keras.layers.Dense(4, activation="softmax")(hidden))


def image_of(rng: np.random.Generator) -> np.ndarray:
    """Noise with blank patches, as where no white cell is."""
    image = rng.uniform(0.05, 1, (*SHAPE, 3)).astype(np.float32)
    image[rng.uniform(size=SHAPE) < 0.3] = 0
    image[4:12, 3:15] = 0
    return image


def superpixel_samples(rng: np.random.Generator, regions: int, count: int) -> SuperpixelSamples:
    corners = rng.uniform(0, 1, (regions, 2)) * SHAPE
    grid = np.stack(np.mgrid[: SHAPE[0], : SHAPE[1]], axis=-1)
    superpixels = ((grid[:, :, None] - corners) ** 2).sum(-1).argmin(-1)
    image = image_of(rng)
    hidden = np.zeros_like(image)
    for region in np.unique(superpixels):
        hidden[superpixels == region] = image[superpixels == region].mean(0)
    if rng.uniform() < 0.5:
        hidden = np.where(image.any(axis=2, keepdims=True), hidden, 0).astype(np.float32)
    return SuperpixelSamples(image, hidden, superpixels, rng.uniform(size=(count, regions)) < 0.5)


def plainly(model: Any, samples: Any) -> np.ndarray:
    pixels = np.arange(SHAPE[0] * SHAPE[1])
    images = [
        samples.values(pixels, np.full(len(pixels), n)).reshape(*SHAPE, 3)
        for n in range(samples.count)
    ]
    return np.asarray(model(np.stack(images)))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 12), st.integers(1, 70))
def test_superpixels_switched_on_and_off(seed: int, depth: int, regions: int, count: int) -> None:
    model = random_network(seed, depth)
    network = read(model)
    samples = superpixel_samples(np.random.default_rng(seed), regions, count)
    np.testing.assert_allclose(
        scores_of(network, samples), plainly(model, samples), rtol=0, atol=1e-5
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 70))
def test_masks(seed: int, depth: int, count: int) -> None:
    model = random_network(seed, depth)
    network = read(model)
    rng = np.random.default_rng(seed)
    masks = np.maximum(rng.normal(-0.5, 1, (count, *SHAPE)), 0).astype(np.float32)
    masks[:, : rng.integers(SHAPE[0]), : rng.integers(SHAPE[1])] = 0
    samples = MaskedSamples(image_of(rng), masks)
    np.testing.assert_allclose(
        scores_of(network, samples), plainly(model, samples), rtol=0, atol=1e-5
    )


@pytest.fixture(scope="module")
def many() -> tuple[Any, LocalNetwork, SuperpixelSamples]:
    """More superpixels in a patch than a code holds, and more than a word has bits."""
    model = random_network(11, 4)
    rng = np.random.default_rng(3)
    return model, LocalNetwork.of(model, SHAPE), superpixel_samples(rng, 150, 90)


def test_many_superpixels(many: tuple[Any, LocalNetwork, SuperpixelSamples]) -> None:
    model, network, samples = many
    np.testing.assert_allclose(
        scores_of(network, samples), plainly(model, samples), rtol=0, atol=1e-5
    )


def test_threads_do_not_change_a_bit(
    many: tuple[Any, LocalNetwork, SuperpixelSamples], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, network, samples = many
    monkeypatch.setattr(evaluate, "HELD_BYTES", 5000)
    one, four = (scores_of(network, samples, threads) for threads in (1, 4))
    assert one.tobytes() == four.tobytes()


def test_little_memory_gives_the_same_scores_in_parts(
    many: tuple[Any, LocalNetwork, SuperpixelSamples], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, network, samples = many
    whole = scores_of(network, samples)
    parts = []
    counted = evaluate._Evaluation.pooled
    monkeypatch.setattr(evaluate, "TABLE_BYTES", 60_000)
    monkeypatch.setattr(
        evaluate._Evaluation, "pooled", lambda self: parts.append(self.table_bytes) or counted(self)
    )
    np.testing.assert_allclose(scores_of(network, samples), whole, rtol=0, atol=1e-6)
    assert len(parts) > 2
    assert max(parts) <= 60_000


@pytest.mark.parametrize("seed", range(6))
def test_the_field_of_view_is_what_a_place_sees(seed: int) -> None:
    import keras

    draw = Draw(seed)
    image = keras.Input((None, None, 3))
    hidden = image
    for _ in range(4):
        hidden = draw.layer(hidden)
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(hidden)))
    size = 96
    seen = LocalNetwork.of(model, (size, size)).field_of_view
    values = np.random.default_rng(seed).uniform(0.2, 0.8, (1, size, size, 3)).astype(np.float32)
    features = keras.Model(image, hidden)
    before = np.asarray(features(values))
    middle = before.shape[1] // 2
    differs = np.zeros((size, size), bool)
    for row in range(size):
        for axis in (0, 1):
            changed = values.copy()
            changed[(0, row) if axis == 0 else (0, slice(None), row)] += 0.2
            after = np.asarray(features(changed))
            if (after[0, middle, middle] != before[0, middle, middle]).any():
                differs[(row, slice(None)) if axis == 0 else (slice(None), row)] = True
    rows, columns = differs.all(axis=1).sum(), differs.all(axis=0).sum()
    assert rows <= seen[0] and columns <= seen[1]


def test_convolutions_pool_their_own_results() -> None:
    from pipeline.models.all_net import build_all_net

    network = LocalNetwork.of(build_all_net(), (224, 224))
    assert [(step.name, step.shape) for step in network.steps] == [
        ("conv1", (111, 111)),
        ("conv2", (54, 54)),
        ("conv3", (26, 26)),
    ]
    assert network.field_of_view == (22, 22)


def test_a_layer_that_does_nothing_hides_no_other_use() -> None:
    import keras

    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    inner = keras.layers.Conv2D(4, 3, padding="same")(image)
    rectified = keras.layers.ReLU()(keras.layers.Dropout(0.5)(inner))
    joined = keras.layers.Add()([inner, rectified])
    pooled = keras.layers.GlobalAveragePooling2D()(joined)
    model = keras.Model(image, keras.layers.Dense(2)(pooled))
    samples = superpixel_samples(np.random.default_rng(2), 5, 20)
    np.testing.assert_allclose(
        scores_of(LocalNetwork.of(model, SHAPE), samples), plainly(model, samples), atol=1e-5
    )


class TestRefusals:
    def refused(self, build: Any, match: str) -> None:
        import keras

        image = keras.Input((16, 16, 3))
        model = keras.Model(image, build(keras.layers, image))
        with pytest.raises(UnsupportedNetworkError, match=match):
            LocalNetwork.of(model, (16, 16))

    def test_no_global_pooling(self) -> None:
        self.refused(lambda layers, x: layers.Dense(2)(layers.Flatten()(x)), "flatten")

    def test_whole_image_attention(self) -> None:
        def build(layers: Any, image: Any) -> Any:
            squeezed = layers.GlobalAveragePooling2D(keepdims=True)(image)
            return layers.GlobalAveragePooling2D()(layers.Multiply()([image, squeezed]))

        self.refused(build, "global_average_pooling2d")

    def test_layers_that_may_mix_places(self) -> None:
        def build(layers: Any, image: Any) -> Any:
            return layers.GlobalAveragePooling2D()(layers.LayerNormalization(axis=(1, 2))(image))

        self.refused(build, "layer_normalization.*one place alone")

    def test_a_map_joined_with_what_was_pooled(self) -> None:
        def build(layers: Any, image: Any) -> Any:
            pooled = layers.Reshape((1, 1, 3))(layers.GlobalAveragePooling2D()(image))
            return layers.GlobalAveragePooling2D()(layers.Multiply()([image, pooled]))

        self.refused(build, "joins a map with what was pooled")


def read(model: Any) -> LocalNetwork:
    """The network's local layers; layers drawn at random may leave nothing of the image."""
    from hypothesis import assume

    network = LocalNetwork.of(model, SHAPE)
    assume(all(min(step.shape) > 0 for step in network.steps))
    return network
