"""Training examples of the white-cell network: a field's white cells, moved, on a sheet.

Nothing that is not a white cell may teach the network anything. So the cells are cut out, turned,
mirrored and scaled one by one, photographed as if by another camera, and laid out anew: where they
lay, how they were turned and how the slide was stained says nothing any more. A sheet is smaller
than a field because white cells cover a tenth of it, which makes training several times cheaper;
the network is convolutional, so that it takes both. Of a crowded field every sheet holds other
cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from pipeline.stain import normalise_stain

SHEET_SIZE = 96

#: Training fields are 4:3, squashed to squares: cells are turned as they were before.
WIDENING = 4 / 3

#: How often a piece is only mirrored and turned upside down. Every other movement interpolates, and
#: a network that has only seen smoothed cells is at a loss before sharp ones.
SHARP_SHARE = 0.5

#: Largest change of size of all cells of a sheet and of one of them (natural logarithm), as far as
#: slides and cells of one kind differ.
SHEET_ZOOM, CELL_ZOOM = 0.09, 0.06

#: The camera: gain of each channel, mixing of channels, gamma (natural logarithm), offset.
GAIN, MIXING, GAMMA, OFFSET = 0.2, 0.03, 0.1, 0.03

#: After normalisation: contrast (natural logarithm) and brightness of each channel.
CONTRAST, BRIGHTNESS = 0.15, 0.04

#: How often a cell is blurred, a sheet grainy and a field compressed once more, and how much. The
#: finest detail belongs to camera and compression, not to the cell.
BLUR_SHARE, BLUR_SIGMA = 0.1, (0.3, 0.8)
GRAIN_SHARE, GRAIN = 0.1, 0.02
JPEG_SHARE, JPEG_QUALITY = 0.25, (70, 97)

#: Connected pieces of fewer pixels are fragments.
SMALLEST_PIECE = 40

#: Rows of cells lower than this are not begun.
SMALLEST_ROW = 16

_NEIGHBOURHOOD = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))

Piece = tuple[np.ndarray, np.ndarray]


def cell_sheet(
    pixels: np.ndarray, mask: np.ndarray, rng: np.random.Generator, size: int = SHEET_SIZE
) -> np.ndarray:
    """Lay the white cells of a field on a sheet, as the ``white_cells`` view shows them.

    ``pixels``: uint8 ``(height, width, 3)``. ``mask``: bool ``(height, width)``, where white cells
    lie. Pieces come in random order until the sheet is full. Returns float32 ``(size, size, 3)`` in
    0..1, zero where there is no cell.
    """
    pieces = list(_pieces(_compressed(pixels, rng), mask))
    zoom = math.exp(rng.uniform(-SHEET_ZOOM, SHEET_ZOOM))
    sheet, laid = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
    left = top = row = 0
    for number in rng.permutation(len(pieces)):
        cell, cell_mask = _moved(pieces[number], zoom, rng, size)
        height, width = cell_mask.shape
        if left + width > size:
            left, top, row = 0, top + row, 0
        if size - top < SMALLEST_ROW:
            break
        height = min(height, size - top)
        sheet[top : top + height, left : left + width] = cell[:height]
        laid[top : top + height, left : left + width] = cell_mask[:height]
        left, row = left + width, max(row, height)
    cells = laid > 127
    shown = normalise_stain(_photographed(sheet, rng), cells).astype(np.float32) / 255
    return _varied(shown, rng) * cells[..., None]


def upper_halves(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The upper halves of two sheets on one; rows are begun at the top, so the lower are emptier.

    Both float32 ``(size, size, 3)``, as the result.
    """
    half = len(first) // 2
    return np.concatenate([first[:half], second[: len(first) - half]])


def _compressed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= JPEG_SHARE:
        return pixels
    quality = int(rng.integers(*JPEG_QUALITY))
    # OpenCV takes the channels for blue, green, red; here and back again.
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(decoded[..., ::-1])


def _pieces(pixels: np.ndarray, mask: np.ndarray) -> Iterator[Piece]:
    """Connected white cells with their masks (255 inside), cut out with a margin."""
    height, width = mask.shape
    count, labels, found, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    for number in range(1, count):
        x, y, w, h, area = found[number]
        if area < SMALLEST_PIECE:
            continue
        rows = slice(max(0, y - 2), min(height, y + h + 2))
        columns = slice(max(0, x - 2), min(width, x + w + 2))
        yield pixels[rows, columns], np.where(labels[rows, columns] == number, 255, 0).astype("u1")


def _moved(piece: Piece, zoom: float, rng: np.random.Generator, size: int) -> Piece:
    """Move a piece; what is larger than a sheet is cut at random."""
    cell, mask = piece
    # Segmentation draws the outline now a little wider, now a little narrower.
    outline = rng.integers(3)
    if outline:
        mask = (cv2.erode if outline == 1 else cv2.dilate)(mask, _NEIGHBOURHOOD)
    if rng.random() >= SHARP_SHARE:
        return _turned(cell, mask, zoom, rng, size)
    down, across = (slice(None, None, rng.choice((-1, 1))) for _ in range(2))
    top, left = (rng.integers(max(0, side - size) + 1) for side in mask.shape)
    window = slice(top, top + size), slice(left, left + size)
    return cell[down, across][window], mask[down, across][window]


def _turned(
    cell: np.ndarray, mask: np.ndarray, zoom: float, rng: np.random.Generator, size: int
) -> Piece:
    """Turn by any angle, mirror and scale."""
    height, width = mask.shape
    angle = rng.uniform(0, 2 * math.pi)
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    zoom *= math.exp(rng.uniform(-CELL_ZOOM, CELL_ZOOM))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    unsquashed = turn @ np.diag([mirror, 1.0]) * zoom
    linear = np.diag([1 / WIDENING, 1]) @ unsquashed @ np.diag([WIDENING, 1])

    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width / 2, height / 2] @ linear.T
    whole = np.ceil(np.ptp(corners, axis=0)).astype(int) + 1
    kept = np.minimum(whole, size)
    shift = kept / 2 - linear @ [width / 2, height / 2]
    shift += rng.uniform(-0.5, 0.5, 2) * (whole - kept)
    matrix = np.hstack([linear, shift[:, None]])

    shape = (int(kept[0]), int(kept[1]))
    cell = cv2.warpAffine(
        cell, matrix, shape, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    if rng.random() < BLUR_SHARE:
        cell = cv2.GaussianBlur(cell, (0, 0), rng.uniform(*BLUR_SIGMA))
    return cell, cv2.warpAffine(mask, matrix, shape, flags=cv2.INTER_LINEAR)


def _photographed(sheet: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sheet with another light and another camera, whose channels may saturate."""
    colours = np.diag(1 + rng.uniform(-GAIN, GAIN, 3)) + MIXING * rng.normal(size=(3, 3))
    gamma = math.exp(rng.uniform(-GAMMA, GAMMA))
    offset = rng.uniform(-OFFSET, OFFSET)
    light = sheet.astype(np.float32) / 255 @ colours.T.astype(np.float32) + np.float32(offset)
    light = np.clip(light, 1 / 255, 1) ** np.float32(gamma)
    if rng.random() < GRAIN_SHARE:
        light = light + rng.normal(scale=GRAIN, size=light.shape).astype(np.float32)
    return np.clip(np.rint(light * 255), 0, 255).astype(np.uint8)


def _varied(shown: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contrast and brightness that normalisation leaves; never zero, which would be no cell."""
    contrast = np.float32(math.exp(rng.uniform(-CONTRAST, CONTRAST)))
    brightness = rng.uniform(-BRIGHTNESS, BRIGHTNESS, 3).astype(np.float32)
    return np.clip((shown - 0.5) * contrast + 0.5 + brightness, 1 / 255, 1)
