"""What light passes where nothing lies: the reference that makes colours comparable."""

from __future__ import annotations

import math

import cv2
import numpy as np

#: Darker than any stained cell: the surround of cells that were cut out on black.
BLACK = 8

#: A cut-out has at least this share of black, and the black reaches the image's edge.
MIN_BLACK_SHARE = 0.15

#: Bins of the brightness histogram in which the background is the brightest broad peak.
BINS = 64

#: The brightest peak counts as background from this share of the highest peak on; less is a
#: frame, a text box or a reflection.
MIN_PEAK = 0.15

#: Transmittance is cut off here; what is brighter than its background is glare.
MAX_TRANSMITTANCE = 1.2

#: Uneven light is fitted to pixels that differ from the background by less than this, in turn.
ILLUMINATION_TOLERANCES = (0.12, 0.08)

#: ... to about this many of them, provided that they make up this share of the field.
FIT_PIXELS = 20_000
MIN_EMPTY_SHARE = 0.08
#: A little weight on flat light keeps corners without empty slide from running away.
FLATNESS = 0.01
#: The light is never thought to differ more from the middle's than by these factors.
ILLUMINATION_BOUNDS = (0.7, 1.3)


def black_surround(pixels: np.ndarray) -> np.ndarray | None:
    """Find the black around cells that were cut out of their field.

    ``pixels``: uint8 ``(height, width, 3)``. Returns bool ``(height, width)``, or None where the
    image is an ordinary field.
    """
    dark = pixels.max(axis=2) < BLACK
    if dark.mean() < MIN_BLACK_SHARE:
        return None
    count, labels = cv2.connectedComponents(dark.astype(np.uint8), connectivity=4)
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    at_border = np.zeros(count, bool)
    at_border[border] = True
    at_border[0] = False
    surround = at_border[labels]
    return surround if surround.mean() >= MIN_BLACK_SHARE else None


def background_colour(pixels: np.ndarray) -> np.ndarray:
    """Estimate the colour of the empty slide: the brightest broad peak of the brightness.

    ``pixels``: uint8 ``(height, width, 3)``. Returns float32 ``(3,)``, each at least 1.
    """
    brightness = pixels.astype(np.float32).sum(axis=2)
    counts, edges = np.histogram(brightness, BINS, (0, 766))
    smooth = np.convolve(counts, [1, 2, 3, 2, 1], "same")
    padded = np.concatenate([[0], smooth, [0]])
    is_peak = (smooth >= padded[:-2]) & (smooth >= padded[2:]) & (smooth > MIN_PEAK * smooth.max())
    brightest = int(np.flatnonzero(is_peak)[-1])
    middle = (edges[brightest] + edges[brightest + 1]) / 2
    near = np.abs(brightness - middle) < 1.5 * (edges[1] - edges[0])
    return np.maximum(np.median(pixels[near], axis=0), 1).astype(np.float32)


def transmittance(pixels: np.ndarray) -> np.ndarray:
    """Divide the field by its background, so that white balance and exposure cancel.

    ``pixels``: uint8 ``(height, width, 3)``. Returns float32 ``(height, width, 3)``, 1 on empty
    slide, 0 where no light passes.
    """
    relative = pixels.astype(np.float32) / background_colour(pixels)
    for tolerance in ILLUMINATION_TOLERANCES:
        relative /= _illumination(relative, tolerance)
    return np.minimum(relative, MAX_TRANSMITTANCE)


def _illumination(relative: np.ndarray, tolerance: float) -> np.ndarray:
    """Fit the empty slide's brightness, per channel, by a quadratic surface in x and y."""
    height, width = relative.shape[:2]
    step = max(1, round(math.sqrt(height * width / FIT_PIXELS)))
    sample = relative[step // 2 :: step, step // 2 :: step]
    empty = np.abs(sample - 1).max(axis=2) < tolerance
    if empty.mean() < MIN_EMPTY_SHARE:
        return np.ones(3, np.float32)
    y, x = np.linspace(-1, 1, sample.shape[0]), np.linspace(-1, 1, sample.shape[1])
    rows, columns = np.nonzero(empty)
    terms = _surface_terms(y[rows], x[columns])
    damping = np.diag([0, 1, 1, 1, 1, 1]) * FLATNESS * len(rows)
    target = sample[empty] - 1
    weights = np.linalg.solve(terms.T @ terms + damping, terms.T @ target)
    full_y, full_x = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    grid_y, grid_x = np.meshgrid(full_y, full_x, indexing="ij")
    surface = _surface_terms(grid_y, grid_x) @ weights
    return np.clip(1 + surface, *ILLUMINATION_BOUNDS).astype(np.float32)


def _surface_terms(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
