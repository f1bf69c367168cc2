"""From a field to network inputs."""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np

from pipeline.geometry.ruler import RedCells, measure_red_cells
from pipeline.geometry.windows import cover, cut_tile, keep_fullest
from pipeline.types import FieldGeometry, Rectangle, SmearImage, WhiteCells

#: Shape in which the training fields were taken, before they were squashed to a square.
REFERENCE_WIDTH, REFERENCE_HEIGHT = 1024, 768
WIDENING = REFERENCE_WIDTH / REFERENCE_HEIGHT

#: Commonest red-cell diameter of the training fields, in pixels of a 1024 x 768 field: mean of the
#: medians of the four classes (benchmarks/geometry.py).
REFERENCE_RED_CELL = 65.0

#: The same for white cells; a poorer ruler (blasts and lymphocytes differ), used without red ones.
REFERENCE_WHITE_CELL = 100.0

#: Cells may come out this much larger or smaller than the reference without being rescaled: the
#: training fields themselves spread over 0.75 to 1.31 of it (1st percentile of the lowest class to
#: 99th of the highest).
TOLERANCE = 1.3

#: The same where white cells are the ruler, whose medians spread over 0.6 to 1.6 in the same
#: fields.
WHITE_CELL_TOLERANCE = 1.6

#: Shapes this near to 4:3 are squashed like the training fields.
SHAPE_TOLERANCE = 1.03

#: Overlap of tiles in red-cell diameters: a white cell of 15 um is whole in some tile.
OVERLAP = 2.0

#: How squashed fields are told from crops with square pixels, among square files: log odds of the
#: evidence for circles when widened to 4:3, plus this weight times what the anisotropy of the
#: gradients (logarithm) exceeds the middle between both kinds by. Squashed training fields score
#: 0.6 to 1.0 (median), crops -0.4 to -1.0.
ANISOTROPY_WEIGHT, ANISOTROPY_MIDDLE = 4.0, 0.08

Method = Literal["as_is", "whole_field", "scaled", "padded", "tiled"]


def fit_field(image: SmearImage, cells: WhiteCells, input_size: int = 224) -> FieldGeometry:
    """Turn a field into network inputs in which cells have the size the network knows.

    Squares of ``input_size`` pixels are taken as they are: somebody prepared them. In any other
    field the red cells are measured, which gives the window that corresponds to a training field
    (1024 x 768 pixels with red cells of 65). A field about as large as its window becomes one
    input (``whole_field`` if it is 4:3 or was squashed from it, else ``scaled``), a larger one
    several (``tiled``), a smaller one is placed on its own background colour (``padded``). Without
    red cells, white cells are the ruler, and without those the field counts as one window;
    ``scale_known`` is then False. It is also False where an input that was taken as it is shows
    cells of another size.

    ``cells``: as segmented in the same pixels. Tiles are in reading order; see ``windows`` for how
    many there can be. Deterministic.
    """
    pixels = image.pixels
    white = cells.labels > 0
    white_diameter = _white_cell_diameter(cells)
    if pixels.shape[:2] == (input_size, input_size):
        return _as_is(pixels, cells, white, white_diameter, input_size)

    stretch = 1.0
    red = measure_red_cells(pixels, white, white_diameter)
    method, boxes = _choose(image.width, image.height, red, white_diameter)
    if image.width == image.height:
        widened = _measure_widened(pixels, white, white_diameter)
        choice = _choose(image.width * WIDENING, image.height, widened, white_diameter)
        if choice[0] == "whole_field" and _looks_squashed(pixels, widened, red):
            stretch, red, (method, boxes) = WIDENING, widened, choice
    if method == "whole_field":
        boxes = [Rectangle(0, 0, image.width, image.height)]

    background = _background(pixels, white) if red.background is None else red.background
    tiles = [
        cut_tile(pixels, cells, box, input_size, background) for box in keep_fullest(boxes, cells)
    ]
    return FieldGeometry(
        method=method,
        red_cell_diameter=_in_original(red.diameter, stretch),
        scale_known=red.diameter is not None,
        tiles=tuple(tiles),
    )


def _as_is(
    pixels: np.ndarray,
    cells: WhiteCells,
    white: np.ndarray,
    white_diameter: float | None,
    size: int,
) -> FieldGeometry:
    # Measured on a grid with square cells, if the input is a squashed field.
    enlarged = (REFERENCE_WIDTH // 2, REFERENCE_HEIGHT // 2)
    factor = math.sqrt(enlarged[0] * enlarged[1]) / size
    red = measure_red_cells(
        cv2.resize(pixels, enlarged, interpolation=cv2.INTER_CUBIC),
        cv2.resize(white.astype(np.uint8), enlarged, interpolation=cv2.INTER_NEAREST) > 0,
        None if white_diameter is None else white_diameter * factor,
    )
    known = red.diameter is not None and _agrees(red.diameter / (REFERENCE_RED_CELL / 2), TOLERANCE)
    box = Rectangle(0, 0, size, size)
    tile = cut_tile(pixels, cells, box, size, np.zeros(3, np.uint8))
    return FieldGeometry(
        method="as_is",
        red_cell_diameter=None if red.diameter is None else red.diameter / factor,
        scale_known=known,
        tiles=(tile,),
    )


def _choose(
    width: float, height: int, red: RedCells, white_diameter: float | None
) -> tuple[Method, list[Rectangle]]:
    """How a field with square pixels is shown, and the windows on it."""
    whole = max(width / REFERENCE_WIDTH, height / REFERENCE_HEIGHT)
    scale, tolerance = whole, TOLERANCE
    if red.diameter is not None:
        scale = red.diameter / REFERENCE_RED_CELL
    elif white_diameter is not None:
        scale, tolerance = white_diameter / REFERENCE_WHITE_CELL, WHITE_CELL_TOLERANCE

    method: Method
    if _agrees(whole / scale, tolerance):
        shape = width * REFERENCE_HEIGHT / (height * REFERENCE_WIDTH)
        if _agrees(shape, SHAPE_TOLERANCE):
            return "whole_field", []
        method, scale = "scaled", whole
    else:
        method = "padded" if whole < scale else "tiled"
    window = (REFERENCE_WIDTH * scale, REFERENCE_HEIGHT * scale)
    return method, cover(round(width), height, window, OVERLAP * REFERENCE_RED_CELL * scale)


def _agrees(ratio: float, tolerance: float) -> bool:
    return 1 / tolerance <= ratio <= tolerance


def _measure_widened(
    pixels: np.ndarray, white: np.ndarray, white_diameter: float | None
) -> RedCells:
    """Red cells of a square file if it is a squashed field: measured after widening it to 4:3."""
    shape = (round(pixels.shape[1] * WIDENING), pixels.shape[0])
    return measure_red_cells(
        cv2.resize(pixels, shape, interpolation=cv2.INTER_LINEAR),
        cv2.resize(white.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST) > 0,
        None if white_diameter is None else white_diameter * math.sqrt(WIDENING),
    )


def _looks_squashed(pixels: np.ndarray, widened: RedCells, square: RedCells) -> bool:
    """Whether cells are rounder, and gradients more even, after widening a square file."""
    if widened.diameter is None:
        return False
    rounder = math.log((widened.cells + 0.05) / (square.cells + 0.05)) + math.log(
        (widened.share + 0.01) / (square.share + 0.01)
    )
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = cv2.GaussianBlur(grey, (0, 0), 1.5)
    across = np.square(cv2.Sobel(grey, cv2.CV_32F, 1, 0)).mean()
    down = np.square(cv2.Sobel(grey, cv2.CV_32F, 0, 1)).mean()
    anisotropy = 0.5 * math.log((across + 1e-6) / (down + 1e-6))
    return rounder + ANISOTROPY_WEIGHT * (anisotropy - ANISOTROPY_MIDDLE) > 0


def _in_original(diameter: float | None, stretch: float) -> float | None:
    """Geometric mean of width and height of the cell in the pixels of the file."""
    return None if diameter is None else diameter / math.sqrt(stretch)


def _white_cell_diameter(cells: WhiteCells) -> float | None:
    whole = [cell.area for cell in cells.cells if not cell.touches_edge]
    areas = whole or [cell.area for cell in cells.cells]
    return 2 * math.sqrt(float(np.median(areas)) / math.pi) if areas else None


def _background(pixels: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Usual colour outside the white cells, for fields where nothing else is known."""
    outside = pixels[~white]
    return np.median(outside if len(outside) else pixels.reshape(-1, 3), axis=0).astype(np.uint8)
