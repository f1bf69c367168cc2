"""Geometric augmentation of training images."""

from __future__ import annotations

import math

import cv2
import numpy as np


def random_affine(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a randomly moved copy of ``image``, as Thiriveedhi et al. 2025 do for benign images.

    Rotation up to 10 degrees, horizontal flip, shifts up to 0.1 of the side, shear up to 0.2
    radians, zoom 0.8 to 1.2; pixels that come from outside repeat the nearest edge pixel.

    ``image``: uint8 ``(height, width, 3)``. The result has the same shape and dtype.
    """
    height, width = image.shape[:2]
    angle = math.radians(rng.uniform(-10, 10))
    shear = rng.uniform(-0.2, 0.2)
    zoom_x, zoom_y = rng.uniform(0.8, 1.2, size=2)
    shift_x = rng.uniform(-0.1, 0.1) * width
    shift_y = rng.uniform(-0.1, 0.1) * height

    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shearing = np.array([[1.0, -math.sin(shear)], [0.0, math.cos(shear)]])
    linear = rotation @ shearing @ np.diag([zoom_x, zoom_y])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre + np.array([shift_x, shift_y]) - linear @ centre
    matrix = np.hstack([linear, offset[:, None]])
    moved = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return moved[:, ::-1] if rng.random() < 0.5 else moved
