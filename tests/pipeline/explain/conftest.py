"""A small network, and a field for it to be shown."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.explain.lime import (
    ShownImage,
)
from pipeline.preprocess import Preprocessing
from pipeline.types import FieldTile, Rectangle
from tests.pipeline.explain.small import SIZE


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
    return FieldTile(pixels, Rectangle(0, 0, SIZE, SIZE), cell, cell, 1)


@pytest.fixture(scope="module")
def shown(network, tile) -> ShownImage:
    image = network.input_of(tile)[0]
    return ShownImage.of(image, network.preprocessing)
