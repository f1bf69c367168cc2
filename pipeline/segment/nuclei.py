"""Nuclei: where they are, and which parts make one."""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy import ndimage

from pipeline.segment.regions import EIGHT, distance_inside, neighbours

#: Weight of missing red light in nucleus-ness. Red light tells chromatin from pale cytoplasm in
#: most stains, but grey-blue red cells take out more of it than pink nuclei do.
RED_WEIGHT = -0.1

#: Bounds of the automatic threshold on nucleus-ness. Below the first lie red cells and cytoplasm
#: in every stain seen, above the second only nuclei.
THRESHOLD_BOUNDS = (0.10, 0.34)

#: How much a threshold is preferred for lying in a valley of the histogram, at most 1.
VALLEY_EMPHASIS = 0.9

#: A threshold needs this many stained pixels.
MIN_STAINED = 50

#: Parts of chromatin join if one is smaller than this share of a typical nucleus, ...
LOBE_SHARE = 0.45
#: ... the gap is at most this many of its radii, ...
LOBE_GAP = 0.6
#: ... and together they are not larger than this many typical nuclei.
LOBES_TOGETHER = 1.6


def nucleus_ness(transmitted: np.ndarray) -> np.ndarray:
    """How much a pixel looks like stained chromatin.

    Chromatin takes out green most and blue least; haemoglobin takes out blue as much as green.
    ``transmitted``: float32 ``(height, width, 3)`` relative to the background. Returns float32
    ``(height, width)``, about 0 on empty slide and red cells, 0.25 to 0.7 on nuclei.
    """
    red, green, blue = (transmitted[..., channel] for channel in range(3))
    return np.clip(blue - green + RED_WEIGHT * (1 - red), 0, 1)


def nucleus_threshold(ness: np.ndarray) -> float:
    """Find the nucleus-ness between red cells or cytoplasm and nuclei.

    Otsu's criterion with valley emphasis (Ng 2006, Pattern Recognition Letters 27:1644) on the
    square root of the counts of stained pixels: nuclei may fill a hundredth of a field or half.
    """
    low, high = THRESHOLD_BOUNDS
    counts, edges = np.histogram(ness[ness > low / 2], 100, (0, 1))
    if counts.sum() < MIN_STAINED:
        return high
    levels = ndimage.gaussian_filter1d(np.sqrt(counts), 1.5, output=np.float64)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(levels)
    moment = np.cumsum(levels * middles)
    above = below[-1] - below
    allowed = (middles >= low) & (middles <= high) & (below > 0) & (above > 0)
    if not allowed.any():
        return high
    spread = (moment * above - (moment[-1] - moment) * below)[allowed] ** 2
    spread /= (below * above)[allowed]
    spread *= 1 - VALLEY_EMPHASIS * levels[allowed] / levels.max()
    return float(middles[allowed][np.argmax(spread)])


def split_touching(mask: np.ndarray, smoothing: float, depth: float) -> np.ndarray:
    """Cut a mask at its waists: watershed on the distance from its edge.

    ``smoothing``: of the distance, in pixels. ``depth``: how much thinner than both parts, as a
    share of the thinner part, a waist must be. Returns int32 labels.
    """
    from skimage.segmentation import watershed

    blobs, _ = ndimage.label(mask, EIGHT)
    distance = cv2.GaussianBlur(distance_inside(mask), (0, 0), smoothing)
    parts = np.zeros(mask.shape, np.int32)
    found = 0
    for blob, window in enumerate(ndimage.find_objects(blobs), start=1):
        inside = blobs[window] == blob
        markers, count = _summits(distance[window], inside, depth)
        pieces = watershed(-distance[window], markers, mask=inside) if count > 1 else inside
        parts[window][inside] = pieces[inside].astype(np.int32) + found
        found += max(count, 1)
    return parts


def _summits(distance: np.ndarray, mask: np.ndarray, depth: float) -> tuple[np.ndarray, int]:
    """Label the summits from which one must descend by ``depth`` to reach any higher one."""
    from skimage.morphology import reconstruction

    height = np.log(np.maximum(distance, 0.5))
    floor = float(height.min()) - 1
    inside = np.where(mask, height, floor)
    prominence = -math.log(1 - depth)
    flooded = reconstruction(np.maximum(inside - prominence, floor), inside)
    return ndimage.label((inside - flooded > 0.9 * prominence) & mask, EIGHT)


def join_lobes(parts: np.ndarray, radius: float) -> np.ndarray:
    """Join small parts of chromatin that lie close together into one nucleus.

    ``parts``: int32 labels. ``radius``: of a whole nucleus, in pixels. Returns int32 labels.
    """
    full = math.pi * radius**2
    owner = np.arange(int(parts.max()) + 1)
    areas = np.bincount(parts.ravel()).astype(float)
    for _, part, other in neighbours(parts, LOBE_GAP * radius):
        a, b = owner[part], owner[other]
        if a == b or min(areas[a], areas[b]) > LOBE_SHARE * full:
            continue
        if areas[a] + areas[b] < LOBES_TOGETHER * full:
            owner[owner == b] = a
            areas[a] += areas[b]
    return owner[parts].astype(np.int32)
