"""A network whose batch normalisation is part of its convolutions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from pipeline.explain.exact.layers import affine_of, scaled_weights

_CONVOLUTIONS = {"Conv2D", "DepthwiseConv2D"}


def folded(model: Any) -> Any:
    """A copy of a functional Keras model without the batch normalisation behind convolutions.

    Factors and terms are multiplied into kernels and biases in double precision. What a layer
    between them changes, or what is used elsewhere too, stays as it is.
    """
    import keras

    convolution_of = _foldable(model)
    widened = set(convolution_of.values())

    def cloned(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in widened:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def called(layer: Any, *inputs: Any, **options: Any) -> Any:
        return inputs[0] if layer.name in convolution_of else layer(*inputs, **options)

    copy = keras.models.clone_model(model, clone_function=cloned, call_function=called)
    normalisation_of = {name: model.get_layer(norm) for norm, name in convolution_of.items()}
    for layer in copy.layers:
        if not layer.weights:
            continue
        weights = model.get_layer(layer.name).get_weights()
        if layer.name in normalisation_of:
            scale, shift = affine_of(normalisation_of[layer.name])
            kernel, bias = weights if len(weights) > 1 else (*weights, np.zeros(scale.size))
            weights = list(scaled_weights(kernel, bias, scale, shift))
        layer.set_weights(weights)
    return copy


def _foldable(model: Any) -> dict[str, str]:
    """Names of batch normalisations, and of the convolution that each is folded into."""
    nodes = [node for nodes in model._nodes_by_depth.values() for node in nodes]
    uses = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    calls = Counter(node.operation.name for node in nodes)
    made_by = {id(tensor): node.operation for node in nodes for tensor in node.outputs}
    found = {}
    for node in nodes:
        layer = node.operation
        if type(layer).__name__ != "BatchNormalization" or layer.axis not in (-1, 3):
            continue
        (tensor,) = node.input_tensors
        before = made_by.get(id(tensor))
        if (
            before is not None
            and type(before).__name__ in _CONVOLUTIONS
            and before.activation.__name__ == "linear"
            and uses[id(tensor)] == calls[before.name] == calls[layer.name] == 1
        ):
            found[layer.name] = before.name
    return found
