"""A penalty on weights: filters that are far from orthonormal.

Wang et al. 2020, "Orthogonal convolutional neural networks" (arXiv:1911.12207): filters that are
orthonormal, also to each other moved, keep features from saying the same thing twice.
"""

from __future__ import annotations

from typing import Any

import keras


def penalise(network: keras.Model, strength: float) -> None:
    """Put the penalty on layers of a network of ``pipeline.models.dss``.

    Those are where the program of Genovese et al. 2024 has it: the 1x1 shortcuts of a ResNet and
    the first 3x3 convolution of each block. In ViT-B/16, which that program does not have, they are
    the perceptrons of all blocks.
    """
    for layer in network.layers:
        if layer.name.endswith(("_shortcut", "_0_conv", "_mlp1", "_mlp2")):
            layer.kernel.regularizer = Orthogonality(strength)
        # Of the three convolutions in a block of ResNet50 the second is the one of 3x3.
        elif layer.name.endswith(("_conv1", "_2_conv")):
            layer.kernel.regularizer = Orthogonality(strength, strides=layer.strides[0])


class Orthogonality(keras.regularizers.Regularizer):
    """How far the filters of a layer are from orthonormal, times ``strength``.

    The Frobenius norm of ``Conv(K, K) - I`` (Wang et al. 2020, section 3.2): ``Conv(K, K)`` are the
    products of all filters with all filters moved by multiples of the stride as far as they
    overlap, ``I`` is the identity where they are not moved. Of a matrix, that of a dense layer or
    of a 1x1 convolution, it is that of ``K K' - I`` or ``K' K - I``, whichever is smaller.
    """

    def __init__(self, strength: float, strides: int = 1) -> None:
        self._strength, self._strides = strength, strides

    def __call__(self, x: Any) -> Any:
        """The penalty, a scalar, of a kernel ``(rows, columns, in, out)`` or ``(in, out)``."""
        if len(x.shape) == 2 or tuple(x.shape[:2]) == (1, 1):
            squared = _squared_of_matrix(keras.ops.reshape(x, x.shape[-2:]))
        else:
            squared = _squared_of_filters(x, self._strides)
        return self._strength * root(squared)

    def get_config(self) -> dict[str, Any]:
        """Strength and strides, as Keras asks for."""
        return {"strength": self._strength, "strides": self._strides}


def _squared_of_matrix(matrix: Any) -> Any:
    rows, columns = matrix.shape
    wide = matrix if rows <= columns else keras.ops.transpose(matrix)
    gram = keras.ops.matmul(wide, keras.ops.transpose(wide))
    return keras.ops.sum((gram - keras.ops.eye(min(rows, columns), dtype=matrix.dtype)) ** 2)


def _squared_of_filters(kernel: Any, strides: int) -> Any:
    """The squared norm over all shifts; one and its opposite give the same, so half suffice."""
    rows, columns, _, filters = kernel.shape
    identity = keras.ops.eye(filters, dtype=kernel.dtype)
    total = keras.ops.sum((_products(kernel, 0, 0) - identity) ** 2)
    for down in range(0, rows, strides):
        furthest = (columns - 1) // strides * strides
        first = strides if down == 0 else -furthest
        for across in range(first, furthest + 1, strides):
            total = total + 2 * keras.ops.sum(_products(kernel, down, across) ** 2)
    return total


def _products(kernel: Any, down: int, across: int) -> Any:
    """Products ``(filters, filters)`` of all filters with all moved down and across."""
    rows, columns, channels, filters = kernel.shape
    one = kernel[down:, max(across, 0) : columns + min(across, 0)]
    other = kernel[: rows - down, max(-across, 0) : columns - max(across, 0)]
    size = (rows - down) * (columns - abs(across)) * channels
    return keras.ops.matmul(
        keras.ops.transpose(keras.ops.reshape(one, (size, filters))),
        keras.ops.reshape(other, (size, filters)),
    )


def root(squared: Any) -> Any:
    """The square root, with gradient zero at zero, where the true one is infinite."""
    above = squared > 0
    return keras.ops.where(above, keras.ops.sqrt(keras.ops.where(above, squared, 1.0)), 0.0)
