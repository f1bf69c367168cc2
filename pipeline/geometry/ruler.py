"""Red cells as a ruler: about 7.5 micrometres in every smear, whatever the microscope."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.geometry.arcs import Arcs, find_arcs
from pipeline.geometry.foreground import find_foreground

#: Longest side of the image that is measured. Larger fields are reduced first: the red cells of a
#: usual field are then 20 to 70 pixels wide, and a field takes a tenth of a second.
WORKING_SIDE = 1024

#: Where red cells come out smaller than this in the reduced field (pixels), its middle is measured
#: again at full resolution.
COARSEST_DIAMETER = 16.0

#: Smaller red cells (pixels of the measured image) cannot be told from grains of noise, which come
#: out at 8 to 12 where a field shows nothing else.
SMALLEST_DIAMETER = 14.0

#: Width (in the logarithm of the radius) of the kernel that finds the commonest radius; red cells
#: of one field scatter by about as much.
KERNEL = 0.1

#: Radii this near to the commonest one (logarithm) belong to the same kind of cell.
SAME_SIZE = 0.2

#: Least evidence for a diameter: the number of whole outlines (put together from arcs) that agree
#: on it, times their share of all arcs. One third of a cell will do where there is nothing else, as
#: in crops; several must agree where most arcs are of other sizes, as in crowded fields.
MINIMUM_EVIDENCE = 0.2

#: Share of the image that these outlines must enclose, lest a speck pass for the red cells of a
#: crop. Training fields have 0.4 to 12 %, crops of single cells 0.8 % and more.
MINIMUM_COVER = 0.004

#: A red cell measures between these multiples of a white cell's diameter (7.5 um against 7 to
#: 20 um, with room for cells that were outlined badly).
WHITE_CELL_RATIOS = (0.25, 1.5)


@dataclass(frozen=True)
class RedCells:
    """``diameter``: commonest red-cell diameter in pixels, None if none could be measured.

    ``cells``: how many whole outlines agree on it (put together from arcs). ``share``: of all arcs
    found, by length. ``background``: uint8 ``(3,)``, colour between the cells, None if unknown.
    """

    diameter: float | None
    cells: float
    share: float
    background: np.ndarray | None


UNKNOWN = RedCells(diameter=None, cells=0.0, share=0.0, background=None)


def measure_red_cells(
    pixels: np.ndarray, white: np.ndarray, white_diameter: float | None = None
) -> RedCells:
    """Measure the commonest red-cell diameter of a field with square pixels.

    ``pixels``: uint8 ``(height, width, 3)``. ``white``: bool ``(height, width)``, white cells.
    ``white_diameter``: their usual diameter in pixels; bounds what may pass for a red cell.
    """
    height, width = white.shape
    scale = min(1.0, WORKING_SIDE / max(height, width))
    whole = _measure(_reduced(pixels, scale), _reduced_mask(white, scale), white_diameter, scale)
    too_coarse = whole.diameter is None or whole.diameter * scale < COARSEST_DIAMETER
    if scale == 1.0 or not too_coarse:
        return whole
    top, left = max(0, (height - WORKING_SIDE) // 2), max(0, (width - WORKING_SIDE) // 2)
    middle = np.s_[top : top + WORKING_SIDE, left : left + WORKING_SIDE]
    closer = _measure(pixels[middle], white[middle], white_diameter, 1.0)
    return whole if closer.diameter is None else closer


def _measure(
    pixels: np.ndarray, white: np.ndarray, white_diameter: float | None, scale: float
) -> RedCells:
    white = cv2.dilate(white.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    foreground = find_foreground(pixels, white)
    if foreground is None:
        return UNKNOWN
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    mask = cv2.morphologyEx(foreground.mask.astype(np.uint8), cv2.MORPH_OPEN, disc) > 0
    arcs = find_arcs(mask | white, white)
    plausible = arcs
    if white_diameter is not None:
        limits = (ratio * white_diameter * scale / 2 for ratio in WHITE_CELL_RATIOS)
        plausible = _between(arcs, *limits)
    if not len(plausible.radius):
        return RedCells(None, 0.0, 0.0, foreground.background)
    radius, cells = _commonest(plausible)
    share = _share(arcs, radius)
    agreed = (
        2 * radius >= SMALLEST_DIAMETER
        and cells * share >= MINIMUM_EVIDENCE
        and cells * np.pi * radius**2 >= MINIMUM_COVER * white.size
    )
    return RedCells(2 * radius / scale if agreed else None, cells, share, foreground.background)


def _between(arcs: Arcs, smallest: float, largest: float) -> Arcs:
    kept = (arcs.radius >= smallest) & (arcs.radius <= largest)
    return Arcs(arcs.radius[kept], arcs.span[kept])


def _commonest(arcs: Arcs) -> tuple[float, float]:
    """Mode of the radius, and how many whole outlines there are of about that radius."""
    log_radius = np.log(arcs.radius)
    bins = np.arange(log_radius.min() - 3 * KERNEL, log_radius.max() + 4 * KERNEL, KERNEL / 10)
    votes, _ = np.histogram(log_radius, bins, weights=arcs.span)
    kernel = np.exp(-0.5 * np.square(np.arange(-30, 31) / 10))
    mode = bins[np.convolve(votes, kernel, mode="same").argmax()] + KERNEL / 20
    near = np.abs(log_radius - mode) < SAME_SIZE
    return float(np.exp(mode)), float((1 / (2 * np.pi * arcs.radius[near])).sum())


def _share(arcs: Arcs, radius: float) -> float:
    near = np.abs(np.log(arcs.radius / radius)) < SAME_SIZE
    return float(arcs.span[near].sum() / arcs.span.sum())


def _reduced(pixels: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1.0:
        return pixels
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _reduced_mask(mask: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1.0:
        return mask
    reduced = cv2.resize(
        mask.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST
    )
    return reduced > 0
