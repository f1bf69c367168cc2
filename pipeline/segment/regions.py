"""Small tools for masks and label images."""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy import ndimage

#: Diagonal neighbours belong together.
EIGHT = np.ones((3, 3), np.uint8)


def disc(radius: float) -> np.ndarray:
    """Structuring element, uint8: a disc of at least one pixel's radius."""
    side = max(1, round(radius))
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * side + 1, 2 * side + 1))


def dilated(mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Dilate a bool mask."""
    return cv2.dilate(mask.astype(np.uint8), kernel) > 0


def eroded(mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Erode a bool mask; the edge of the image takes nothing away."""
    return cv2.erode(mask.astype(np.uint8), kernel) > 0


def distance_outside(mask: np.ndarray) -> np.ndarray:
    """Distance of every pixel from a bool mask, float32, 0 inside."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)


def distance_inside(mask: np.ndarray) -> np.ndarray:
    """Distance of every pixel of a bool mask from its outside, float32, 0 outside."""
    return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)


def fill_small_holes(mask: np.ndarray, largest: float) -> np.ndarray:
    """Fill the holes of a bool mask that have at most ``largest`` pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= largest
    small[0] = False
    return mask | small[labels]


def tidy(mask: np.ndarray, smallest: float) -> np.ndarray:
    """Fill holes and drop specks of a bool mask that have at most ``smallest`` pixels."""
    return ~fill_small_holes(~fill_small_holes(mask, smallest), smallest)


def drop_small(labels: np.ndarray, smallest: float) -> np.ndarray:
    """Set labels of fewer than ``smallest`` pixels to 0. Returns int32."""
    areas = np.bincount(labels.ravel())
    return np.where((areas < smallest)[labels], 0, labels).astype(np.int32)


def fill_cells(cells: np.ndarray) -> np.ndarray:
    """Fill the holes of every label, in a copy."""
    filled = cells.copy()
    for label, window in enumerate(ndimage.find_objects(cells), start=1):
        if window is not None:
            view = filled[window]
            view[ndimage.binary_fill_holes(view == label) & (view == 0)] = label
    return filled


def typical_radius(labels: np.ndarray) -> float:
    """Radius of the disc as large as the object that the median object pixel lies in, in pixels.

    Specks hardly count, however many they are. 1 where nothing is labelled.
    """
    areas = np.sort(np.bincount(labels.ravel())[1:].astype(np.float64))
    if areas.sum() == 0:
        return 1.0
    typical = areas[np.searchsorted(np.cumsum(areas), areas.sum() / 2)]
    return math.sqrt(typical / math.pi)


def neighbours(labels: np.ndarray, reach: float) -> list[tuple[float, int, int]]:
    """List pairs of labels at most ``reach`` pixels apart, the closest first.

    Each is (gap in pixels, smaller label, larger label).
    """
    pairs = []
    pad = math.ceil(reach) + 1
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        view = labels[widened(window, pad)]
        others = np.unique(view)
        others = others[others > label]
        if others.size == 0:
            continue
        gap = distance_outside(view == label)
        for other in others:
            width = float(gap[view == other].min())
            if width <= reach:
                pairs.append((width, label, int(other)))
    return sorted(pairs)


def widened(window: tuple[slice, slice], pad: int) -> tuple[slice, slice]:
    """Widen a window by ``pad`` pixels on every side; slicing ends at the image's edge."""
    rows, columns = window
    return (
        slice(max(0, rows.start - pad), rows.stop + pad),
        slice(max(0, columns.start - pad), columns.stop + pad),
    )


def compactness(mask: np.ndarray) -> float:
    """Share of the smallest circle around a shape that it fills, times its convexity."""
    rows, columns = np.nonzero(mask)
    hull = cv2.convexHull(np.stack([columns, rows], axis=1).astype(np.float32))
    _, radius = cv2.minEnclosingCircle(hull)
    area = len(rows)
    filled = area / (math.pi * (radius + 0.5) ** 2)
    return filled * min(1.0, area / max(cv2.contourArea(hull), 1.0))
