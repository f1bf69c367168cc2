"""Cells against background: the first step of measuring red cells."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

#: Pixels on which the background is fitted; a coarse grid is enough for a smooth surface.
GRID_PIXELS = 30_000

#: Rounds of fitting the background and choosing its pixels anew.
ROUNDS = 3

#: Fewer grid pixels than this on either side cannot be told from noise.
MINIMUM_GRID_PIXELS = 50

#: Distance of the two sides in standard deviations of the background. Otsu's threshold splits pure
#: Gaussian noise at 2.6; fields with red cells measured 3.4 to 11.
MINIMUM_SEPARATION = 3.0


@dataclass(frozen=True)
class Foreground:
    """``mask``: bool ``(height, width)``, red cells (and whatever else is no background).

    ``background``: median red, green, blue of the background, uint8 ``(3,)``.
    """

    mask: np.ndarray
    background: np.ndarray


def find_foreground(pixels: np.ndarray, white: np.ndarray) -> Foreground | None:
    """Separate cells from background, or None where there is nothing to separate.

    Works on optical density, projected on the direction in which cells and background differ
    most against their scatter (so that pink, grey and blue red cells are all found), minus a
    quadratic surface through the background (uneven light), cut by Otsu's threshold.

    ``pixels``: uint8 ``(height, width, 3)``. ``white``: bool ``(height, width)``, white cells,
    which take no part.
    """
    height, width = white.shape
    smooth = cv2.GaussianBlur(pixels, (0, 0), 1.0)
    step = max(1, int(np.sqrt(height * width / GRID_PIXELS)))
    grid = smooth[::step, ::step]
    density = _optical_density(grid)
    usable = ~white[::step, ::step]
    if usable.sum() < 2 * MINIMUM_GRID_PIXELS:
        return None

    surface_terms = _surface_terms(*density.shape[:2])
    background = usable & (grid[..., 1] > _otsu(grid[..., 1][usable].astype(np.float64)))
    for _ in range(ROUNDS):
        foreground = usable & ~background
        if min(background.sum(), foreground.sum()) < MINIMUM_GRID_PIXELS:
            return None
        surface, *_ = np.linalg.lstsq(surface_terms[background], density[background], rcond=None)
        residual = density - surface_terms @ surface
        axis = _discriminant(residual[foreground], residual[background])
        value = residual @ axis
        threshold = _otsu(value[usable])
        background = usable & (value <= threshold)
    if not _separated(value[usable & ~background], value[background]):
        return None

    ground = cv2.resize(
        (surface_terms @ (surface @ axis)).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    )
    full = _density_table()[smooth] @ axis.astype(np.float32)
    return Foreground(
        mask=(full - ground) > threshold,
        background=np.median(grid[background], axis=0).astype(np.uint8),
    )


def _density_table() -> np.ndarray:
    # The offset keeps the density of black pixels finite and tames the noise of dark ones.
    return -np.log((np.arange(256, dtype=np.float32) + 8) / 263)


def _optical_density(pixels: np.ndarray) -> np.ndarray:
    return _density_table()[pixels].astype(np.float64)


def _surface_terms(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    x, y = x / width - 0.5, y / height - 0.5
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def _discriminant(foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Fisher's direction with independent channels, of unit length in the sum of its parts."""
    difference = foreground.mean(axis=0) - background.mean(axis=0)
    direction = difference / (foreground.var(axis=0) + background.var(axis=0) + 1e-4)
    return direction / (np.abs(direction).sum() + 1e-9)


def _otsu(values: np.ndarray) -> float:
    low, high = np.percentile(values, [0.5, 99.5])
    span = max(high - low, 1e-6)
    levels = np.clip((values - low) / span * 255, 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(levels.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(low + (level + 0.5) / 255 * span)


def _separated(foreground: np.ndarray, background: np.ndarray) -> bool:
    if min(len(foreground), len(background)) < MINIMUM_GRID_PIXELS:
        return False
    distance = foreground.mean() - background.mean()
    return bool(distance > MINIMUM_SEPARATION * (background.std() + 1e-6))
