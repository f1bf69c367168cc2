"""Numbers of each white cell, the same for every segmentation method."""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy import ndimage

from pipeline.types import Rectangle, WhiteCell, WhiteCells

#: Corners of an outline lie at most this share of the cell's diameter (and at least half a pixel)
#: off the true edge.
OUTLINE_TOLERANCE = 0.005


def measure(pixels: np.ndarray, labels: np.ndarray, nuclei: np.ndarray) -> WhiteCells:
    """Number and measure the cells of a label image.

    ``pixels``: uint8 ``(height, width, 3)``. ``labels``: integer ``(height, width)``, 0 outside,
    any other numbers inside; of a cell in several pieces only the largest (8-connected) is kept
    and its holes are filled. ``nuclei``: bool ``(height, width)``; parts outside cells are dropped.

    Cells are numbered 1, 2, ... from top to bottom, left to right, by their centres.
    """
    found = []
    for index, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        view = labels[window]
        mask = _largest_piece(view == index)
        # A hole may hold another cell.
        mask |= ndimage.binary_fill_holes(mask) & ((view == 0) | (view == index))
        rows, columns = np.nonzero(mask)
        centre_y = float(rows.mean()) + window[0].start
        centre_x = float(columns.mean()) + window[1].start
        found.append((centre_y, centre_x, window, mask))
    found.sort(key=lambda cell: cell[:2])

    numbered = np.zeros(labels.shape, np.int32)
    for number, (_, _, window, mask) in enumerate(found, start=1):
        numbered[window][mask] = number
    inner_nuclei = np.asarray(nuclei, bool) & (numbered > 0)

    cells = tuple(
        _measure_cell(number, pixels, numbered, inner_nuclei, window)
        for number, (_, _, window, _) in enumerate(found, start=1)
    )
    return WhiteCells(cells=cells, labels=numbered, nuclei=inner_nuclei)


def _measure_cell(
    number: int,
    pixels: np.ndarray,
    labels: np.ndarray,
    nuclei: np.ndarray,
    window: tuple[slice, slice],
) -> WhiteCell:
    height, width = labels.shape
    mask = labels[window] == number
    rows, columns = np.nonzero(mask)
    top, left = window[0].start + int(rows.min()), window[1].start + int(columns.min())
    box = Rectangle(left, top, int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)

    area = int(mask.sum())
    nucleus_area = int((nuclei[window] & mask).sum())
    cytoplasm_area = area - nucleus_area
    colour = pixels[window][mask].mean(axis=0)
    return WhiteCell(
        number=number,
        box=box,
        outline=_outline(mask, window, area),
        centre=(
            float(columns.mean()) + window[1].start,
            float(rows.mean()) + window[0].start,
        ),
        area=float(area),
        nucleus_area=float(nucleus_area),
        nucleus_to_cytoplasm_ratio=nucleus_area / cytoplasm_area if cytoplasm_area else None,
        roundness=_roundness(mask),
        mean_colour=(round(float(colour[0])), round(float(colour[1])), round(float(colour[2]))),
        touches_edge=(
            left == 0 or top == 0 or left + box.width == width or top + box.height == height
        ),
    )


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    pieces, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count > 1:
        return pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return mask


def _contour(mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(contours, key=len)


def _outline(
    mask: np.ndarray, window: tuple[slice, slice], area: int
) -> tuple[tuple[int, int], ...]:
    diameter = 2 * math.sqrt(area / math.pi)
    tolerance = max(0.5, OUTLINE_TOLERANCE * diameter)
    polygon = cv2.approxPolyDP(_contour(mask), tolerance, True)[:, 0]
    return tuple((int(x) + window[1].start, int(y) + window[0].start) for x, y in polygon)


def _roundness(mask: np.ndarray) -> float:
    """4 pi area / perimeter^2, at most 1, of the outline without its pixel stairs.

    The length of the chain of border pixels overestimates a circle's by 5 %, and by another share
    at every angle; the half-way line of the slightly blurred mask does not.
    """
    from skimage.measure import find_contours

    blurred = cv2.GaussianBlur(np.pad(mask.astype(np.float32), 4), (0, 0), 1.0)
    contours = find_contours(blurred, 0.5)
    if not contours:  # a pixel or two
        return 1.0
    line = max(contours, key=len).astype(np.float32)
    perimeter = cv2.arcLength(line, True)
    return min(1.0, 4 * math.pi * cv2.contourArea(line) / perimeter**2)
