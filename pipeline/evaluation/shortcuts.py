"""Changes to a field that must, or must not, change what a model says of it.

Each change is a pure function of the pixels, another field where it needs one, and a seeded
generator: uint8 RGB in, uint8 RGB of the same size out. All work at any resolution; lengths are
in pixels of a field of 224 and grow with the image. ``CHANGES`` lists them all.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from pipeline.evaluation.shortcuts_bar import (
    ScaleBar,
    covered,
    drawn_bar,
    find_scale_bar,
    stamp,
)
from pipeline.evaluation.shortcuts_fill import fill
from pipeline.geometry.fit import WIDENING
from pipeline.segment import segment
from pipeline.segment.background import background_colour
from pipeline.segment.regions import dilated, disc, typical_radius

#: Cells have a halo that would tell where they were; it is erased with them.
HALO = 4.0

#: Erasing, and painting over, are repeated on what the segmentation then finds, so often in all.
PASSES = 3

#: Blurred cells keep their place and colour, but no structure: standard deviation in their radius.
CELL_BLUR = 0.6

#: A white cell that lies so far within the scale bar is the bar's ink.
INK_SHARE = 0.5

#: Opacity of a pasted cell on the one row of pixels around it.
SEAM = 0.5

Donor = Literal["none", "same_class", "other_class"]


@dataclass(frozen=True, eq=False)
class Field:
    """A field and what the changes need to know of it.

    ``pixels``: uint8 ``(height, width, 3)``, RGB. ``white``: bool ``(height, width)``, where white
    cells lie, whole cells under a bar included. ``radius``: of a typical one, in pixels.
    """

    pixels: np.ndarray
    white: np.ndarray
    radius: float
    bar: ScaleBar | None

    @classmethod
    def of(cls, pixels: np.ndarray) -> Field:
        """Find white cells and scale bar; ``pixels``: uint8 ``(height, width, 3)``, RGB."""
        bar = find_scale_bar(pixels)
        labels = _without_ink(segment(pixels).labels, bar)
        return cls(pixels, labels > 0, typical_radius(labels), bar)

    @cached_property
    def erased(self) -> np.ndarray:
        """The field without white cells, uint8; computed once."""
        return erase_white_cells(self.pixels)

    @property
    def unit(self) -> float:
        """Pixels that make up one pixel of a field of 224."""
        return _unit(self.pixels)

    def resized(self, shape: tuple[int, int]) -> Field:
        """The same field with ``shape`` (height, width) pixels."""
        if self.pixels.shape[:2] == shape:
            return self
        size = (shape[1], shape[0])
        return Field.of(cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA))


Apply = Callable[[Field, Field | None, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Change:
    """One change. ``title``: for tables. ``donor``: which other field ``apply`` is given."""

    name: str
    title: str
    apply: Apply
    donor: Donor = "none"


def erase_white_cells(pixels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Take the white cells out of a field and fill their place with the field's own texture.

    ``pixels``: uint8 ``(height, width, 3)``, RGB. Cells go with their halo; what the segmentation
    still takes for a white cell afterwards goes too, for a few passes. Pixels far from white cells
    are unchanged. Returns a new uint8 array; equal pixels and seed give equal results.
    """
    rng = np.random.default_rng(seed)
    bar = find_scale_bar(pixels)
    avoid = covered(bar, pixels.shape[:2])
    reach = disc(HALO * _unit(pixels))
    hole = np.zeros(pixels.shape[:2], bool)
    erased = pixels
    for _ in range(PASSES):
        found = _without_ink(segment(erased).labels, bar) > 0
        if not found.any():
            break
        # Filled anew as a whole: what was wrongly filled is no place to copy from.
        hole |= dilated(found, reach)
        erased = fill(pixels, hole, rng, avoid)
    return erased.copy() if erased is pixels else erased


def _without_ink(labels: np.ndarray, bar: ScaleBar | None) -> np.ndarray:
    """Drop what was taken for a white cell and is the lettering of a scale bar."""
    if bar is None:
        return labels
    count = int(labels.max()) + 1
    area = np.bincount(labels.ravel(), minlength=count)
    inside = np.bincount(labels[bar.box].ravel(), minlength=count)
    ink = inside > INK_SHARE * area
    ink[0] = False
    return np.where(ink[labels], 0, labels)


# --- white cells and background -------------------------------------------------------------


def _erased(field: Field, _: Field | None, __: np.random.Generator) -> np.ndarray:
    return field.erased.copy()


def _flat(field: Field, _: Field | None, __: np.random.Generator) -> np.ndarray:
    """Cells painted in the colour of the empty slide, so that their rims and halos stay.

    So is what the segmentation takes for a white cell once those are gone: where a cell that it had
    overlooked is left, a field is not one without white cells.
    """
    ground = np.rint(background_colour(field.pixels))
    painted = field.pixels.copy()
    for _pass in range(PASSES):
        painted[_without_ink(segment(painted).labels, field.bar) > 0] = ground
    return painted


def _cells_blurred(field: Field, _: Field | None, __: np.random.Generator) -> np.ndarray:
    sigma = max(1.0, CELL_BLUR * field.radius)
    blurred = cv2.GaussianBlur(field.pixels, (0, 0), sigma)
    return np.where(field.white[..., None], blurred, field.pixels)


def _on_nothing(field: Field, _: Field | None, __: np.random.Generator) -> np.ndarray:
    ground = np.rint(background_colour(field.pixels)).astype(np.uint8)
    return np.where(field.white[..., None], field.pixels, ground)


def _on_another(field: Field, donor: Field | None, _: np.random.Generator) -> np.ndarray:
    """Cells as they are, on a field without white cells; one row of pixels around them is mixed."""
    ground = _given(donor).erased
    height, width = field.white.shape
    if ground.shape != field.pixels.shape:
        ground = cv2.resize(ground, (width, height), interpolation=cv2.INTER_AREA)
    ring = dilated(field.white, disc(1)) & ~field.white
    opacity = np.where(field.white, 1.0, np.where(ring, SEAM, 0.0))[..., None]
    return np.rint(field.pixels * opacity + ground * (1 - opacity)).astype(np.uint8)


def _given(donor: Field | None) -> Field:
    if donor is None:
        raise ValueError("this change needs another field")
    return donor


# --- scale bar ------------------------------------------------------------------------------


def _bar_erased(field: Field, _: Field | None, rng: np.random.Generator) -> np.ndarray:
    return fill(field.pixels, covered(field.bar, field.white.shape), rng, field.white)


def _bar_moved(field: Field, _: Field | None, rng: np.random.Generator) -> np.ndarray:
    """The bar in the other corner with the fewest white cells; a drawn one where there was none."""
    patch, bar = _patch_of(field)
    height, width = field.white.shape
    rows, columns = bar.box
    down, across = height - rows.stop, width - columns.stop
    corners = [(down, across), (down, columns.start), (rows.start, across)]
    order = rng.permutation(len(corners))
    size = patch.shape[:2]
    corner = min((corners[i] for i in order), key=lambda at: _beneath(field.white, at, size))
    return _stamped(field, patch, bar, corner, rng)


def _bar_copied(field: Field, donor: Field | None, rng: np.random.Generator) -> np.ndarray:
    patch, bar = _patch_of(_given(donor).resized(field.white.shape))
    return _stamped(field, patch, bar, (bar.box[0].start, bar.box[1].start), rng)


def _patch_of(field: Field) -> tuple[np.ndarray, ScaleBar]:
    if field.bar is not None:
        return field.pixels[field.bar.box], field.bar
    patch, bar, _ = drawn_bar(field.white.shape)
    return patch, bar


def _beneath(white: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> int:
    top, left = corner
    return int(white[top : top + size[0], left : left + size[1]].sum())


def _stamped(
    field: Field,
    patch: np.ndarray,
    bar: ScaleBar,
    corner: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Put a bar where there is none; white cells stay on top, so that they are never changed."""
    stamped = stamp(_bar_erased(field, None, rng), patch, bar, corner)
    return np.where(field.white[..., None], field.pixels, stamped)


# --- colour, focus, compression, orientation ------------------------------------------------


def _gained(
    gains: tuple[float, float, float], field: Field, _: Field | None, __: np.random.Generator
) -> np.ndarray:
    return np.clip(np.rint(field.pixels * np.array(gains)), 0, 255).astype(np.uint8)


def _blurred(sigma: float, field: Field, _: Field | None, __: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(field.pixels, (0, 0), sigma * field.unit)


def _compressed(quality: int, field: Field, _: Field | None, __: np.random.Generator) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(field.pixels).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer).convert("RGB"))


def _turned(quarters: int, field: Field, _: Field | None, __: np.random.Generator) -> np.ndarray:
    """Turn a field to the left, so that cells keep their shape.

    A square is taken for a 4:3 field that was squashed, and is turned in that frame. A quarter turn
    loses a strip at both ends of the field, and on the other two sides mirrors what is beside.
    """
    pixels = field.pixels
    if quarters % 2 == 0:
        return np.ascontiguousarray(np.rot90(pixels, quarters))
    height, width = pixels.shape[:2]
    frame = pixels
    if height == width:
        frame = cv2.resize(pixels, (round(width * WIDENING), height), interpolation=cv2.INTER_CUBIC)
    turned = _cropped_or_mirrored(np.rot90(frame, quarters), frame.shape[0], frame.shape[1])
    return cv2.resize(turned, (width, height), interpolation=cv2.INTER_AREA)


def _cropped_or_mirrored(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bring to a size around the middle."""
    padding = [
        (max(0, wanted - found) // 2, max(0, wanted - found) - max(0, wanted - found) // 2)
        for wanted, found in zip((height, width), pixels.shape[:2], strict=True)
    ]
    padded = np.pad(pixels, [*padding, (0, 0)], mode="symmetric")
    top, left = (padded.shape[0] - height) // 2, (padded.shape[1] - width) // 2
    return np.ascontiguousarray(padded[top : top + height, left : left + width])


def _mirrored(field: Field, _: Field | None, __: np.random.Generator) -> np.ndarray:
    return np.ascontiguousarray(field.pixels[:, ::-1])


def _unit(pixels: np.ndarray) -> float:
    return max(1.0, max(pixels.shape[:2]) / 224)


def _gain(gains: tuple[float, float, float]) -> Change:
    red, green, blue = gains
    return Change(
        f"gain_{red:g}_{green:g}_{blue:g}",
        f"red x {red:g}, green x {green:g}, blue x {blue:g}",
        partial(_gained, gains),
    )


def _single(value: float) -> list[Change]:
    return [_gain((value, 1, 1)), _gain((1, value, 1)), _gain((1, 1, value)), _gain((value,) * 3)]


#: Gains within which a camera's white balance and exposure may well differ.
SMALL_GAINS = (
    *_single(0.9),
    *_single(1.1),
    _gain((0.9, 1, 1.1)),
    _gain((1.1, 1, 0.9)),
)
LARGE_GAINS = (*_single(0.8), *_single(1.2))

_ALL = (
    Change("as_is", "as it is", lambda field, _, __: field.pixels.copy()),
    Change("white_cells_erased", "white cells erased, filled from around", _erased),
    Change("white_cells_flat", "white cells painted over, rims stay", _flat),
    Change("white_cells_blurred", "white cells blurred", _cells_blurred),
    Change("only_white_cells", "white cells alone, on flat ground", _on_nothing),
    Change(
        "background_same_class",
        "background of another field, same class",
        _on_another,
        "same_class",
    ),
    Change("background_replaced", "background of another class", _on_another, "other_class"),
    Change("bar_erased", "scale bar erased", _bar_erased),
    Change("bar_moved", "scale bar in another corner", _bar_moved),
    Change("bar_copied", "scale bar of another class", _bar_copied, "other_class"),
    *SMALL_GAINS,
    *LARGE_GAINS,
    *(Change(f"blur_{s:g}", f"blurred, sigma {s:g}", partial(_blurred, s)) for s in (0.5, 1.0)),
    *(Change(f"jpeg_{q}", f"JPEG quality {q}", partial(_compressed, q)) for q in (90, 70, 50)),
    Change("turn_left", "quarter turn left", partial(_turned, 1)),
    Change("turn_right", "quarter turn right", partial(_turned, 3)),
    Change("turn_half", "half turn", partial(_turned, 2)),
    Change("mirror", "mirrored", _mirrored),
)

#: Every change by name, in the order of the report. ``as_is`` is what they are compared with.
CHANGES: dict[str, Change] = {change.name: change for change in _ALL}
AS_IS = "as_is"
