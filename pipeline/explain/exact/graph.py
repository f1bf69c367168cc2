"""Reading from a Keras network what happens before its global pooling, and what after.

Batch normalisation is folded into the convolution before it, in double precision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.explain.exact.layers import (
    NOTHING,
    POINTWISE_ACTIVATIONS,
    WINDOWED,
    UnsupportedNetworkError,
    affine_of,
    is_plain_relu,
    pointwise,
    pooling_divisor,
    scaled,
    unary,
)
from pipeline.explain.exact.operations import (
    Convolution,
    Depthwise,
    MaxPooling,
    Operation,
    Pair,
    Pointwise,
    Windowed,
)
from pipeline.explain.exact.pooled_convolution import PooledConvolution

#: Number of the step that is the image itself.
IMAGE = 0


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
        seen = _fields_of_view(self.steps)
        rows, columns = (max(seen[end.step][axis] for end in self.poolings) for axis in (0, 1))
        return rows, columns

    @classmethod
    def of(cls, model: Any, shape: Pair) -> LocalNetwork:
        """Take a functional Keras model apart, for images of ``shape`` (rows, columns).

        Raises UnsupportedNetworkError for one that has other layers than these before its global
        pooling, or none.
        """
        return _Reader(model, shape).read()

    @classmethod
    def before(cls, model: Any, shape: Pair, largest_field: int) -> LocalNetwork:
        """The layers that a network begins with, as long as a place sees few pixels.

        They end where all that follows depends on one map, whose places see ``largest_field``
        pixels at most down and across. Its one pooling stands for what follows: ``head`` takes the
        map itself, float32 ``(batch, rows, columns, channels)``.

        Raises UnsupportedNetworkError where there are no such layers.
        """
        import keras

        from pipeline.explain.exact.folded import folded

        cut = _Reader(model, shape).last_cut(largest_field)
        behind = folded(keras.Model(cut, model.outputs[0]))
        beginning = _Reader(keras.Model(model.inputs, cut), shape)
        return beginning.read_map(lambda maps: behind.predict_on_batch(maps[0]))


def _fields_of_view(steps: Sequence[Step]) -> list[Pair]:
    """Rows and columns of the patch that a place of the image and of each map sees, in pixels."""
    down, across = (_seen_along(steps, axis) for axis in (0, 1))
    return list(zip(down, across, strict=True))


def _seen_along(steps: Sequence[Step], axis: int) -> list[int]:
    # How many pixels a place of each map sees, and how far neighbouring places are apart.
    sizes, apart = [1], [1]
    for step in steps:
        size = max(sizes[source] for source in step.inputs)
        stride = max(apart[source] for source in step.inputs)
        if not isinstance(step.operation, Pointwise):
            window = step.operation.window
            size += (window.size[axis] - 1) * window.dilation[axis] * stride
            stride *= window.stride[axis]
        sizes.append(size)
        apart.append(stride)
    return sizes


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

    def last_cut(self, largest_field: int) -> Any:
        """The last tensor on which all that follows depends and whose places see so little."""
        cut = None
        to_come = self._uses.copy()
        needed = {id(self._model.inputs[0])}
        for node in self._nodes:
            found = [self._step_of.get(id(tensor)) for tensor in node.input_tensors]
            try:
                self._read_node(node, tuple(number for number in found if number is not None))
            except UnsupportedNetworkError:
                break
            if self._poolings:
                break
            to_come.subtract(id(tensor) for tensor in node.input_tensors)
            made = id(node.outputs[0])
            needed = {tensor for tensor in (*needed, made) if to_come[tensor]}
            if (
                needed == {made}
                and max(_fields_of_view(self._steps)[self._step_of[made]]) <= largest_field
            ):
                cut = node.outputs[0]
        if cut is None:
            raise UnsupportedNetworkError("the network does not begin with local layers")
        return cut

    def read_map(self, head: Callable[[Sequence[np.ndarray]], np.ndarray]) -> LocalNetwork:
        """Take a model apart that ends with a map."""
        for node in self._nodes:
            self._read_node(node, tuple(self._step_of[id(t)] for t in node.input_tensors))
        ends = (Pooling(self._step_of[id(self._model.outputs[0])], 1.0),)
        return LocalNetwork(self._shape, self._channels, tuple(self._steps), ends, head)

    def _read_node(self, node: Any, inputs: tuple[int, ...]) -> None:
        rows, columns = self._shape_of(inputs[0])
        divisor = pooling_divisor(node.operation, rows * columns)
        if divisor is None:
            self._step_of[id(node.outputs[0])] = self._add(node, inputs)
        else:
            self._poolings.append(Pooling(inputs[0], divisor))
            self._pooled.append(node.outputs[0])

    def _add(self, node: Any, inputs: tuple[int, ...]) -> int:
        """Number of the step that does what the node does."""
        layer, kind = node.operation, type(node.operation).__name__
        alone = self._uses[id(node.input_tensors[0])] == 1
        if kind in WINDOWED:
            operation = WINDOWED[kind](layer, self._shape_of(inputs[0]))
            return self._windowed(layer, operation, inputs[0], alone)
        if kind in NOTHING:
            self._uses[id(node.outputs[0])] += self._uses[id(node.input_tensors[0])] - 1
            return inputs[0]
        if kind == "BatchNormalization":
            return self._normalised(layer, inputs[0], alone)
        if kind == "Activation":
            return self._activated(layer, inputs[0], alone)
        if is_plain_relu(layer):
            return self._rectified(layer.name, inputs[0], alone)
        return self._append(layer.name, pointwise(node), inputs)

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
        if name not in POINTWISE_ACTIVATIONS:
            raise UnsupportedNetworkError(f"layer {layer.name} has the activation {name}")
        return self._append(f"{layer.name}/{name}", Pointwise(unary(layer.activation)), (number,))

    def _rectified(self, name: str, number: int, alone: bool) -> int:
        operation = self._steps[number - 1].operation if number else None
        if alone and isinstance(operation, (Convolution, Depthwise)) and not operation.relu:
            self._replace(number, replace(operation, relu=True))
            return number
        return self._append(name, Pointwise(lambda inputs: np.maximum(inputs[0], 0)), (number,))

    def _normalised(self, layer: Any, number: int, alone: bool) -> int:
        if layer.axis not in (-1, 3):
            raise UnsupportedNetworkError(f"layer {layer.name} does not normalise channels")
        scale, shift = affine_of(layer)
        operation = self._steps[number - 1].operation if number else None
        if alone and isinstance(operation, (Convolution, Depthwise)) and not operation.relu:
            self._replace(number, scaled(operation, scale, shift))
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
