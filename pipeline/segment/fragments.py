"""Pieces of one cell: a lobed nucleus seeds several, and they are joined again."""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy import ndimage

from pipeline.segment.regions import EIGHT, compactness, dilated, disc, neighbours

Window = tuple[slice, slice]

#: Two pieces join where they gain this much by it.
MIN_GAIN = 0.05

#: What the length of the common border counts, and the length, in diameters of the smaller piece,
#: that speaks neither for nor against. Touching cells are round and meet in a short border.
BORDER_WEIGHT = 0.35
NEUTRAL_BORDER = 0.6

#: An island is one cell if it fills this share of a circle, and chromatin this share of it.
MIN_COMPACTNESS = 0.78
MIN_CHROMATIN = 0.1
#: Bridges to what lies around are cut up to this width, in radii of a typical nucleus.
BRIDGE = 0.25

#: Pieces meet if at most this many pixels lie between them.
TOUCHING = 2.0


def standing_alone(stained: np.ndarray, nuclei: np.ndarray, radius: float) -> np.ndarray:
    """Find stained islands that are one white cell, with nothing attached.

    ``stained``: bool. ``nuclei``: int32 labels. ``radius``: of a typical nucleus in pixels.
    Returns int32 labels of the islands.
    """
    kernel = disc(BRIDGE * radius)
    opened = cv2.morphologyEx((stained | (nuclei > 0)).astype(np.uint8), cv2.MORPH_OPEN, kernel)
    islands, count = ndimage.label(ndimage.binary_fill_holes(opened), EIGHT)
    chromatin = np.bincount(islands.ravel(), nuclei.ravel() > 0, minlength=count + 1)
    area = np.bincount(islands.ravel(), minlength=count + 1)
    alone = np.zeros(nuclei.shape, np.int32)
    for island, window in enumerate(ndimage.find_objects(islands), start=1):
        if chromatin[island] < MIN_CHROMATIN * area[island]:
            continue
        mask = islands[window] == island
        if compactness(mask) >= MIN_COMPACTNESS:
            alone[window][mask] = island
    return alone


def owners(nuclei: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Give all nuclei on one island to the first of them. Returns the new label of each label."""
    owner = np.arange(int(nuclei.max()) + 1)
    for island, window in enumerate(ndimage.find_objects(alone), start=1):
        if window is not None:
            labels = np.unique(nuclei[window][alone[window] == island])
            labels = labels[labels > 0]
            owner[np.isin(owner, labels)] = labels[0]
    return owner


def include(cells: np.ndarray, nuclei: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Add each island to the cell whose nucleus lies on it."""
    grown = cells.copy()
    for island, window in enumerate(ndimage.find_objects(alone), start=1):
        if window is not None:
            mask = alone[window] == island
            label = nuclei[window][mask].max()
            grown[window][mask & (grown[window] == 0)] = label
    return grown


def join_fragments(cells: np.ndarray) -> np.ndarray:
    """Join pieces that are more compact together than apart, the best pair first.

    ``cells``: int32 labels. Returns ``owner``, integer ``(largest label + 1,)``: the label that
    takes over each label.
    """
    owner = np.arange(int(cells.max()) + 1)
    windows = ndimage.find_objects(cells)
    touching = [(a, b) for _, a, b in neighbours(cells, TOUCHING)]
    known: dict[tuple[int, int], float] = {}
    while True:
        pairs = {
            (int(min(owner[a], owner[b])), int(max(owner[a], owner[b])))
            for a, b in touching
            if owner[a] != owner[b]
        }
        for pair in pairs - known.keys():
            known[pair] = _gain(cells, owner, windows, pair)
        best = max(sorted(pairs), key=lambda pair: known[pair], default=None)
        if best is None or known[best] < MIN_GAIN:
            return owner
        owner[owner == best[1]] = best[0]
        known = {pair: gain for pair, gain in known.items() if best[0] not in pair}


def _gain(
    cells: np.ndarray, owner: np.ndarray, windows: list[Window | None], pair: tuple[int, int]
) -> float:
    members = [
        window
        for label, window in enumerate(windows, start=1)
        if window is not None and owner[label] in pair
    ]
    rows = slice(min(w[0].start for w in members), max(w[0].stop for w in members))
    columns = slice(min(w[1].start for w in members), max(w[1].stop for w in members))
    view = owner[cells[rows, columns]]
    first, second = view == pair[0], view == pair[1]
    areas = int(first.sum()), int(second.sum())
    apart = (areas[0] * compactness(first) + areas[1] * compactness(second)) / sum(areas)
    border = int((first & dilated(second, EIGHT)).sum())
    across = 2 * math.sqrt(min(areas) / math.pi)
    return compactness(first | second) - apart + BORDER_WEIGHT * (border / across - NEUTRAL_BORDER)
