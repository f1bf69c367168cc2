"""What the layers of a Keras network become as operations on tables of values.

Strides and borders come from the layers themselves. Layers that are not known to look at a place or
a window alone are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.errors import ScreenError
from pipeline.explain.exact.operations import (
    AveragePooling,
    Convolution,
    Depthwise,
    MaxPooling,
    Pair,
    Pointwise,
    Shift,
    Window,
    Windowed,
    same_padding,
)


class UnsupportedNetworkError(ScreenError):
    """A network that is not made of local layers and a global pooling; the message says where."""


def _convolution(layer: Any, shape: Pair) -> Convolution:
    if getattr(layer, "groups", 1) != 1:
        raise UnsupportedNetworkError(f"layer {layer.name} is a grouped convolution")
    kernel = np.asarray(layer.get_weights()[0], np.float32)
    return Convolution(
        _window(layer, layer.kernel_size, layer.strides, layer.dilation_rate, shape),
        kernel.reshape(-1, kernel.shape[-1]),
        _bias(layer, kernel.shape[-1]),
    )


def _depthwise(layer: Any, shape: Pair) -> Depthwise:
    kernel = np.asarray(layer.get_weights()[0], np.float32)
    _, _, channels, multiplier = kernel.shape
    return Depthwise(
        _window(layer, layer.kernel_size, layer.strides, layer.dilation_rate, shape),
        kernel.reshape(-1, channels, multiplier),
        _bias(layer, channels * multiplier),
    )


def _max_pooling(layer: Any, shape: Pair) -> MaxPooling:
    return MaxPooling(_window(layer, layer.pool_size, layer.strides, (1, 1), shape))


def _average_pooling(layer: Any, shape: Pair) -> AveragePooling:
    return AveragePooling(_window(layer, layer.pool_size, layer.strides, (1, 1), shape))


def _padding(layer: Any, shape: Pair) -> Shift:
    return Shift(Window((1, 1), padding=layer.padding))


def _cropping(layer: Any, shape: Pair) -> Shift:
    (top, bottom), (left, right) = layer.cropping
    return Shift(Window((1, 1), padding=((-top, -bottom), (-left, -right))))


#: From a layer, and the shape of the map it looks at, to its operation.
WINDOWED: dict[str, Callable[[Any, Pair], Windowed]] = {
    "Conv2D": _convolution,
    "DepthwiseConv2D": _depthwise,
    "MaxPooling2D": _max_pooling,
    "AveragePooling2D": _average_pooling,
    "ZeroPadding2D": _padding,
    "Cropping2D": _cropping,
}


def _window(layer: Any, size: Pair, stride: Pair, dilation: Pair, shape: Pair) -> Window:
    if layer.data_format != "channels_last":
        raise UnsupportedNetworkError(f"layer {layer.name} has its channels first")
    padding = ((0, 0), (0, 0))
    if layer.padding == "same":
        padding = same_padding(shape, size, stride, dilation)
    return Window(_pair(size), _pair(stride), _pair(dilation), padding)


def _pair(lengths: Sequence[int]) -> Pair:
    rows, columns = lengths
    return rows, columns


def _bias(layer: Any, channels: int) -> np.ndarray:
    if not layer.use_bias:
        return np.zeros(channels, np.float32)
    return np.asarray(layer.get_weights()[-1], np.float32)


def affine_of(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Batch normalisation at inference as factors and terms, float64 ``(channels,)``."""
    weights = iter(np.asarray(w, np.float64) for w in layer.get_weights())
    gamma = next(weights) if layer.scale else 1.0
    beta = next(weights) if layer.center else 0.0
    mean, variance = weights
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return scale, beta - mean * scale


def scaled(
    operation: Convolution | Depthwise, scale: np.ndarray, shift: np.ndarray
) -> Convolution | Depthwise:
    """The operation with batch normalisation behind it."""
    kernel, bias = scaled_weights(operation.kernel, operation.bias, scale, shift)
    return replace(operation, kernel=kernel, bias=bias)


def scaled_weights(
    kernel: np.ndarray, bias: np.ndarray, scale: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution with batch normalisation behind it, float32.

    ``kernel``: its last axes are the ``scale.size`` channels out; of a depthwise one there are two.
    """
    axes = 1 if kernel.shape[-1] == scale.size else 2
    factors = scale.reshape(kernel.shape[-axes:])
    scaled_bias = bias.astype(np.float64) * scale + shift
    return (kernel.astype(np.float64) * factors).astype(np.float32), scaled_bias.astype(np.float32)


#: Layers that change nothing where nothing is trained.
NOTHING = {"Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "Identity"}

#: Functions of one value at a time.
POINTWISE_ACTIVATIONS = {
    "relu6", "leaky_relu", "elu", "selu", "gelu", "sigmoid", "hard_sigmoid", "tanh", "silu",
    "hard_silu", "softplus", "softsign", "exponential", "mish",
}  # fmt: skip

#: Layers and operations whose result at a place follows from their inputs there alone.
_POINTWISE = {
    "ReLU", "LeakyReLU", "ELU", "Rescaling", "Add", "Subtract", "Multiply", "Average", "Maximum",
    "Minimum", "TrueDivide", "Cast", "Greater", "GreaterEqual", "Less", "LessEqual", "Relu",
    "Relu6", "Sigmoid", "Tanh", "Clip", "Abs", "Absolute", "Square", "Sqrt", "Exp", "Log",
    "Negative", "ImageNetInput",
}  # fmt: skip

#: Those that look along one axis, which must be the channels'.
_ALONG_CHANNELS = {"Concatenate", "Max", "Min", "Mean", "Sum"}


def is_plain_relu(layer: Any) -> bool:
    """Whether the layer is the larger of its input and zero, and nothing more."""
    if type(layer).__name__ != "ReLU":
        return False
    return layer.max_value is None and not layer.negative_slope and not layer.threshold


def pooling_divisor(layer: Any, places: int) -> float | None:
    """What the sum over all places is divided by; None if the layer does not pool all of them."""
    kind = type(layer).__name__
    if kind == "GlobalAveragePooling2D" and not layer.keepdims:
        return float(places)
    if kind in ("Sum", "Mean") and layer.axis is not None and not layer.keepdims:
        axes = {layer.axis} if isinstance(layer.axis, int) else set(layer.axis)
        if axes == {1, 2}:
            return 1.0 if kind == "Sum" else float(places)
    return None


def pointwise(node: Any) -> Pointwise:
    """The operation of a node that looks at one place alone; refuses others."""
    layer, kind = node.operation, type(node.operation).__name__
    if kind in _ALONG_CHANNELS:
        keeps = kind == "Concatenate" or layer.keepdims
        if not keeps or layer.axis not in (-1, 3, (-1,), (3,), [-1], [3]):
            raise UnsupportedNetworkError(f"layer {layer.name} mixes places")
    elif kind not in _POINTWISE:
        raise UnsupportedNetworkError(
            f"layer {layer.name} ({kind}) is not known to look at one place alone"
        )
    if kind == "Add":
        return Pointwise(lambda inputs: sum(inputs[1:], inputs[0]))
    if kind == "Multiply" and len(node.input_tensors) > 1:
        return Pointwise(lambda inputs: math.prod(inputs[1:], start=inputs[0]), product=True)
    return Pointwise(_by_keras(node))


def _by_keras(node: Any) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """The node's own operation with its other arguments, on rows as places of a map."""
    import keras

    def function(inputs: Sequence[np.ndarray]) -> np.ndarray:
        tensors = [keras.ops.convert_to_tensor(rows[:, None, None]) for rows in inputs]
        given = dict(zip(map(id, node.input_tensors), tensors, strict=True))
        arguments, options = node.arguments.fill_in(given)
        result = node.operation(*arguments, **options)
        return np.asarray(keras.ops.convert_to_numpy(result))[:, 0, 0]

    return function


def unary(activation: Callable[[Any], Any]) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """An activation as a function of tables of values."""
    import keras

    def function(inputs: Sequence[np.ndarray]) -> np.ndarray:
        result = activation(keras.ops.convert_to_tensor(inputs[0]))
        return np.asarray(keras.ops.convert_to_numpy(result))

    return function
