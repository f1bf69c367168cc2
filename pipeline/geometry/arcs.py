"""Circular arcs on outlines: the second step of measuring red cells.

Overlapping cells hide part of each other, but what is visible of an outline is still an arc of a
circle. So no cell has to be separated: a circle is fitted to every stretch of every outline, in
one vectorised pass per length of stretch, and the stretches that are circular tell their radius.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

#: Radii looked for, in pixels of the working image.
SMALLEST_RADIUS, LARGEST_RADIUS = 5.0, 160.0

#: Shorter arcs (radians) say too little about their radius; a full circle has 6.3.
SHORTEST_SPAN, LONGEST_SPAN = 2.4, 6.6

#: Root mean square distance from the fitted circle, as a share of the radius, and the part of it
#: (pixels) that comes from outlines running along whole pixels.
ROUGHNESS, PIXEL_NOISE = 0.05, 0.3

#: Digital outlines are longer than the curves they follow (steps of 1 and sqrt(2)).
OUTLINE_EXCESS = 0.95

#: Ratio of one stretch length to the next.
LENGTH_STEP = 1.15

SHORTEST_OUTLINE = 24
SHORTEST_STRETCH = 14.0


@dataclass(frozen=True)
class Arcs:
    """``radius`` (pixels) and ``span`` (radians) of the longest circular arc at each position.

    float64 ``(positions,)``; a position is a pixel of an outline, so every cell speaks in
    proportion to how much of its outline is visible.
    """

    radius: np.ndarray
    span: np.ndarray


def find_arcs(mask: np.ndarray, excluded: np.ndarray) -> Arcs:
    """Fit circles to the outlines of ``mask``, leaving out what touches ``excluded`` or the edge.

    Both bool ``(height, width)``. Only arcs with the mask on their inner side count: the rims of
    cells, not of their pallor or of gaps. Circles by Kåsa's algebraic least squares (I. Kåsa 1976,
    doi:10.1109/TIM.1976.6312298) from running sums along the outlines.
    """
    outlines = _outlines(mask)
    if not outlines:
        return Arcs(np.zeros(0), np.zeros(0))
    lengths = np.array([len(outline) for outline in outlines])
    first = np.cumsum(lengths) - lengths
    single = np.concatenate(outlines)
    # Each outline twice, one behind the other, so that stretches may run past its first point.
    length_at = np.repeat(lengths, 2 * lengths)
    position = np.arange(2 * len(single)) - np.repeat(2 * first, 2 * lengths)
    is_start = position < length_at
    points = single[np.repeat(first, 2 * lengths) + position % length_at]
    means = np.add.reduceat(single, first) / lengths[:, None]
    centres = np.repeat(means, 2 * lengths, axis=0)
    sums = _running_sums(points, points - centres, _barred(points, excluded))

    radius, span = np.zeros(len(points)), np.zeros(len(points))
    stretch = SHORTEST_STRETCH
    while stretch < LONGEST_SPAN * LARGEST_RADIUS:
        count = int(stretch)
        stretch *= LENGTH_STEP
        start = np.nonzero(is_start & (length_at >= count))[0]
        if not len(start):
            break
        chosen, r, s, centre = _fit(sums[:, start + count] - sums[:, start], count)
        start = start[chosen]
        inside = _mask_on_inner_side(mask, points[start + count // 2], centre + centres[start])
        radius[start[inside]], span[start[inside]] = r[inside], s[inside]
    found = radius > 0
    return Arcs(radius[found], span[found])


def _outlines(mask: np.ndarray) -> list[np.ndarray]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [c[:, 0, :].astype(np.float64) for c in contours if len(c) >= SHORTEST_OUTLINE]


def _barred(points: np.ndarray, excluded: np.ndarray) -> np.ndarray:
    height, width = excluded.shape
    x, y = points.astype(int).T
    at_edge = (x < 2) | (y < 2) | (x > width - 3) | (y > height - 3)
    return at_edge | excluded[y, x]


def _running_sums(points: np.ndarray, local: np.ndarray, barred: np.ndarray) -> np.ndarray:
    x, y = local.T
    w = x * x + y * y
    step = np.append(np.hypot(*np.diff(points, axis=0).T), 0)
    terms = np.stack([x, y, x * x, x * y, y * y, w, x * w, y * w, w * w, barred, step])
    return np.concatenate([np.zeros((len(terms), 1)), np.cumsum(terms, axis=1)], axis=1)


def _fit(sums: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Indexes of the stretches that are arcs, with radius, span and centre of each."""
    mx, my, xx, xy, yy, mw, xw, yw, ww = sums[:9] / count
    barred, length = sums[9:]
    cxx, cxy, cyy = xx - mx * mx, xy - mx * my, yy - my * my
    cxw, cyw, cww = xw - mx * mw, yw - my * mw, ww - mw * mw
    determinant = cxx * cyy - cxy * cxy
    bent = (barred == 0) & (determinant > 1e-6)
    determinant = np.where(bent, determinant, 1.0)
    # x^2 + y^2 = p x + q y + c in the least squares sense; the centre is (p / 2, q / 2).
    p = (cxw * cyy - cyw * cxy) / determinant
    q = (cyw * cxx - cxw * cxy) / determinant
    scatter = np.maximum(cww - p * cxw - q * cyw, 0)
    squared = mw - p * mx - q * my + (p * p + q * q) / 4
    r = np.sqrt(np.maximum(squared, 1e-9))
    s = OUTLINE_EXCESS * length / r
    chosen = np.nonzero(
        bent
        & (r > SMALLEST_RADIUS)
        & (r < LARGEST_RADIUS)
        & (s > SHORTEST_SPAN)
        & (s < LONGEST_SPAN)
        & (np.sqrt(scatter) / (2 * r) < ROUGHNESS * r + PIXEL_NOISE)
    )[0]
    return chosen, r[chosen], s[chosen], np.stack([p[chosen] / 2, q[chosen] / 2], axis=1)


def _mask_on_inner_side(mask: np.ndarray, rim: np.ndarray, centre: np.ndarray) -> np.ndarray:
    inward = centre - rim
    inward /= np.linalg.norm(inward, axis=1, keepdims=True) + 1e-9
    height, width = mask.shape
    x, y = np.round(rim + 3 * inward).astype(int).T
    return mask[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
