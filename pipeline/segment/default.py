"""The default method, from field to masks."""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy import ndimage

from pipeline.segment.background import black_surround, transmittance
from pipeline.segment.cytoplasm import PRIOR_SLOPE, cell_evidence, grow
from pipeline.segment.fragments import include, join_fragments, owners, standing_alone
from pipeline.segment.nuclei import join_lobes, nucleus_ness, nucleus_threshold, split_touching
from pipeline.segment.red_cells import red_cell_radius, stained_threshold
from pipeline.segment.regions import (
    EIGHT,
    dilated,
    drop_small,
    fill_cells,
    tidy,
    typical_radius,
    widened,
)

#: Fields are worked on at most this large, in pixels; a white cell is then still 25 across.
WORKING_SIDE = 900

#: Blur against compression noise, in pixels of the working size.
NOISE_BLUR = 0.8

#: Specks of chromatin are dropped below this share of a typical nucleus, or of a disc of this
#: share of a red cell's radius.
MIN_PART = 0.06
MIN_PART_RADIUS = 0.6

#: Two nuclei touch where their common mask has a waist thinner than both by this share.
WAIST_DEPTH = 0.25
#: ... on a distance blurred by this share of a typical nucleus's radius.
WAIST_BLUR = 0.08

#: Nuclei of this many red cells' radius are whole ones, even if most of the field's are lobes.
NUCLEUS_IN_RED_CELLS = 1.0

#: Slope of the prior in the first of two passes. Lobes of one nucleus are smaller than a nucleus,
#: so the first pass must reach further for the cell that they lie in to become whole.
FIRST_SLOPE = 0.4 * PRIOR_SLOPE

#: What is no white cell: its nucleus is smaller than this share of a red cell, like a platelet, ...
MIN_NUCLEUS_IN_RED_CELLS = 0.3
#: ... or than this share of a typical nucleus of the field, ...
MIN_NUCLEUS_IN_NUCLEI = 0.2
#: ... or hardly has the colour of chromatin: a red cell in a field without white cells.
MIN_NUCLEUS_NESS = 0.18

#: An image at most this many red cells across is a crop. Somebody cut it around a cell, so that the
#: object in its middle third is kept if its nucleus has this share of a red cell's area.
CROP_IN_RED_CELLS = 6.0
MIN_CROPPED_NUCLEUS = 0.15

#: Holes and specks of nuclei up to this share of a nucleus's radius are chromatin texture.
NUCLEUS_TEXTURE = 0.3

#: Pieces of a cut-out smaller than this share of the largest are crumbs.
MIN_CUT_OUT = 0.1
#: Dark specks up to this share of all cut-outs are no part of a nucleus.
CUT_OUT_SPECK = 0.01


def white_cell_masks(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find white cells and their nuclei.

    ``pixels``: uint8 ``(height, width, 3)``, RGB. Returns labels, int32, and nuclei, bool, both
    ``(height, width)``.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    surround = black_surround(pixels)
    labels, nuclei = _in_field(pixels) if surround is None else _cut_out(pixels, surround)
    return _enlarged(labels, nuclei, (width, height)) if scale < 1 else (labels, nuclei)


def _in_field(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    transmitted = cv2.GaussianBlur(transmittance(pixels), (0, 0), NOISE_BLUR)
    ness = nucleus_ness(transmitted)
    chromatin = ness > nucleus_threshold(ness)
    chromatin = cv2.morphologyEx(chromatin.astype(np.uint8), cv2.MORPH_OPEN, EIGHT) > 0
    stained = transmitted.min(axis=2) < 1 - stained_threshold(transmitted)
    red = red_cell_radius(stained, dilated(chromatin, np.ones((5, 5)))) or 0.0

    nuclei = _separate_nuclei(chromatin, red)
    if not nuclei.any():
        return nuclei, nuclei > 0
    alone = standing_alone(stained, nuclei, typical_radius(nuclei))
    nuclei = owners(nuclei, alone)[nuclei].astype(np.int32)
    cells = nuclei
    for slope in (FIRST_SLOPE, PRIOR_SLOPE):
        radius = typical_radius(nuclei)
        odds, evidence = cell_evidence(transmitted, nuclei > 0, radius, slope)
        cells = grow(odds, evidence, nuclei, radius)
        cells = include(cells, nuclei, alone)
        owner = join_fragments(cells)
        nuclei = owner[nuclei].astype(np.int32)
        cells = fill_cells(owner[cells].astype(np.int32))

    radius = typical_radius(nuclei)
    cells = _reject(cells, nuclei, ness, radius, red)
    return cells, tidy(chromatin, (NUCLEUS_TEXTURE * radius) ** 2) & (cells > 0)


def _separate_nuclei(chromatin: np.ndarray, red: float) -> np.ndarray:
    blobs, _ = ndimage.label(ndimage.binary_fill_holes(chromatin), EIGHT)
    radius = typical_radius(blobs)
    smallest = MIN_PART * math.pi * max(radius, MIN_PART_RADIUS * red) ** 2
    blobs = drop_small(blobs, smallest)
    parts = split_touching(blobs > 0, max(NOISE_BLUR, WAIST_BLUR * radius), WAIST_DEPTH)
    return join_lobes(parts, max(typical_radius(parts), NUCLEUS_IN_RED_CELLS * red))


def _reject(
    cells: np.ndarray, nuclei: np.ndarray, ness: np.ndarray, radius: float, red: float
) -> np.ndarray:
    """Drop platelets, debris and red cells, by the size and colour of what seemed a nucleus."""
    count = int(cells.max()) + 1
    area = np.bincount(nuclei.ravel(), minlength=count)
    colour = np.bincount(nuclei.ravel(), ness.ravel(), minlength=count) / np.maximum(area, 1)
    smallest = math.pi * max(MIN_NUCLEUS_IN_NUCLEI * radius**2, MIN_NUCLEUS_IN_RED_CELLS * red**2)
    pale = colour < MIN_NUCLEUS_NESS
    rejected = (area < smallest) | pale
    if max(cells.shape) <= CROP_IN_RED_CELLS * 2 * red:
        middle = tuple(slice(side // 3, side - side // 3) for side in cells.shape)
        central = np.bincount(nuclei[middle].ravel(), minlength=count) > area / 2
        rejected &= pale | ~central | (area < MIN_CROPPED_NUCLEUS * math.pi * red**2)
    return np.where(rejected[cells], 0, cells).astype(np.int32)


def _cut_out(pixels: np.ndarray, surround: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take each piece on black as a cell, and its darker part as the nucleus."""
    from skimage.filters import threshold_otsu

    labels, _ = ndimage.label(~surround, EIGHT)
    areas = np.bincount(labels.ravel())
    labels = drop_small(labels, max(20, MIN_CUT_OUT * areas[1:].max(initial=0)))
    inside = labels > 0
    if not inside.any():
        return labels, inside
    # Blurred without the black, which would darken the rim of the cell into nucleus.
    weight = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.5)
    green = cv2.GaussianBlur(np.where(inside, pixels[..., 1], 0).astype(np.float32), (0, 0), 1.5)
    green /= np.maximum(weight, 1e-3)
    nuclei = inside & (green <= threshold_otsu(green[inside]))
    # Pale spots within a nucleus are chromatin too.
    return labels, ndimage.binary_fill_holes(tidy(nuclei, CUT_OUT_SPECK * inside.sum()))


def _enlarged(
    labels: np.ndarray, nuclei: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Bring masks to the original's size, each half-way between pixels, without stairs."""
    width, height = size
    large = np.zeros((height, width), np.int32)
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        around = widened(window, 2)
        rows = _enlarged_range(around[0], labels.shape[0], height)
        columns = _enlarged_range(around[1], labels.shape[1], width)
        # The centres of the large pixels, in coordinates of the small window.
        y = (np.arange(rows.start, rows.stop) + 0.5) * labels.shape[0] / height - 0.5
        x = (np.arange(columns.start, columns.stop) + 0.5) * labels.shape[1] / width - 0.5
        grid_x, grid_y = np.meshgrid(x - around[1].start, y - around[0].start)
        small = (labels[around] == label).astype(np.float32)
        mask = cv2.remap(
            small,
            grid_x.astype(np.float32),
            grid_y.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        target = large[rows, columns]
        target[(mask >= 0.5) & (target == 0)] = label
    inner = cv2.resize(nuclei.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
    return large, inner & (large > 0)


def _enlarged_range(small: slice, small_size: int, size: int) -> slice:
    stop = min(small.stop, small_size)
    return slice(small.start * size // small_size, math.ceil(stop * size / small_size))
