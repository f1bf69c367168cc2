"""Red cells, as far as white cells need them: how large they are."""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy import ndimage

from pipeline.segment.regions import compactness, distance_inside

#: Bounds of the automatic threshold on absorbed light between empty slide and red cells.
STAINED_BOUNDS = (0.06, 0.2)

#: The pallor of a red cell is round, and its radius is at most this many half widths of the rim.
PALLOR_IN_RIMS = 1.8
MIN_PALLOR_COMPACTNESS = 0.5
#: Smaller holes, in pixels, are noise and have no shape.
MIN_HOLE = 9

#: Fewer summits than this say nothing about the size of red cells.
MIN_SUMMITS = 5


def stained_threshold(transmitted: np.ndarray) -> float:
    """Find the share of light that all that is stained absorbs in some channel.

    Otsu's threshold (1979) between empty slide and stain, within bounds.

    ``transmitted``: float32 ``(height, width, 3)`` relative to the background.
    """
    from skimage.filters import threshold_otsu

    absorbed = 1 - transmitted.min(axis=2)
    counts, edges = np.histogram(absorbed, 100, (0, 0.6))
    middles = (edges[:-1] + edges[1:]) / 2
    threshold = threshold_otsu(hist=(np.maximum(counts, 1e-3), middles))
    return float(np.clip(threshold, *STAINED_BOUNDS))


def red_cell_radius(stained: np.ndarray, white: np.ndarray) -> float | None:
    """Estimate the radius of red cells, in pixels.

    ``stained``: bool, all that is stained. ``white``: bool, what of it surely is no red cell.

    Takes the typical height of the summits of the distance from the edge, which clumping and
    stacking change little, and does so twice: the second time with the pallor filled in.
    None where too few summits stand out.
    """
    rim = _summit_height(stained & ~white)
    return None if rim is None else _summit_height(_fill_pallor(stained | white, rim) & ~white)


def _summit_height(mask: np.ndarray) -> float | None:
    distance = distance_inside(mask)
    smooth = cv2.GaussianBlur(distance, (0, 0), 1.5)
    summit = (smooth >= cv2.dilate(smooth, np.ones((7, 7), np.uint8))) & (smooth > 2)
    heights = np.sort(distance[summit])
    if heights.size < MIN_SUMMITS:
        return None
    # Weighed by area, or the many summits of ragged edges would decide.
    weights = np.cumsum(heights.astype(np.float64) ** 2)
    return float(heights[np.searchsorted(weights, weights[-1] / 2)])


def _fill_pallor(mask: np.ndarray, rim: float) -> np.ndarray:
    """Fill the round holes; those between red cells that touch have three or four corners."""
    filled = mask.copy()
    largest = math.pi * (PALLOR_IN_RIMS * rim) ** 2
    holes, count = ndimage.label(~mask)
    areas = np.bincount(holes.ravel(), minlength=count + 1)
    for hole, window in enumerate(ndimage.find_objects(holes), start=1):
        if areas[hole] <= largest:
            inside = holes[window] == hole
            if areas[hole] < MIN_HOLE or compactness(inside) >= MIN_PALLOR_COMPACTNESS:
                filled[window][inside] = True
    return filled
