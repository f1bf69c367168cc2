"""Filling holes of a field with texture of the same field, as if nothing had been there.

Patches of the field are copied into the hole, one after the other, from its rim inwards, each the
best fitting of many (after Criminisi, Perez, Toyama 2004, doi:10.1109/TIP.2004.833105; the order is
simpler: what has enough known pixels around it comes first), and faded into one another. What fills
a hole is therefore slide, red cells and grain of the very same field; smooth inpainting would leave
blurs that tell where a cell was.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from pipeline.segment.regions import EIGHT, dilated, distance_inside, distance_outside

#: Patches are chosen on a field of about this side, in pixels; larger ones are shrunk for that.
SEARCH_SIDE = 224

#: Sides of the patches, in pixels of that field: a red cell and its rim, or less where white cells
#: leave no room for such a patch.
PATCH_SIDES = (25, 17, 11, 7)

#: A side is used if it has at least this many places to copy from, ...
MIN_PLACES = 60
#: ... of which at most this many are looked at.
MAX_PLACES = 1000

#: A patch is laid where this share of it, or the most there is, covers known pixels.
KNOWN_SHARE = 0.5

#: A patch fits this much worse with every time it was copied, lest one spot be copied all over.
REUSE = 1.3

#: Light differs across a field; patches are made lighter or darker by at most so many levels.
MAX_SHIFT = 10.0

#: Patches are faded into each other, and into the rim of the hole, over so many pixels.
PATCH_FADE, RIM_FADE = 4.0, 3.0


class _Copy(NamedTuple):
    """One patch that is laid: corners (row, column), opacity ``(side, side)``, added colour."""

    target: tuple[int, int]
    source: tuple[int, int]
    opacity: np.ndarray
    shift: np.ndarray


def fill(
    pixels: np.ndarray, hole: np.ndarray, rng: np.random.Generator, avoid: np.ndarray | None = None
) -> np.ndarray:
    """Fill a hole from its surroundings; pixels outside it stay as they are.

    ``pixels``: uint8 ``(height, width, 3)``, RGB. ``hole``, ``avoid``: bool ``(height, width)``;
    nothing is copied from ``avoid``, a scale bar for instance. Returns a new uint8 array. Where
    the hole leaves next to nothing to copy from, it is inpainted smoothly, with noise.
    """
    if not hole.any():
        return pixels.copy()
    height, width = hole.shape
    scale = min(1.0, SEARCH_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    missing = _shrunk(hole, size)
    taboo = missing if avoid is None else missing | _shrunk(avoid, size)
    places = _places(taboo, rng)
    if places is None:
        return _smoothly(pixels, hole, rng)
    filled = pixels.astype(np.float32)
    for copy in _chosen(small, missing, *places):
        _lay(filled, pixels, copy, (height / size[1], width / size[0]))
    opacity = np.minimum(distance_inside(hole) * scale / RIM_FADE, 1)[..., None]
    blended = pixels * (1 - opacity) + filled * opacity
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def _shrunk(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mask on the small field: true wherever any pixel of the large one is."""
    if mask.shape == (size[1], size[0]):
        return mask
    share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    # The pixel beside, too: positions on the two fields agree to a pixel only.
    return dilated(share > 0, EIGHT)


def _places(taboo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, int] | None:
    """Upper left corners ``(places, 2)`` of patches without taboo pixels, and the patches' side."""
    for side in PATCH_SIDES:
        if min(taboo.shape) < side:
            continue
        total = cv2.integral(taboo.astype(np.uint8))
        inside = total[side:, side:] - total[:-side, side:] - total[side:, :-side]
        corners = np.argwhere(inside + total[:-side, :-side] == 0)
        if len(corners) >= MIN_PLACES:
            chosen = rng.permutation(len(corners))[:MAX_PLACES]
            return corners[np.sort(chosen)], side
    return None


def _chosen(pixels: np.ndarray, missing: np.ndarray, corners: np.ndarray, side: int) -> list[_Copy]:
    """Choose patches that cover all that is missing, in the order in which they are laid."""
    picture = pixels.astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(picture, (side, side), axis=(0, 1))
    # (places, rows, columns, channels), and the same as vectors.
    patches = np.moveaxis(windows[corners[:, 0], corners[:, 1]], 1, -1)
    vectors = np.ascontiguousarray(patches).reshape(len(corners), -1)
    squares = np.square(patches).sum(axis=-1).reshape(len(corners), -1)
    penalty = np.ones(len(corners), np.float32)

    copies = []
    known = ~missing
    while not known.all():
        top, left = _next_patch(known, side)
        window = (slice(top, top + side), slice(left, left + side))
        seen = known[window]
        target = np.where(seen[..., None], picture[window], 0)
        # Sum of squared differences over the known pixels, multiplied out.
        # Not as a matrix product: its threads would fight with those of the other processes.
        misfit = np.einsum("ij,j->i", squares, seen.ravel().astype(np.float32))
        misfit -= 2 * np.einsum("ij,j->i", vectors, target.ravel())
        misfit += np.square(target).sum()
        # One grey level of difference beside, so that a perfect fit is not copied for ever.
        best = int(((misfit + max(int(seen.sum()), 1)) * penalty).argmin())
        penalty[best] *= REUSE
        shift = np.zeros(3, np.float32)
        if seen.any():
            shift = np.median((target - patches[best])[seen], axis=0).astype(np.float32)
            shift = np.clip(shift, -MAX_SHIFT, MAX_SHIFT)
        opacity = np.clip(1 - distance_outside(~seen) / PATCH_FADE, 0, 1).astype(np.float32)
        source = (int(corners[best, 0]), int(corners[best, 1]))
        copy = _Copy((top, left), source, np.where(missing[window], opacity, 0), shift)
        _lay(picture, pixels, copy, (1, 1))
        known[window] = True
        copies.append(copy)
    return copies


def _next_patch(known: np.ndarray, side: int) -> tuple[int, int]:
    """Upper left corner of the next patch: one around a missing pixel with enough that is known."""
    height, width = known.shape
    total = cv2.integral(known.astype(np.uint8))
    rows, columns = np.nonzero(~known)
    tops = np.clip(rows - side // 2, 0, height - side)
    lefts = np.clip(columns - side // 2, 0, width - side)
    count = total[tops + side, lefts + side] - total[tops, lefts + side]
    count = count - total[tops + side, lefts] + total[tops, lefts]
    best = int(np.abs(count / side**2 - KNOWN_SHARE).argmin())
    return int(tops[best]), int(lefts[best])


def _lay(picture: np.ndarray, pixels: np.ndarray, copy: _Copy, factor: tuple[float, float]) -> None:
    """Lay a patch of ``pixels`` onto ``picture``, ``factor`` times as large as it was chosen."""
    height, width = picture.shape[:2]
    opacity = copy.opacity
    top, left = (round(corner * by) for corner, by in zip(copy.target, factor, strict=True))
    down, right = (
        round((to - here) * by)
        for to, here, by in zip(copy.source, copy.target, factor, strict=True)
    )
    if factor != (1, 1):
        size = (round(opacity.shape[1] * factor[1]) + 1, round(opacity.shape[0] * factor[0]) + 1)
        opacity = cv2.resize(opacity, size, interpolation=cv2.INTER_LINEAR)
    bottom = min(top + opacity.shape[0], height, height - down)
    end = min(left + opacity.shape[1], width, width - right)
    opacity = opacity[: bottom - top, : end - left, None]
    source = pixels[top + down : bottom + down, left + right : end + right] + copy.shift
    here = picture[top:bottom, left:end]
    here += opacity * (source - here)


def _smoothly(pixels: np.ndarray, hole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Inpaint after Telea 2004 and add noise as strong as the field's."""
    filled = cv2.inpaint(pixels, hole.astype(np.uint8), inpaintRadius=5, flags=cv2.INPAINT_TELEA)
    grain = pixels.astype(np.float32) - cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 1.0)
    around = ~hole if not hole.all() else hole
    noise = rng.normal(0.0, 1.0, pixels.shape) * np.median(np.abs(grain[around]), axis=0) / 0.6745
    noisy = np.clip(np.rint(filled + noise), 0, 255).astype(np.uint8)
    return np.where(hole[..., None], noisy, pixels)
