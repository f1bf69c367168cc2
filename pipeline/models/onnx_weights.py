"""Weights of MobileNetV2 from ONNX files: initialisers of the graph into the layers of Keras.

Two kinds of file: with batch normalisation as nodes of its own, and with batch normalisation folded
into the convolutions, which then have a bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.models.backbones import backbone_of

#: Operations such a graph may have; anything else would compute something else.
KNOWN_OPERATIONS = frozenset(
    {"Add", "BatchNormalization", "Clip", "Conv", "Flatten", "GlobalAveragePool", "Identity", "Pad"}
)


@dataclass(frozen=True)
class Convolution:
    """A convolution with what normalises its output.

    ``kernel``: float32 ``(out, in per group, rows, columns)`` as ONNX has it. The others:
    ``(out,)``, in the terms of batch normalisation with ``epsilon``.
    """

    kernel: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float

    def normalisation(self, epsilon: float) -> list[np.ndarray]:
        """Gamma, beta, mean and variance for a layer with another epsilon; the same function."""
        return [self.gamma, self.beta, self.mean, self.variance + self.epsilon - epsilon]


def read_mobilenet_v2(network: keras.Model, path: Path) -> None:
    """Put the weights of an ONNX MobileNetV2 without top into the backbone of ``network``.

    The graph of the file takes NCHW RGB in -1..1, which is what the backbone computes from its
    input. Raises ConfigurationError if the file cannot be read or is another network.
    """
    layers = [layer for layer in backbone_of(network).layers if layer.weights]
    kernels = [layer for layer in layers if not isinstance(layer, keras.layers.BatchNormalization)]
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    found = list(_convolutions(path))
    if not len(found) == len(kernels) == len(norms):
        raise ConfigurationError(
            f"{path} has {len(found)} convolutions, the network {len(kernels)}: not a MobileNetV2"
        )
    for one, layer, norm in zip(found, kernels, norms, strict=True):
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        kernel = one.kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        if kernel.shape != tuple(layer.kernel.shape):
            raise ConfigurationError(
                f"{path}: the kernel for {layer.name} is {kernel.shape}, the network has "
                f"{tuple(layer.kernel.shape)}: a MobileNetV2 of another width"
            )
        layer.set_weights([kernel])
        norm.set_weights(one.normalisation(norm.epsilon))


def _convolutions(path: Path) -> Iterator[Convolution]:
    """The convolutions of the file in the order of its graph."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
        values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    except (OSError, DecodeError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{path} is no ONNX file with its weights: {error}") from error
    unknown = {node.op_type for node in graph.node} - KNOWN_OPERATIONS
    if unknown:
        raise ConfigurationError(
            f"{path} is not a MobileNetV2: it has {', '.join(sorted(unknown))}"
        )
    normalised = {n.input[0]: n for n in graph.node if n.op_type == "BatchNormalization"}
    try:
        for node in graph.node:
            if node.op_type != "Conv":
                continue
            kernel = values[node.input[1]]
            channels = len(kernel)
            bias = values[node.input[2]] if len(node.input) > 2 else np.zeros(channels, np.float32)
            following = normalised.get(node.output[0])
            if following is None:
                ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
                yield Convolution(kernel, ones, bias, zeros, ones, 0.0)
            else:
                gamma, beta, mean, variance = (values[name] for name in following.input[1:5])
                epsilon = next((a.f for a in following.attribute if a.name == "epsilon"), 1e-5)
                yield Convolution(kernel, gamma, beta, mean - bias, variance, epsilon)
    except (KeyError, ValueError) as error:
        raise ConfigurationError(f"{path}: a weight of the graph is missing: {error!r}") from error
