"""Maps at the resolution of features, and at that of the image."""

from __future__ import annotations

import cv2
import numpy as np


def scaled_to_one(values: np.ndarray) -> np.ndarray:
    """A non-negative map divided by its largest value; all zero if that is zero."""
    largest = values.max()
    return values / largest if largest > 0 else values


def enlarged(values: np.ndarray, size: int) -> np.ndarray:
    """A map ``(rows, columns)`` bilinearly at ``(size, size)``, of the same dtype."""
    return np.asarray(cv2.resize(values, (size, size), interpolation=cv2.INTER_LINEAR))
