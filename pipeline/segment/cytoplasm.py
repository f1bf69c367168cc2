"""Cytoplasm: how far each cell reaches beyond its nucleus."""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy import ndimage

from pipeline.segment.regions import (
    dilated,
    disc,
    distance_outside,
    eroded,
    fill_cells,
    widened,
)

# Distances are in radii of a typical nucleus of the field, evidence and odds in nats.

#: Log odds that a pixel belongs to the cell, right outside its nucleus.
PRIOR_AT_NUCLEUS = 0.7
#: How fast they fall with distance: by SLOPE * distance * (1 + CURVE * distance).
PRIOR_SLOPE = 0.9
PRIOR_CURVE = 0.6

#: Colours that surely are cytoplasm or its edge where the field has cytoplasm: up to this far out.
NEAR = 0.25
#: Colours of red cells and dirt lie beyond this distance, unless they belong to a cell, ...
FAR = 0.6
#: ... and beyond this one they never do.
NEVER = 2.0

#: Colour counts: steps per axis, range of the two colour axes, blur in steps along colour and
#: brightness. Brightness is blurred more, since a red cell is as dark as it is thick.
STEPS = 24
COLOUR_RANGE = (-0.3, 0.9)
COLOUR_BLUR = 0.7
BRIGHTNESS_BLUR = 1.5
#: Added to every share of the counts.
FLOOR = 1e-5

#: Rounds of estimating colours from membership and membership from colours.
ROUNDS = 3
#: Evidence of a colour that is as frequent near nuclei as the typical far one is.
NEUTRAL_EVIDENCE = -1.2
#: Evidence of one pixel is limited to this: it is one pixel.
MAX_EVIDENCE = 4.0
#: Pixels whose every channel lets through more than 1 - EMPTY are empty slide.
EMPTY = 0.05
EMPTY_EVIDENCE = -3.0

#: Blur of the evidence and radii of closing and opening of cells, in nucleus radii.
EVIDENCE_BLUR = 0.04
CLOSE = 0.35
OPEN = 0.15

#: Outlines are tried at these log odds; the one across which the evidence drops most is taken.
LEVELS = (-1.5, -0.75, 0.0, 0.75, 1.5)
#: Drop of the evidence that one unit of log odds away from 0 must earn.
LEVEL_COST = 0.5
#: Evidence beyond these counts as these when outlines are compared.
DROP_RANGE = (-4.0, 3.0)
#: Width, on both sides of the outline, over which the drop is measured.
BAND = 0.12


def cell_evidence(
    transmitted: np.ndarray, nuclei: np.ndarray, radius: float, slope: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weigh for every pixel whether it belongs to a white cell.

    Which colours cytoplasm has is learnt from the field itself: those that are more frequent
    close to nuclei than far away. Colour counts and membership are estimated in turn.

    ``transmitted``: float32 ``(height, width, 3)`` relative to the background. ``nuclei``: bool.
    ``radius``: of a typical nucleus in pixels. Returns log odds and the evidence of colour alone,
    both float32 ``(height, width)``.
    """
    distance = distance_outside(nuclei) / radius
    prior = PRIOR_AT_NUCLEUS - slope * distance * (1 + PRIOR_CURVE * distance)
    prior = np.maximum(prior, -12).astype(np.float32)
    prior[nuclei] = 6
    colour = _colour_index(transmitted)
    empty = transmitted.min(axis=2) > 1 - EMPTY

    counted = ~empty & ~nuclei
    seen, away = colour[counted], distance[counted]
    inside = (away < NEAR).astype(np.float32)
    odds = prior
    for _ in range(ROUNDS):
        member = 1 / (1 + np.exp(-odds[counted]))
        outside = np.where(away > NEVER, 1, (away > FAR) * (1 - member))
        by_colour = _colour_evidence(_counts(seen, inside), _counts(seen, outside))
        evidence = by_colour[colour]
        evidence[empty] = EMPTY_EVIDENCE
        evidence[nuclei] = MAX_EVIDENCE
        evidence = cv2.GaussianBlur(evidence, (0, 0), max(0.7, EVIDENCE_BLUR * radius))
        odds = prior + evidence
        inside = 1 / (1 + np.exp(-odds[counted]))
    return odds, evidence


def _colour_evidence(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Log ratio of a colour's shares inside and outside, against that of the typical far colour.

    Nuclei lie among red cells: what is near them without being cytoplasm has the mix of colours
    that is found everywhere, and that mix must come out as no evidence.
    """
    mass = inside.sum() + 1
    # A field with little beyond the cells says little about what lies beyond.
    ratio = np.log((inside / mass + FLOOR) / (outside / max(mass, float(outside.sum())) + FLOOR))
    ratio += NEUTRAL_EVIDENCE - _weighted_median(ratio, outside)
    return np.clip(ratio, -MAX_EVIDENCE, MAX_EVIDENCE).astype(np.float32)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)]) if total[-1] > 0 else 0.0


def _colour_index(transmitted: np.ndarray) -> np.ndarray:
    """Number the colour of every pixel: blue - green, red - green and brightness in STEPS each."""
    red, green, blue = (transmitted[..., channel] for channel in range(3))
    index = np.zeros(green.shape, np.int32)
    for value, low, high in (
        (blue - green, *COLOUR_RANGE),
        (red - green, *COLOUR_RANGE),
        ((red + green + blue) / 3, 0.0, 1.2),
    ):
        step = ((value - low) * (STEPS / (high - low))).astype(np.int32)
        index = index * STEPS + np.clip(step, 0, STEPS - 1)
    return index


def _counts(colour: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Count colours, blurred so that what was not seen borrows from what is alike."""
    counts = np.bincount(colour, weights, minlength=STEPS**3).reshape(STEPS, STEPS, STEPS)
    blur = (COLOUR_BLUR, COLOUR_BLUR, BRIGHTNESS_BLUR)
    return ndimage.gaussian_filter(counts, blur, mode="nearest").ravel()


def grow(odds: np.ndarray, evidence: np.ndarray, nuclei: np.ndarray, radius: float) -> np.ndarray:
    """Give each nucleus its cytoplasm.

    ``nuclei``: int32 labels. Cells that meet share the land between them by distance from their
    nuclei. Returns int32 labels.
    """
    from skimage.segmentation import watershed

    chromatin = nuclei > 0
    reach = _smooth((odds > min(LEVELS)) | chromatin, radius) | chromatin
    territory = watershed(distance_outside(chromatin), nuclei, mask=reach)
    cells = np.zeros(nuclei.shape, np.int32)
    pad = math.ceil(2 * BAND * radius) + 2
    for label, window in enumerate(ndimage.find_objects(territory), start=1):
        if window is None:
            continue
        view = widened(window, pad)
        own, nucleus = territory[view] == label, nuclei[view] == label
        cells[view][_best_outline(odds[view], evidence[view], own, nucleus, radius)] = label
    return fill_cells(cells)


def _best_outline(
    odds: np.ndarray, evidence: np.ndarray, own: np.ndarray, nucleus: np.ndarray, radius: float
) -> np.ndarray:
    """Choose, among outlines at several odds, the one with cell inside and none outside."""
    best, chosen = -math.inf, nucleus
    # Cytoplasm is as much cell as chromatin is: the nucleus's edge must not look like the cell's.
    evidence = np.clip(evidence, *DROP_RANGE)
    band = disc(BAND * radius)
    for level in LEVELS:
        mask = _smooth((odds > level) & own | nucleus, radius)
        mask = ndimage.binary_fill_holes(mask) & own | nucleus
        inner = mask & ~eroded(mask, band)
        outer = ~mask & dilated(mask, band)
        if not inner.any() or not outer.any():
            continue
        drop = float(evidence[inner].mean() - evidence[outer].mean())
        if drop - LEVEL_COST * abs(level) > best:
            best, chosen = drop - LEVEL_COST * abs(level), mask
    return chosen


def _smooth(mask: np.ndarray, radius: float) -> np.ndarray:
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, disc(CLOSE * radius))
    return cv2.morphologyEx(closed, cv2.MORPH_OPEN, disc(OPEN * radius)) > 0
