"""Reading from a Keras network what happens before its global pooling, and what after.

Strides, fields of view and borders come from the layers themselves. Batch normalisation is folded
into the convolution before it, in double precision.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.errors import ScreenError
from pipeline.explain.exact.operations import (
    AveragePooling,
    Convolution,
    Depthwise,
    MaxPooling,
    Operation,
    Pair,
    Pointwise,
    Shift,
    Window,
    Windowed,
    same_padding,
)
from pipeline.explain.exact.pooled_convolution import PooledConvolution

#: Number of the step that is the image itself.
IMAGE = 0


class UnsupportedNetworkError(ScreenError):
    """A network that is not made of local layers and a global pooling; the message says where."""


@dataclass(frozen=True, eq=False)
class Step:
    """One operation. ``inputs``: numbers of the steps before it; the image is number 0.

    ``shape``: rows and columns of the result, ``channels``: its depth.
    """

    name: str
    operation: Operation
    inputs: tuple[int, ...]
    shape: Pair
    channels: int


@dataclass(frozen=True)
class Pooling:
    """The sum over all places of a step's result, divided by ``divisor``."""

    step: int
    divisor: float


@dataclass(frozen=True, eq=False)
class LocalNetwork:
    """Local layers, global poolings, and what is done with what they give.

    ``shape`` and ``channels``: of the image. ``steps``: step number ``n`` is at ``n - 1``.
    ``head``: takes one float32 ``(batch, channels)`` per pooling and gives the class scores,
    float32 ``(batch, classes)``.
    """

    shape: Pair
    channels: int
    steps: tuple[Step, ...]
    poolings: tuple[Pooling, ...]
    head: Callable[[Sequence[np.ndarray]], np.ndarray]

    def shape_of(self, number: int) -> Pair:
        """Rows and columns of a step's result, or of the image."""
        return self.steps[number - 1].shape if number else self.shape

    def channels_of(self, number: int) -> int:
        """Depth of a step's result, or of the image."""
        return self.steps[number - 1].channels if number else self.channels

    @property
    def field_of_view(self) -> Pair:
        """Rows and columns of the patch that a place before a pooling sees at most, in pixels."""
        return self._seen_along(0), self._seen_along(1)

    def _seen_along(self, axis: int) -> int:
        # How many pixels a place of each step sees, and how far neighbouring places are apart.
        sizes, apart = [1], [1]
        for step in self.steps:
            size = max(sizes[source] for source in step.inputs)
            stride = max(apart[source] for source in step.inputs)
            if not isinstance(step.operation, Pointwise):
                window = step.operation.window
                size += (window.size[axis] - 1) * window.dilation[axis] * stride
                stride *= window.stride[axis]
            sizes.append(size)
            apart.append(stride)
        return max(sizes[pooling.step] for pooling in self.poolings)

    @classmethod
    def of(cls, model: Any, shape: Pair) -> LocalNetwork:
        """Take a functional Keras model apart, for images of ``shape`` (rows, columns).

        Raises UnsupportedNetworkError for one that has other layers than these before its global
        pooling, or none.
        """
        return _Reader(model, shape).read()


class _Reader:
    """Walks through a model once, from the image to the poolings."""

    def __init__(self, model: Any, shape: Pair) -> None:
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise UnsupportedNetworkError("the network has several inputs or outputs")
        image = model.inputs[0]
        self._model, self._shape = model, shape
        self._channels = int(image.shape[-1])
        self._steps: list[Step] = []
        self._poolings: list[Pooling] = []
        self._pooled: list[Any] = []
        self._step_of: dict[int, int] = {id(image): IMAGE}
        self._nodes = [
            node
            for depth in sorted(model._nodes_by_depth, reverse=True)
            for node in model._nodes_by_depth[depth]
            if not node.is_input
        ]
        self._uses = Counter(id(tensor) for node in self._nodes for tensor in node.input_tensors)

    def read(self) -> LocalNetwork:
        for node in self._nodes:
            found = [self._step_of.get(id(tensor)) for tensor in node.input_tensors]
            inputs = tuple(number for number in found if number is not None)
            if inputs and len(inputs) < len(found):
                raise UnsupportedNetworkError(
                    f"layer {node.operation.name} joins a map with what was pooled from one"
                )
            if inputs:
                self._read_node(node, inputs)
        if not self._poolings:
            raise UnsupportedNetworkError("the network has no global pooling")
        head = _head(self._pooled, self._model.outputs[0])
        steps, poolings = tuple(self._steps), tuple(self._poolings)
        return LocalNetwork(self._shape, self._channels, steps, poolings, head)

    def _read_node(self, node: Any, inputs: tuple[int, ...]) -> None:
        rows, columns = self._shape_of(inputs[0])
        divisor = _pooling_divisor(node.operation, rows * columns)
        if divisor is None:
            self._step_of[id(node.outputs[0])] = self._add(node, inputs)
        else:
            self._poolings.append(Pooling(inputs[0], divisor))
            self._pooled.append(node.outputs[0])

    def _add(self, node: Any, inputs: tuple[int, ...]) -> int:
        """Number of the step that does what the node does."""
        layer, kind = node.operation, type(node.operation).__name__
        alone = self._uses[id(node.input_tensors[0])] == 1
        if kind in _WINDOWED:
            operation = _WINDOWED[kind](layer, self._shape_of(inputs[0]))
            return self._windowed(layer, operation, inputs[0], alone)
        if kind in _NOTHING:
            self._uses[id(node.outputs[0])] += self._uses[id(node.input_tensors[0])] - 1
            return inputs[0]
        if kind == "BatchNormalization":
            return self._normalised(layer, inputs[0], alone)
        if kind == "Activation":
            return self._activated(layer, inputs[0], alone)
        if _is_plain_relu(layer):
            return self._rectified(layer.name, inputs[0], alone)
        return self._append(layer.name, _pointwise(node), inputs)

    def _windowed(self, layer: Any, operation: Windowed, number: int, alone: bool) -> int:
        if alone and isinstance(operation, MaxPooling) and self._pool(number, operation):
            return number
        added = self._append(layer.name, operation, (number,))
        return self._activated(layer, added) if hasattr(layer, "activation") else added

    def _activated(self, layer: Any, number: int, alone: bool = True) -> int:
        name = layer.activation.__name__
        if name == "linear":
            return number
        if name == "relu":
            return self._rectified(layer.name, number, alone)
        if name not in _POINTWISE_ACTIVATIONS:
            raise UnsupportedNetworkError(f"layer {layer.name} has the activation {name}")
        return self._append(f"{layer.name}/{name}", Pointwise(_unary(layer.activation)), (number,))

    def _rectified(self, name: str, number: int, alone: bool) -> int:
        operation = self._steps[number - 1].operation if number else None
        if alone and isinstance(operation, (Convolution, Depthwise)) and not operation.relu:
            self._replace(number, replace(operation, relu=True))
            return number
        return self._append(name, Pointwise(lambda inputs: np.maximum(inputs[0], 0)), (number,))

    def _normalised(self, layer: Any, number: int, alone: bool) -> int:
        if layer.axis not in (-1, 3):
            raise UnsupportedNetworkError(f"layer {layer.name} does not normalise channels")
        scale, shift = _affine(layer)
        operation = self._steps[number - 1].operation if number else None
        if alone and isinstance(operation, (Convolution, Depthwise)) and not operation.relu:
            self._replace(number, _scaled(operation, scale, shift))
            return number
        factors, terms = scale.astype(np.float32), shift.astype(np.float32)
        function = Pointwise(lambda inputs: inputs[0] * factors + terms)
        return self._append(layer.name, function, (number,))

    def _pool(self, number: int, pooling: MaxPooling) -> bool:
        """Let a step pool its own result; False where it cannot."""
        step = self._steps[number - 1] if number else None
        if step is None or not isinstance(step.operation, Convolution):
            return False
        pooled = PooledConvolution.of(step.operation, pooling)
        if pooled is None:
            return False
        shape = pooling.window.shape(step.shape)
        self._steps[number - 1] = replace(step, operation=pooled, shape=shape)
        return True

    def _append(self, name: str, operation: Operation, inputs: tuple[int, ...]) -> int:
        shapes = {self._shape_of(number) for number in inputs}
        if len(shapes) > 1:
            raise UnsupportedNetworkError(f"layer {name} joins maps of different sizes")
        if isinstance(operation, Pointwise):
            shape = shapes.pop()
            # One row of zeros through the function tells how many channels come out of it.
            zeros = [np.zeros((1, self._channels_of(number)), np.float32) for number in inputs]
            channels = operation.function(zeros).shape[1]
        else:
            shape = operation.window.shape(shapes.pop())
            channels = getattr(operation, "channels", self._channels_of(inputs[0]))
        self._steps.append(Step(name, operation, inputs, shape, channels))
        return len(self._steps)

    def _replace(self, number: int, operation: Operation) -> None:
        self._steps[number - 1] = replace(self._steps[number - 1], operation=operation)

    def _shape_of(self, number: int) -> Pair:
        return self._steps[number - 1].shape if number else self._shape

    def _channels_of(self, number: int) -> int:
        return self._steps[number - 1].channels if number else self._channels


def _head(pooled: Sequence[Any], output: Any) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    """Everything behind the poolings, as a function of arrays."""
    import keras

    try:
        behind = keras.Model(list(pooled), output)
    except ValueError as error:
        raise UnsupportedNetworkError(
            "the class scores depend on more than what is pooled"
        ) from error

    def scores(inputs: Sequence[np.ndarray]) -> np.ndarray:
        found = behind([keras.ops.convert_to_tensor(values) for values in inputs], training=False)
        return np.asarray(keras.ops.convert_to_numpy(found))

    return scores


# --- what each layer becomes ----------------------------------------------------------------


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


_WINDOWED: dict[str, Callable[[Any, Pair], Windowed]] = {
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


def _affine(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Batch normalisation at inference as factors and terms, float64 ``(channels,)``."""
    weights = iter(np.asarray(w, np.float64) for w in layer.get_weights())
    gamma = next(weights) if layer.scale else 1.0
    beta = next(weights) if layer.center else 0.0
    mean, variance = weights
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return scale, beta - mean * scale


def _scaled(
    operation: Convolution | Depthwise, scale: np.ndarray, shift: np.ndarray
) -> Convolution | Depthwise:
    """The operation with batch normalisation behind it."""
    kernel = operation.kernel.astype(np.float64)
    if isinstance(operation, Depthwise):
        kernel = (kernel.reshape(len(kernel), -1) * scale).reshape(kernel.shape)
    else:
        kernel = kernel * scale
    bias = operation.bias.astype(np.float64) * scale + shift
    return replace(operation, kernel=kernel.astype(np.float32), bias=bias.astype(np.float32))


#: Layers that change nothing where nothing is trained.
_NOTHING = {"Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "Identity"}

#: Functions of one value at a time.
_POINTWISE_ACTIVATIONS = {
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


def _is_plain_relu(layer: Any) -> bool:
    if type(layer).__name__ != "ReLU":
        return False
    return layer.max_value is None and not layer.negative_slope and not layer.threshold


def _pooling_divisor(layer: Any, places: int) -> float | None:
    """What the sum over all places is divided by; None if the layer does not pool all of them."""
    kind = type(layer).__name__
    if kind == "GlobalAveragePooling2D" and not layer.keepdims:
        return float(places)
    if kind in ("Sum", "Mean") and layer.axis is not None and not layer.keepdims:
        axes = {layer.axis} if isinstance(layer.axis, int) else set(layer.axis)
        if axes == {1, 2}:
            return 1.0 if kind == "Sum" else float(places)
    return None


def _pointwise(node: Any) -> Pointwise:
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


def _unary(activation: Callable[[Any], Any]) -> Callable[[Sequence[np.ndarray]], np.ndarray]:
    import keras

    def function(inputs: Sequence[np.ndarray]) -> np.ndarray:
        result = activation(keras.ops.convert_to_tensor(inputs[0]))
        return np.asarray(keras.ops.convert_to_numpy(result))

    return function
