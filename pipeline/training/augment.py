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


#: Ranges of ``turned_and_spoilt``: factor of brightness, sigma of the blur in pixels, share of
#: pixels made black or white. The paper names the kinds, not the amounts.
BRIGHTNESS, BLUR_SIGMA, SPOILT = (0.8, 1.2), (0.5, 1.5), 0.01

#: How often an image is blurred and spoilt.
SPOILT_SHARE = 0.25


def turned_and_spoilt(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a copy of ``image`` as Sampathila et al. 2022 augment cells on a black ground.

    Mirrored, turned by any angle (black comes in from outside), brightened or darkened; every
    fourth also blurred (Gaussian) with salt and pepper on it.

    ``image``: uint8 ``(height, width, 3)``. The result has the same shape and dtype.
    """
    turned = _mirrored_and_turned(image, rng, cv2.BORDER_CONSTANT)
    lit = turned.astype(np.float32) * np.float32(rng.uniform(*BRIGHTNESS))
    shown = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
    if rng.random() >= SPOILT_SHARE:
        return shown
    shown = cv2.GaussianBlur(shown, (0, 0), rng.uniform(*BLUR_SIGMA))
    draws = rng.random(image.shape[:2])
    shown[draws < SPOILT / 2] = 0
    shown[draws > 1 - SPOILT / 2] = 255
    return shown


def turned_and_mirrored(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a copy of ``image``, mirrored or not in each direction and turned by any angle.

    Both as Genovese et al. 2024 augment, nothing else; what comes in from outside is the image
    reflected at its edge. ``image``: uint8 ``(height, width, 3)``. The result has the same shape
    and dtype.
    """
    return _mirrored_and_turned(image, rng, cv2.BORDER_REFLECT_101)


def _mirrored_and_turned(image: np.ndarray, rng: np.random.Generator, border: int) -> np.ndarray:
    """Mirrored or not in each direction and turned by any angle; ``border`` is OpenCV's."""
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image = image[:, ::-1]
    if rng.random() < 0.5:
        image = image[::-1]
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, rng.uniform(0, 360), 1.0)
    return cv2.warpAffine(
        np.ascontiguousarray(image),
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=border,
    )
