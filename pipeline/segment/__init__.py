"""White cells of a field: finding, separating, outlining and measuring them.

``segment`` is the whole public face. ``default`` is this project's own method; the two published
ones in ``published`` are there to be compared with, and all three share ``measure``.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from pipeline.segment.measure import measure
from pipeline.types import WhiteCells

Method = Literal["default", "hsi-saturation", "hsv-threshold"]

METHODS: tuple[Method, ...] = get_args(Method)

__all__ = ["METHODS", "Method", "no_cells", "segment"]


def no_cells(pixels: np.ndarray) -> WhiteCells:
    """What ``segment`` gives for a field of this size without white cells."""
    shape = pixels.shape[:2]
    return WhiteCells((), np.zeros(shape, np.int32), np.zeros(shape, bool))


def segment(pixels: np.ndarray, method: Method = "default") -> WhiteCells:
    """Find and measure the white cells of a field.

    ``pixels``: uint8 ``(height, width, 3)``, RGB, any size. Deterministic: equal pixels give
    equal cells. A field without white cells gives an empty result, never an error.

    Raises ValueError where the pixels are not of that kind or the method has no such name.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ValueError(
            f"segment needs uint8 pixels (height, width, 3), got {pixels.dtype} {pixels.shape}"
        )
    if method == "default":
        from pipeline.segment.default import white_cell_masks
    elif method == "hsi-saturation":
        from pipeline.segment.published import hsi_saturation_masks as white_cell_masks
    elif method == "hsv-threshold":
        from pipeline.segment.published import hsv_threshold_masks as white_cell_masks
    else:
        raise ValueError(f"no segmentation method {method!r}; known are {', '.join(METHODS)}")
    labels, nuclei = white_cell_masks(pixels)
    return measure(pixels, labels, nuclei)
