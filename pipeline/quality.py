"""Technical quality of a field: focus, exposure, and whether there is anything to see.

Everything is measured on the tiles, at the network's scale, so that the resolution of the file does
not matter; the pixels of all tiles are pooled, and padding does not count. What is too blurred,
dark or bright is not typed in here: the limits come from calibration images and are part of the
model bundle. Only ``blank`` is a matter of definition. Sharpness and exposure are judged where the
network looks: to one that is shown white cells alone, neither a ground that a lamp has bleached nor
the letters of a scale bar matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from pipeline.errors import ConfigurationError
from pipeline.results import Quality, Record, Share
from pipeline.stain import normalise_stain
from pipeline.types import FieldGeometry, WhiteCells

#: Part of a field.
Part = Literal["field", "white_cells"]

#: Share of calibration images beyond a limit before the margin is added.
TAIL = 0.01

#: A limit lies this much farther from the median than the tail does. Half again: images of slides
#: that took no part in the calibration scatter more than those that did. Shares are compared as
#: log odds, since one that is near 0 or 1 for good images could not move farther out otherwise.
MARGIN = 0.5

#: Images of white cells whose exposure is longer than any calibration image's by this much are
#: still good. Their networks take gains out and were trained with larger ones, pixels that burn out
#: included. Darker ones are not: cells that let less light through than any calibration cell are
#: more often of another kind than of another exposure.
LONGER_EXPOSURE = 1.1

#: Nearest to 0 or 1 that a share is told apart: less than one pixel of a tile.
SMALLEST_SHARE = 1e-5

#: Variance, or median size, of the Laplacian (luminance 0 to 255) below which the logarithm stops;
#: for one grey level of rounding noise both are about 1.
FLOOR = 1e-3

#: A field is blank if less of it stands out from its smooth background. Three red
#: cells alone on a whole field make up 2.5 % with their smoothed rims, five 5 %; the emptiest
#: training field has 31 %.
BLANK_SHARE = 0.04

#: Levels of any channel (0 to 255) by which a cell stands out.
CONTRAST_OF_CELLS = 12.0

#: Standard deviation of the smoothing, pixels of a tile; it leaves 0.19 of the noise.
SMOOTHING = 1.5
REMAINING_NOISE = 1 / (2 * np.sqrt(np.pi) * SMOOTHING)

#: In noisy fields, a cell stands out by this many standard deviations of what noise remains.
NOISE_MULTIPLE = 5.0

#: The outline of a white cell is sharp even where its inside is blurred; this is left out.
OUTLINE = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))

#: Spots smaller than this many pixels of a tile are noise; a red cell has about 210.
SMALLEST_SPOT = 50


class QualityNumbers(Record):
    """What is measured; see ``pipeline.results.Quality`` for the first five.

    In a field without white cells, theirs are those of the field.
    """

    focus: float
    brightness: float
    contrast: float
    saturated: Share
    cell_detail: float
    cell_brightness: Share = Field(description="brightness of the white cells")
    cell_saturated: Share = Field(description="of the white cells' pixels")
    cell_saturated_longer: Share = Field(
        description="of the white cells' pixels, at an exposure LONGER_EXPOSURE times as long"
    )
    stained: Share = Field(description="share of the field that stands out from its background")


class QualityLimits(Record):
    """Limits beyond which a field is unlike the calibration images.

    ``exposed``: where brightness and saturation are judged. ``min_focus``: of the field; None if
    only that of its white cells matters.
    """

    min_focus: float | None
    min_cell_detail: float | None = None
    min_brightness: float
    max_brightness: float
    max_saturated: float
    exposed: Part = "field"


def measure_quality(geometry: FieldGeometry, cells: WhiteCells, limits: QualityLimits) -> Quality:
    """Measure a field and say what is wrong with it, in the order of ``Quality.reasons``."""
    numbers = quality_numbers(geometry, cells)
    brightness, saturated = _exposure(numbers, limits.exposed)
    found = {
        "blurred": limits.min_focus is not None and numbers.focus < limits.min_focus,
        "cells_blurred": limits.min_cell_detail is not None
        and numbers.cell_detail < limits.min_cell_detail,
        "dark": brightness < limits.min_brightness,
        "bright": brightness > limits.max_brightness or saturated > limits.max_saturated,
        "blank": numbers.stained < BLANK_SHARE,
        "no_white_cell": not cells.cells,
    }
    return Quality(
        focus=numbers.focus,
        brightness=numbers.brightness,
        contrast=numbers.contrast,
        saturated=numbers.saturated,
        cell_detail=numbers.cell_detail if cells.cells else None,
        reasons=[reason for reason, applies in found.items() if applies],
    )


def quality_numbers(geometry: FieldGeometry, cells: WhiteCells) -> QualityNumbers:
    """Measure a field without judging it.

    Focus after Pech-Pacheco et al. 2000 (doi:10.1109/ICPR.2000.903548).
    """
    visible = list(_visible_parts(geometry, cells))
    luminance = [cv2.cvtColor(part.pixels, cv2.COLOR_RGB2GRAY) for part in visible]
    pooled = np.concatenate([part.ravel() for part in luminance]) / 255
    laplacian = np.concatenate([_laplacian(part).ravel() for part in luminance])
    saturated = np.concatenate([_saturated(part.pixels) for part in visible])
    stained = np.concatenate([_stained(part.pixels).ravel() for part in visible])
    in_cells = np.concatenate([part.white_cells.ravel() for part in visible])
    if not in_cells.any():
        in_cells[:] = True
    cell_pixels = np.concatenate([part.pixels.reshape(-1, 1, 3) for part in visible])[in_cells]
    low, middle, high = np.percentile(pooled, [5, 50, 95])
    return QualityNumbers(
        focus=_log_variance(laplacian),
        brightness=float(middle),
        contrast=float(high - low),
        saturated=float(saturated.mean()),
        cell_detail=_cell_detail(visible),
        cell_brightness=float(np.median(pooled[in_cells])),
        cell_saturated=float(saturated[in_cells].mean()),
        cell_saturated_longer=float(_saturated(_exposed_longer(cell_pixels)).mean()),
        stained=float(stained.mean()),
    )


def quality_limits(
    measurements: Sequence[QualityNumbers], exposed: Part = "field"
) -> QualityLimits:
    """Limits from calibration images, for a network that is shown this part of the field.

    Each is the 1 % (or 99 %) quantile, moved half its distance from the median farther out (of the
    log odds for brightness and saturation). Raises ConfigurationError without calibration images.
    """
    if not measurements:
        raise ConfigurationError(
            "quality limits need calibration images and there are none; "
            "give more calibration groups to the training command"
        )
    exposures = np.array([_exposure(m, exposed) for m in measurements])
    longest = np.array([_longest_exposure(m, exposed) for m in measurements])
    brightness, _ = _log_odds(exposures).T
    brightest, saturated = _log_odds(longest).T
    focus = np.array([m.focus for m in measurements])
    return QualityLimits(
        min_focus=_limit(focus, TAIL) if exposed == "field" else None,
        min_cell_detail=_limit(np.array([m.cell_detail for m in measurements]), TAIL),
        min_brightness=_share(_limit(brightness, TAIL)),
        max_brightness=_share(_limit(brightest, 1 - TAIL)),
        max_saturated=_share(_limit(saturated, 1 - TAIL)),
        exposed=exposed,
    )


def _exposure(numbers: QualityNumbers, part: Part) -> tuple[float, float]:
    """Brightness and saturated share of the part."""
    if part == "white_cells":
        return numbers.cell_brightness, numbers.cell_saturated
    return numbers.brightness, numbers.saturated


def _longest_exposure(numbers: QualityNumbers, part: Part) -> tuple[float, float]:
    """Brightness and saturated share of the part at the longest exposure that is still good."""
    if part == "white_cells":
        brightness = min(numbers.cell_brightness * LONGER_EXPOSURE, 1.0)
        return brightness, numbers.cell_saturated_longer
    return _exposure(numbers, part)


def _exposed_longer(pixels: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(pixels, alpha=LONGER_EXPOSURE)


def _limit(values: np.ndarray, quantile: float) -> float:
    middle, tail = np.quantile(values, [0.5, quantile])
    return float(tail + MARGIN * (tail - middle))


def _log_odds(shares: np.ndarray) -> np.ndarray:
    shares = np.clip(shares, SMALLEST_SHARE, 1 - SMALLEST_SHARE)
    return np.log(shares / (1 - shares))


def _share(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-log_odds)))


@dataclass(frozen=True)
class _VisiblePart:
    """What a tile shows of the field, without its padding; see ``FieldTile``."""

    pixels: np.ndarray
    white_cells: np.ndarray


def _visible_parts(geometry: FieldGeometry, cells: WhiteCells) -> Iterator[_VisiblePart]:
    height, width = cells.labels.shape
    for tile in geometry.tiles:
        rows = _visible(tile.box.y, tile.box.height, height, tile.pixels.shape[0])
        columns = _visible(tile.box.x, tile.box.width, width, tile.pixels.shape[1])
        yield _VisiblePart(tile.pixels[rows, columns], tile.white_cells[rows, columns])


def _visible(start: int, length: int, limit: int, size: int) -> slice:
    # Whole pixels of the tile only, so that none is mixed with padding.
    first = -(-max(0, -start) * size // length)
    last = (min(length, limit - start) * size) // length
    return slice(first, max(last, first + 1))


def _laplacian(luminance: np.ndarray) -> np.ndarray:
    if min(luminance.shape) < 3:
        return np.zeros((1, 1))
    # The outermost pixels have no neighbours of their own.
    return cv2.Laplacian(luminance, cv2.CV_64F)[1:-1, 1:-1]


def _log_variance(values: np.ndarray) -> float:
    return float(np.log10(max(values.var() if values.size else 0.0, FLOOR)))


def _cell_detail(parts: Sequence[_VisiblePart]) -> float:
    """Sharpness inside the white cells, with the stain taken out.

    That makes it independent of light and dye, which the sharpness of a field is not. The median,
    since a few sharp places remain at the outlines of cells that have none inside.
    """
    anywhere = any(part.white_cells.any() for part in parts)
    found = [np.zeros(0)]
    for part in parts:
        mask = part.white_cells if anywhere else np.ones_like(part.white_cells)
        shown = normalise_stain(part.pixels, mask).mean(axis=2)
        inside = cv2.erode(mask.astype(np.uint8), OUTLINE, borderValue=0)[1:-1, 1:-1] > 0
        found.append(_laplacian(shown)[inside])
    values = np.abs(np.concatenate(found))
    return float(np.log10(max(np.median(values) if values.size else 0.0, FLOOR)))


def _saturated(pixels: np.ndarray) -> np.ndarray:
    return (np.all(pixels == 255, axis=2) | np.all(pixels == 0, axis=2)).ravel()


def _stained(pixels: np.ndarray) -> np.ndarray:
    """Spots that stand out from a smooth background, bool ``(height, width)``."""
    smooth = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), SMOOTHING)
    least = max(CONTRAST_OF_CELLS, NOISE_MULTIPLE * REMAINING_NOISE * _noise(pixels))
    mask = (np.abs(smooth - _smooth_surface(smooth)).max(axis=2) > least).astype(np.uint8)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    large = statistics[:, cv2.CC_STAT_AREA] >= SMALLEST_SPOT
    large[0] = False
    return large[labels]


def _noise(pixels: np.ndarray) -> float:
    """Standard deviation of the noise between neighbouring pixels, levels of 0 to 255.

    J. Immerkaer 1996 (doi:10.1006/cviu.1996.0060). Cells add up to 3 levels to it.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = np.abs(cv2.filter2D(pixels.astype(np.float32), -1, kernel))
    return float(np.sqrt(np.pi / 2) / 6 * response.mean())


def _smooth_surface(channels: np.ndarray) -> np.ndarray:
    """Fourth-order polynomial through every channel: uneven light and vignetting, not cells."""
    height, width = channels.shape[:2]
    across = np.vander(np.linspace(-1, 1, width), 5, increasing=True)
    down = np.vander(np.linspace(-1, 1, height), 5, increasing=True)
    # Every fourth pixel is enough to fit 15 numbers.
    terms = np.einsum("yj,xi->yxji", down[::4], across[::4])
    low_order = np.add.outer(np.arange(5), np.arange(5)) < 5
    wanted = channels[::4, ::4]
    factors = np.zeros((5, 5, channels.shape[2]))
    factors[low_order], *_ = np.linalg.lstsq(
        terms[:, :, low_order].reshape(-1, int(low_order.sum())),
        wanted.reshape(-1, channels.shape[2]),
        rcond=None,
    )
    return np.einsum("yj,jic,xi->yxc", down, factors, across, optimize=True).astype(np.float32)


__all__ = [
    "QualityLimits",
    "QualityNumbers",
    "measure_quality",
    "quality_limits",
    "quality_numbers",
]
