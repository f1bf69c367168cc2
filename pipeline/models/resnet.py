"""ResNet18 and ResNet34, which keras.applications does not have.

He et al. 2016, "Deep residual learning for image recognition" (arXiv:1512.03385), table 1: stages
of basic blocks, each two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the
shape changes (their option B). Batch normalisation follows every convolution; none has a bias.
"""

from __future__ import annotations

from typing import Any

import keras

#: Blocks of each stage, by the number of layers.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}

#: Channels of each stage; all but the first begin by halving the resolution.
CHANNELS = (64, 128, 256, 512)


def resnet_features(depth: int, image: Any) -> Any:
    """Last feature map ``(batch, rows / 32, columns / 32, 512)`` with fresh weights.

    ``depth``: 18 or 34. ``image``: symbolic ``(batch, rows, columns, 3)``. Without its top the
    network has 11,176,512 (18) or 21,284,672 (34) trainable parameters. The convolutions are
    called ``stage<s>_block<b>_conv1``, ``..._conv2`` and ``..._shortcut``.

    Raises KeyError for another depth.
    """
    hidden = _convolution(image, CHANNELS[0], 7, 2, "stem")
    hidden = keras.layers.ReLU(name="stem_relu")(hidden)
    hidden = keras.layers.ZeroPadding2D(1, name="stem_pool_padding")(hidden)
    hidden = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(hidden)
    for stage, (channels, blocks) in enumerate(zip(CHANNELS, BLOCKS[depth], strict=True), start=1):
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            hidden = _basic_block(hidden, channels, strides, f"stage{stage}_block{block}")
    return hidden


def _basic_block(hidden: Any, channels: int, strides: int, name: str) -> Any:
    inner = _convolution(hidden, channels, 3, strides, f"{name}_conv1")
    inner = keras.layers.ReLU(name=f"{name}_relu1")(inner)
    inner = _convolution(inner, channels, 3, 1, f"{name}_conv2")
    if strides > 1:
        hidden = _convolution(hidden, channels, 1, strides, f"{name}_shortcut")
    joined = keras.layers.Add(name=f"{name}_add")([inner, hidden])
    return keras.layers.ReLU(name=f"{name}_relu2")(joined)


def _convolution(hidden: Any, channels: int, size: int, strides: int, name: str) -> Any:
    """A convolution padded by half its size on every side, and its normalisation."""
    if size > 1:
        # "same" pads one side more than the other where the stride is 2.
        hidden = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_padding")(hidden)
    hidden = keras.layers.Conv2D(
        channels,
        size,
        strides,
        use_bias=False,
        # He et al. 2015 (arXiv:1502.01852), by the number of outputs.
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=name,
    )(hidden)
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_normalised")(
        hidden
    )
