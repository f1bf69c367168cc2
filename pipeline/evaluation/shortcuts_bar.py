"""The scale bar that a microscope camera burns into the lower right corner of a field.

Bars are found by their pixels: black or red ink, most often on a white box. A bar says which camera
settings a field was taken with, and those differ between the folders of an image set.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.segment.regions import dilated, disc

#: A bar lies in the lower right part of the field, of this share of its width and height.
REGION = (0.45, 0.28)

#: Ink is thin: strokes stand out from what lies within this share of the field's width.
STROKE = 0.03
#: Black ink is darker than that by so many levels (0 to 255), no channel is above the second
#: number, and the channels differ by no more than the third.
BLACK_CONTRAST, BLACK_INK, NEUTRAL = 55, 175, 40
#: Red ink is darker in green by so many levels, and red exceeds green and blue by the second, ...
RED_CONTRAST, RED_INK = 20, 22
#: ... and by so much more than in this percentage of the rest of the field: eosin is red, too.
RED_AHEAD, RED_TAIL = 5, 98
#: The white of a bar's box.
WHITE = 236

#: Strokes of a bar lie within this share of the field's width of each other.
STROKE_GAP = 0.025
#: A bar is at least this wide, and at most this high, in shares of the field.
MIN_WIDTH, MAX_HEIGHT = 0.04, 0.16
#: A bar is at least this many times as wide as high.
MIN_ELONGATION = 1.1
#: A box reaches beyond the strokes by at most these shares of their height and width, ...
BOX_REACH = (0.8, 0.4)
#: ... as long as this share of the next row or column is white.
BOX_WHITE = 0.95
#: The ends of a red bar are too pale to be found, and this share of what was found away from it.
FAINT_REACH = 0.4
#: Compression smears ink and box over so many pixels of a field of 224 (more in larger ones).
MARGIN = 2


@dataclass(frozen=True)
class ScaleBar:
    """A bar in a field of ``(height, width)`` pixels.

    ``box``: its rows and columns. ``boxed``: whether it is on a white box. ``ink``: bool, of the
    size of ``box``, the strokes with the colour that compression smeared around them.
    """

    box: tuple[slice, slice]
    boxed: bool
    ink: np.ndarray


def find_scale_bar(pixels: np.ndarray) -> ScaleBar | None:
    """Find the scale bar of a field by its ink; None where there is none.

    ``pixels``: uint8 ``(height, width, 3)``, RGB.
    """
    height, width = pixels.shape[:2]
    top, left = round(height * (1 - REGION[1])), round(width * (1 - REGION[0]))
    corner = pixels[top:, left:].astype(np.int16)
    if min(corner.shape[:2]) < 5:
        return None
    usual = np.percentile(_redness(pixels[:top].astype(np.int16)), RED_TAIL)
    red = _redness(corner) > max(RED_INK, usual + RED_AHEAD)
    ink = _ink(corner, red, _stroke(width))
    strokes = _strokes(ink, pixels.shape[:2])
    if strokes is None:
        return None
    margin = _margin(pixels.shape[:2])
    boxed = red[strokes].sum() <= ink[strokes].sum() / 3
    rows, columns = (_white_box if boxed else _faint_ends)(corner, strokes)
    inside = (
        slice(max(0, rows.start + top - margin), min(height, rows.stop + top + margin)),
        slice(max(0, columns.start + left - margin), min(width, columns.stop + left + margin)),
    )
    full = np.zeros((height, width), bool)
    full[top:, left:] = ink
    return ScaleBar(inside, boxed, dilated(full, disc(margin))[inside])


def covered(bar: ScaleBar | None, shape: tuple[int, int]) -> np.ndarray:
    """Where the bar and its box lie, bool of ``shape``."""
    mask = np.zeros(shape, bool)
    if bar is not None:
        mask[bar.box] = True
    return mask


def stamp(
    pixels: np.ndarray, patch: np.ndarray, bar: ScaleBar, corner: tuple[int, int]
) -> np.ndarray:
    """Burn a bar, cut out of a field as ``patch``, into another with its upper left at ``corner``.

    A bar on a box covers what lies beneath, ink alone darkens it. ``pixels`` and ``patch``: uint8
    ``(height, width, 3)``, RGB. Parts beyond the field are cut off. Returns a new array.
    """
    top, left = corner
    height, width = pixels.shape[:2]
    rows, columns = min(patch.shape[0], height - top), min(patch.shape[1], width - left)
    patch, ink = patch[:rows, :columns], bar.ink[:rows, :columns]
    stamped = pixels.copy()
    beneath = stamped[top : top + rows, left : left + columns]
    if bar.boxed:
        beneath[:] = patch
    elif ink.any():
        paper = np.maximum(np.percentile(patch[~ink], 75, axis=0) if not ink.all() else 255, 1)
        darkened = beneath * np.minimum(patch / paper, 1)
        beneath[ink] = np.rint(darkened[ink]).astype(np.uint8)
    return stamped


def drawn_bar(shape: tuple[int, int]) -> tuple[np.ndarray, ScaleBar, tuple[int, int]]:
    """Draw a plain bar on a white box, for fields without one.

    ``shape``: height and width of the field. Returns the patch, the bar and its usual corner.
    """
    height, width = shape
    rows, columns = max(7, round(height * 0.05)), max(12, round(width * 0.11))
    patch = np.full((rows, columns, 3), 255, np.uint8)
    stroke = max(1, rows // 8)
    base = rows - max(2, rows // 4)
    patch[base : base + stroke, columns // 8 : columns - columns // 8] = 0
    for column in (columns // 8, columns - columns // 8 - stroke):
        patch[rows // 3 : base + stroke, column : column + stroke] = 0
    top, left = height - rows - max(1, height // 30), width - columns - max(1, width // 40)
    box = (slice(top, top + rows), slice(left, left + columns))
    return patch, ScaleBar(box, True, patch[..., 0] == 0), (top, left)


def _margin(shape: tuple[int, ...]) -> int:
    return max(1, round(MARGIN * max(shape) / 224))


def _stroke(width: int) -> np.ndarray:
    """What is thinner than this is a stroke."""
    return disc(STROKE * width / 2)


def _contrast(corner: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """How much darker in green than its surroundings each pixel is, uint8."""
    green = np.ascontiguousarray(corner[..., 1].astype(np.uint8))
    return cv2.morphologyEx(green, cv2.MORPH_BLACKHAT, reach)


def _ink(corner: np.ndarray, red: np.ndarray, reach: np.ndarray) -> np.ndarray:
    brightest, darkest = corner.max(axis=2), corner.min(axis=2)
    contrast = _contrast(corner, reach)
    black = (brightest < BLACK_INK) & (brightest - darkest < NEUTRAL)
    return (black & (contrast > BLACK_CONTRAST)) | (red & (contrast > RED_CONTRAST))


def _redness(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0] - np.maximum(pixels[..., 1], pixels[..., 2])


def _faint_ends(corner: np.ndarray, strokes: tuple[slice, slice]) -> tuple[slice, slice]:
    """Rows and columns of red strokes with room for the ends that compression has paled."""
    rows, columns = strokes
    reach = round(FAINT_REACH * (columns.stop - columns.start))
    return rows, slice(max(0, columns.start - reach), min(corner.shape[1], columns.stop + reach))


def _strokes(ink: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    """Rows and columns of the group of strokes that looks most like a bar with letters."""
    height, width = shape[:2]
    joined = cv2.morphologyEx(ink.astype(np.uint8), cv2.MORPH_CLOSE, disc(STROKE_GAP * width))
    count, labels = cv2.connectedComponents(joined, connectivity=8)
    best, most = None, 0
    for label in range(1, count):
        rows, columns = np.nonzero((labels == label) & ink)
        if not len(rows):
            continue
        tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        fits = wide >= MIN_WIDTH * width and tall <= MAX_HEIGHT * height
        if fits and wide >= MIN_ELONGATION * tall and len(rows) > most:
            most = len(rows)
            best = (
                slice(int(rows.min()), int(rows.max()) + 1),
                slice(int(columns.min()), int(columns.max()) + 1),
            )
    return best


def _white_box(corner: np.ndarray, strokes: tuple[slice, slice]) -> tuple[slice, slice]:
    """Rows and columns of the strokes and of the white around them."""
    white = corner.min(axis=2) > WHITE
    rows, columns = strokes
    top, bottom, left, right = rows.start, rows.stop, columns.start, columns.stop
    reach_down = round(BOX_REACH[0] * (bottom - top))
    reach_across = round(BOX_REACH[1] * (right - left))
    limits = (
        max(0, top - reach_down),
        min(white.shape[0], bottom + reach_down),
        max(0, left - reach_across),
        min(white.shape[1], right + reach_across),
    )
    grown = True
    while grown:
        before = (top, bottom, left, right)
        if top > limits[0] and white[top - 1, left:right].mean() >= BOX_WHITE:
            top -= 1
        if bottom < limits[1] and white[bottom, left:right].mean() >= BOX_WHITE:
            bottom += 1
        if left > limits[2] and white[top:bottom, left - 1].mean() >= BOX_WHITE:
            left -= 1
        if right < limits[3] and white[top:bottom, right].mean() >= BOX_WHITE:
            right += 1
        grown = before != (top, bottom, left, right)
    return slice(top, bottom), slice(left, right)
