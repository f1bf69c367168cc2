"""Losses that Keras does not have, in operations every Keras backend has."""

from __future__ import annotations

from typing import Any

import keras


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
