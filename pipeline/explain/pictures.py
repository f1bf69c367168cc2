"""Pictures of fields and explanations, as small PNG files.

An explanation is a layer to be laid over the tile it explains: a palette image with transparency,
at twice the network's resolution. The tile is stored once, however many layers there are. Photos
are palette images of at most 256 colours: on a report page they look the same and take a quarter of
the space.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from pipeline.explain.maps import enlarged
from pipeline.results import LimeExplanation
from pipeline.types import FieldTile, SmearImage

#: Longest side of the picture of a field, in pixels.
FIELD_SIDE = 544
#: Pixels of a layer per pixel of the network input.
LAYER_SCALE = 2

#: White between two pictures side by side, in pixels.
GAP = 12

#: Levels of a heat map that a layer tells apart.
LEVELS = 64

#: Palette entries: red, green, blue, opacity.
_CLEAR, _DIMMED, _OUTLINE = (0, 0, 0, 0), (160, 160, 160, 190), (255, 221, 0, 255)
_RED, _BLUE = (214, 39, 40), (31, 119, 180)
#: Opacity of the strongest weight, and of a class activation map.
_STRONGEST, _MAP = 190, 128


def draw_field(image: SmearImage) -> bytes:
    """The whole field, reduced to FIELD_SIDE."""
    scale = min(1.0, FIELD_SIDE / max(image.width, image.height))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return _photo(cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA))


def draw_tile(tile: FieldTile) -> bytes:
    """What the layers lie over; square, as the network is shown it."""
    return _photo(tile.pixels)


def draw_top_regions(superpixels: np.ndarray, lime: LimeExplanation) -> bytes:
    """The top regions outlined, everything else dimmed."""
    regions = _doubled(superpixels)
    numbers = [region.number for region in lime.top_regions]
    levels = np.where(np.isin(regions, numbers), 0, 1).astype(np.uint8)
    for number in numbers:
        outline, _ = cv2.findContours(
            (regions == number).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(levels, outline, -1, 2, LAYER_SCALE)
    return _layer(levels, [_CLEAR, _DIMMED, _OUTLINE])


def draw_weights(superpixels: np.ndarray, weights: np.ndarray) -> bytes:
    """All regions, red where they speak for the label, blue against; the strongest most opaque."""
    strongest = np.abs(weights).max(initial=0.0)
    shares = weights / strongest if strongest > 0 else weights
    steps = np.rint(shares * LEVELS).astype(int) + LEVELS
    palette = [
        (*(_RED if step > 0 else _BLUE), round(_STRONGEST * abs(step) / LEVELS))
        for step in range(-LEVELS, LEVELS + 1)
    ]
    return _layer(steps[_doubled(superpixels)].astype(np.uint8), palette)


def draw_cam(cam: np.ndarray, size: int) -> bytes:
    """A class activation map in 0..1 on an input of ``size`` (viridis: dark blue 0, yellow 1)."""
    smooth = np.clip(enlarged(cam, LAYER_SCALE * size), 0, 1)
    levels = np.rint(smooth * (LEVELS - 1)).astype(np.uint8)
    return _layer(levels, [(*colour, _MAP) for colour in viridis()])


def viridis() -> list[tuple[int, int, int]]:
    """The colour of every level, from 0 to 1."""
    steps = np.rint(np.linspace(0, 255, LEVELS)).astype(np.uint8)[None]
    colours = cv2.cvtColor(cv2.applyColorMap(steps, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    return [(int(red), int(green), int(blue)) for red, green, blue in colours[0]]


def laid_over(tile: bytes, layer: bytes, size: tuple[int, int]) -> bytes:
    """A layer over its tile as one PNG of ``size`` (width, height), for people to open."""
    with Image.open(io.BytesIO(tile)) as below, Image.open(io.BytesIO(layer)) as above:
        ground = below.convert("RGBA").resize(size, Image.Resampling.BILINEAR)
        over = above.convert("RGBA").resize(size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    Image.alpha_composite(ground, over).convert("RGB").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def beside(first: bytes, second: bytes) -> bytes:
    """Two PNG files in one, side by side, the second as high as the first."""
    with Image.open(io.BytesIO(first)) as left, Image.open(io.BytesIO(second)) as right:
        width = max(1, round(right.width * left.height / right.height))
        both = Image.new("RGB", (left.width + GAP + width, left.height), "white")
        both.paste(left.convert("RGB"))
        scaled = right.convert("RGB").resize((width, left.height), Image.Resampling.BILINEAR)
        both.paste(scaled, (left.width + GAP, 0))
    buffer = io.BytesIO()
    both.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _doubled(superpixels: np.ndarray) -> np.ndarray:
    return superpixels.repeat(LAYER_SCALE, axis=0).repeat(LAYER_SCALE, axis=1)


def _layer(levels: np.ndarray, palette: Sequence[tuple[int, ...]]) -> bytes:
    picture = Image.fromarray(levels).convert("P")
    picture.putpalette([part for colour in palette for part in colour[:3]])
    buffer = io.BytesIO()
    opacity = bytes(colour[3] for colour in palette)
    picture.save(buffer, "PNG", optimize=True, transparency=opacity)
    return buffer.getvalue()


def _photo(pixels: np.ndarray) -> bytes:
    palette = Image.fromarray(pixels).quantize(
        256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
