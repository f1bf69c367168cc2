"""Maps at the resolution of features, and at that of the image."""

from __future__ import annotations

import base64
import io

import cv2
import numpy as np
from PIL import Image


def scaled_to_one(values: np.ndarray) -> np.ndarray:
    """A non-negative map divided by its largest value; all zero if that is zero."""
    largest = values.max()
    return values / largest if largest > 0 else values


def enlarged(values: np.ndarray, size: int) -> np.ndarray:
    """A map ``(rows, columns)`` bilinearly at ``(size, size)``, of the same dtype."""
    return np.asarray(cv2.resize(values, (size, size), interpolation=cv2.INTER_LINEAR))


def grey_png(values: np.ndarray) -> str:
    """A map of uint8 or uint16 as a grey PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def of_grey_png(text: str) -> np.ndarray:
    """What ``grey_png`` was given."""
    with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as stored:
        return np.asarray(stored)
