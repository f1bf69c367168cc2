"""Windows on a field: which parts the network is shown, and cutting them out."""

from __future__ import annotations

import math

import cv2
import numpy as np

from pipeline.types import FieldTile, Rectangle, WhiteCells

#: Windows may be this much larger than asked for where that saves a row or a column of them.
STRETCH = 1.2

#: More windows than this are not judged; the ones with most white cells are kept.
MAXIMUM_TILES = 36


def cover(width: int, height: int, window: tuple[float, float], overlap: float) -> list[Rectangle]:
    """Spread windows evenly over a field, every part of it in at least one, in reading order.

    ``window``: wanted width and height in pixels; the windows are up to STRETCH larger where fewer
    then suffice. Neighbours overlap by ``overlap`` pixels or more. Where the field is narrower
    than a window, the window lies centred and reaches beyond it.
    """
    largest = (window[0] * STRETCH, window[1] * STRETCH)
    columns = _needed(width, largest[0], overlap)
    rows = _needed(height, largest[1], overlap)
    # The smallest windows that still reach, but not smaller than asked for.
    grown = max(
        1.0,
        _reach(width, columns, overlap) / window[0] if columns > 1 else 1.0,
        _reach(height, rows, overlap) / window[1] if rows > 1 else 1.0,
        width / window[0] if columns == 1 and width > window[0] else 1.0,
        height / window[1] if rows == 1 and height > window[1] else 1.0,
    )
    across, down = math.ceil(window[0] * grown), math.ceil(window[1] * grown)
    return [
        Rectangle(x, y, across, down)
        for y in _starts(height, down, rows)
        for x in _starts(width, across, columns)
    ]


def keep_fullest(boxes: list[Rectangle], cells: WhiteCells) -> list[Rectangle]:
    """At most MAXIMUM_TILES windows, those with most white cells, in reading order."""
    if len(boxes) <= MAXIMUM_TILES:
        return boxes
    ranked = sorted(range(len(boxes)), key=lambda i: (-count_cells(boxes[i], cells), i))
    return [boxes[i] for i in sorted(ranked[:MAXIMUM_TILES])]


def count_cells(box: Rectangle, cells: WhiteCells) -> int:
    """White cells whose centre lies in the window."""
    if not cells.cells:
        return 0
    x, y = np.array([cell.centre for cell in cells.cells]).T
    inside = (box.x <= x) & (x < box.x + box.width) & (box.y <= y) & (y < box.y + box.height)
    return int(inside.sum())


def cut_tile(
    pixels: np.ndarray,
    cells: WhiteCells,
    box: Rectangle,
    size: int,
    background: np.ndarray,
) -> FieldTile:
    """Cut a window out of a field and resample it to ``(size, size)``.

    ``background``: uint8 ``(3,)``, colour beyond the field.
    """
    window = _window(pixels, box, background)
    if window.shape[:2] != (size, size):
        window = squash(window, size)
    return FieldTile(
        pixels=window,
        box=box,
        white_cells=_cut_mask(cells.labels > 0, box, size),
        nuclei=_cut_mask(cells.nuclei, box, size),
        cell_count=count_cells(box, cells),
    )


def _cut_mask(mask: np.ndarray, box: Rectangle, size: int) -> np.ndarray:
    """A mask of the field in a window, bool ``(size, size)``; nothing lies beyond the field."""
    window = _window(mask.astype(np.float32), box, np.zeros(1))
    if window.shape[:2] != (size, size):
        window = cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA)
    return window > 0.5


def whole_tile(pixels: np.ndarray, cells: WhiteCells, size: int) -> FieldTile:
    """The whole field as one tile, whatever its shape, as training fields are shown."""
    box = Rectangle(0, 0, pixels.shape[1], pixels.shape[0])
    return cut_tile(pixels, cells, box, size, np.zeros(3, np.uint8))


def squash(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resample uint8 ``(height, width, 3)`` to ``(size, size, 3)`` as the training fields were.

    Bilinear without smoothing: with the compression of the training files repeated, it reproduces
    them best of eleven filters, and it alone has their sharpness (docs/geometry.md). Filters that
    smooth lose half of the variance of the Laplacian.
    """
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)


def _needed(length: int, window: float, overlap: float) -> int:
    if length <= window:
        return 1
    return math.ceil((length - overlap) / (window - overlap))


def _reach(length: int, count: int, overlap: float) -> float:
    """Width of each of ``count`` windows that cover ``length`` with the overlap."""
    return (length + (count - 1) * overlap) / count


def _starts(length: int, window: int, count: int) -> list[int]:
    if count == 1:
        return [(length - window) // 2]
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def _window(image: np.ndarray, box: Rectangle, beyond: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    left, top = max(0, box.x), max(0, box.y)
    right, bottom = min(width, box.x + box.width), min(height, box.y + box.height)
    return cv2.copyMakeBorder(
        image[top:bottom, left:right],
        top - box.y,
        box.y + box.height - bottom,
        left - box.x,
        box.x + box.width - right,
        cv2.BORDER_CONSTANT,
        value=beyond.tolist(),
    )
