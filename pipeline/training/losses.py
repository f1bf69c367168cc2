"""Losses that Keras does not have, in operations every Keras backend has.

All take class numbers ``(batch,)`` and what the network gives; what they average over is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from pipeline.training.orthogonality import root


class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of class numbers ``(batch,)`` and probabilities ``(batch, classes)``.

    With the smoothing of Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """

    def __init__(self, classes: int, smoothing: float) -> None:
        super().__init__(name="smoothed_cross_entropy")
        self._classes = classes
        self._smoothing = smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each image, ``(batch,)``."""
        truth = keras.ops.one_hot(
            keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32"), self._classes
        )
        return keras.losses.categorical_crossentropy(truth, y_pred, label_smoothing=self._smoothing)


class WeightedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of probabilities ``(batch, classes)``, images weighted by their class.

    The mean over a batch is the weighted one, ``sum(w * l) / sum(w)``, so that the weights' scale
    does not matter.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__(name="weighted_cross_entropy")
        self._weights = tuple(weights)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of the batch, a scalar."""
        numbers = _class_numbers(y_true)
        weights = keras.ops.take(_constant(self._weights, y_pred), numbers)
        each = keras.losses.sparse_categorical_crossentropy(numbers, y_pred)
        return keras.ops.sum(weights * each) / keras.ops.sum(weights)


class MultilabelSoftMargin(keras.losses.Loss):
    """Each of several labels on its own, from logits ``(batch, labels)``.

    The mean over labels of ``-w (y log s(x) + (1 - y) log s(-x))``, with ``s`` the logistic
    function. ``labels_of``: 0 or 1, ``(classes, labels)``, which labels an image of a class has.
    ``weights``: of each label.
    """

    def __init__(self, labels_of: np.ndarray, weights: Sequence[float]) -> None:
        super().__init__(name="multilabel_soft_margin")
        self._labels_of = np.asarray(labels_of, np.float32)
        self._weights = tuple(weights)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each image, ``(batch,)``."""
        has = keras.ops.take(_constant(self._labels_of, y_pred), _class_numbers(y_true), axis=0)
        weights = _constant(self._weights, y_pred)
        each = has * keras.ops.softplus(-y_pred) + (1 - has) * keras.ops.softplus(y_pred)
        return keras.ops.mean(weights * each, axis=-1)


class TripletMargin(keras.losses.Loss):
    """Images of a class closer together than to those of others by a margin.

    ``max(0, |a - p| - |a - n| + margin)`` with Euclidean distances of embeddings ``(batch,
    dimensions)``, for all triplets of a batch in which ``a`` and ``p`` are different images of one
    class and ``n`` is one of another. The mean is that of the triplets that have a loss; a batch
    without any has none.
    """

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__(name="triplet_margin")
        self._margin = margin

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of the batch, a scalar."""
        numbers = _class_numbers(y_true)
        distances = _distances(y_pred)
        same = numbers[:, None] == numbers[None, :]
        others = keras.ops.logical_not(keras.ops.eye(keras.ops.shape(numbers)[0], dtype="bool"))
        positive = keras.ops.logical_and(same, others)
        valid = keras.ops.logical_and(positive[:, :, None], keras.ops.logical_not(same)[:, None, :])
        each = keras.ops.relu(distances[:, :, None] - distances[:, None, :] + self._margin)
        each = keras.ops.where(valid, each, 0.0)
        count = keras.ops.sum(keras.ops.cast(each > 0, each.dtype))
        return keras.ops.sum(each) / keras.ops.maximum(count, 1.0)


def _distances(points: Any) -> Any:
    """Euclidean distances ``(points, points)``."""
    # From differences: through products of vectors, close points would lose their digits.
    return root(keras.ops.sum((points[:, None] - points[None, :]) ** 2, axis=-1))


def _constant(values: Any, like: Any) -> Any:
    return keras.ops.convert_to_tensor(values, dtype=like.dtype)


def _class_numbers(y_true: Any) -> Any:
    return keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32")
