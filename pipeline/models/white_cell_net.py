"""The project's own network: it is shown white cells alone, and judges by their mean.

What it cannot see it cannot use: background, red cells and scale bars are not in its input (the
``white_cells`` view), and neither is the stain's colour, which the view takes out. What it sees of
each place is a patch of 65x65 pixels of the 224x224 input, about two cells wide; the decision is a
function of the mean over all places where there are white cells, each weighed by how much it says
(gated attention, as in Ilse, Tomczak, Welling 2018, arXiv:1802.04712). A small residual network
(He et al. 2016, arXiv:1512.03385) with batch normalisation (Ioffe, Szegedy 2015).
"""

from __future__ import annotations

from typing import Any

import keras

#: Channels at a half, a quarter and an eighth of the input's resolution.
CHANNELS = (32, 64, 128)
STRIDE = 8
EMBEDDING_UNITS = 64
DROPOUT_RATE = 0.2

#: Last feature map (28x28x128 for a 224x224 input), and the same as it enters the decision: zero
#: where there is no white cell. Class activation maps look at the latter.
FEATURES_LAYER = "features"
FEATURE_MAP_LAYER = "weighted"
EMBEDDING_LAYER = "embedding"
#: How much each place says, 0..1 (28x28x1).
ATTENTION_LAYER = "attention"


def build_white_cell_net(classes: int = 4) -> keras.Model:
    """Build the network with fresh weights.

    Input: float32 ``(batch, height, width, 3)`` in 0..1, sides divisible by 8; what is zero in
    every channel is no white cell. Output: float32 ``(batch, classes)``, softmax probabilities.
    """
    image = keras.Input((None, None, 3), name="image")
    cells = keras.ops.cast(keras.ops.max(image, axis=-1, keepdims=True) > 0, "float32")
    # Centred on the mean of the view, so that the blank ground is neither dark nor bright.
    hidden: Any = keras.layers.Multiply(name="centred")(
        [keras.layers.Rescaling(2.0, offset=-1.0)(image), cells]
    )
    hidden = _convolution(hidden, CHANNELS[0], 5, strides=2)
    for channels in CHANNELS[1:]:
        hidden = _convolution(hidden, channels, 3, strides=2)
        hidden = _residual_block(hidden, channels)
    features = keras.layers.Conv2D(CHANNELS[-1], 1, activation="relu", name=FEATURES_LAYER)(hidden)
    # A place counts as much as it holds white cell and as its attention says.
    share = keras.layers.AveragePooling2D(STRIDE, dtype="float32", name="share")(cells)
    attention = keras.layers.Conv2D(
        1, 1, activation="sigmoid", dtype="float32", name=ATTENTION_LAYER
    )(features)
    weights = keras.layers.Multiply(dtype="float32", name="weights")([share, attention])
    weighted = keras.layers.Multiply(dtype="float32", name=FEATURE_MAP_LAYER)([features, weights])
    # Zero where no place has weight.
    total = keras.ops.maximum(keras.ops.sum(weights, axis=(1, 2)), 1e-3)
    mean = keras.ops.sum(weighted, axis=(1, 2)) / total
    hidden = keras.layers.Dropout(DROPOUT_RATE, dtype="float32")(mean)
    embedding = keras.layers.Dense(
        EMBEDDING_UNITS, activation="relu", dtype="float32", name=EMBEDDING_LAYER
    )(hidden)
    probabilities = keras.layers.Dense(
        classes, activation="softmax", dtype="float32", name="probabilities"
    )(embedding)
    return keras.Model(image, probabilities, name="white-cell-net")


def _convolution(
    hidden: Any, channels: int, size: int, strides: int = 1, *, relu: bool = True
) -> Any:
    hidden = keras.layers.Conv2D(
        channels,
        size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(hidden)
    hidden = keras.layers.BatchNormalization(momentum=0.97)(hidden)
    return keras.layers.ReLU()(hidden) if relu else hidden


def _residual_block(hidden: Any, channels: int) -> Any:
    inner = _convolution(hidden, channels, 3)
    inner = _convolution(inner, channels, 3, relu=False)
    return keras.layers.ReLU()(keras.layers.Add()([hidden, inner]))
