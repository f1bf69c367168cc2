"""Twelve global numbers of an image that know nothing of cells: colours and the scale bar.

A classifier that gets far with them shows how much of a data set can be told apart without looking
at a single cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from pipeline.decode import decode

#: Longest side at which colours are measured; means of millions of pixels are no truer.
MEASURED_SIDE = 256

#: Shares of the pixels, ordered by luminance: the darkest are white cells and other stained things,
#: the brightest background, those between mostly red cells.
_DARKEST, _MIDDLE, _BRIGHTEST = (0.0, 0.08), (0.25, 0.5), (0.7, 1.0)

#: The scale bar lies within this share of width and height from the lower right corner.
_CORNER = 0.16

COLOUR_NAMES = (
    *(f"{part}_{channel}" for part in ("cell", "mid_tone", "background") for channel in "rgb"),
    "corner_red",
    "corner_black",
    "corner_white",
)


def colour_numbers(pixels: np.ndarray) -> np.ndarray:
    """The numbers of ``COLOUR_NAMES``, float64 ``(12,)``: nine colours in 0..255, three shares.

    ``pixels``: uint8 RGB ``(height, width, 3)``.
    """
    small = _shrunk(pixels)
    luminance = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).ravel()
    ordered = small.reshape(-1, 3)[np.argsort(luminance, kind="stable")]
    means = []
    for low, high in (_DARKEST, _MIDDLE, _BRIGHTEST):
        first, last = int(low * len(ordered)), int(high * len(ordered))
        means.append(ordered[first : max(last, first + 1)].mean(axis=0))
    return np.concatenate([*means, _corner_shares(pixels)])


def colours_of(paths: Iterable[Path]) -> np.ndarray:
    """``colour_numbers`` of every file, ``(files, 12)``; raises BadInputError for no image."""
    return np.array([colour_numbers(decode(path.read_bytes()).pixels) for path in paths])


def _corner_shares(pixels: np.ndarray) -> np.ndarray:
    """How much of the lower right corner is red, black, or white as nothing on a slide is."""
    height, width = pixels.shape[:2]
    corner = pixels[int((1 - _CORNER) * height) :, int((1 - _CORNER) * width) :].astype(np.int16)
    red, green, blue = corner[..., 0], corner[..., 1], corner[..., 2]
    return np.array(
        [
            ((red - np.maximum(green, blue)) > 40).mean(),
            (corner.max(axis=2) < 60).mean(),
            (corner.min(axis=2) > 250).mean(),
        ]
    )


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    scale = MEASURED_SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
