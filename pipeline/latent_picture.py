"""Pictures of the latent map: where images lie among the references.

References are small dots in the colours of their classes, and each class is named where it is
densest, so that a grey print can be read too. Small PNG files with a palette, like all pictures.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.labels import CLASS_COLOURS, REFERENCE_LABELS, Label, ReferenceLabel
from pipeline.latent_map import LatentMap
from pipeline.neighbours import Neighbours
from pipeline.results import Flag, MapPosition

#: Pixels of a picture's side, of the margin around the map, and of letters.
SIDE, MARGIN, LETTERS = 448, 20, 21

#: Pictures are drawn so many times larger and then reduced, for smooth edges.
_SCALE = 2
#: Colours of the palette: what smooth edges of five classes need.
_COLOURS = 64

#: Radii in pixels: references, neighbours, images of a run; ring around the image, and its ticks.
_DOT, _NEIGHBOUR, _IMAGE, _RING, _TICK = 1.4, 3.6, 3.6, 11.0, 18.0
#: Share of a reference's colour in its dot; the rest is white, so that what is drawn over it shows.
_STRENGTH = 0.6

_INK, _PAPER = "#1b2430", "#ffffff"

_NAMES: dict[ReferenceLabel, str] = {
    "benign": "benign",
    "early_b": "Early-B",
    "pre_b": "Pre-B",
    "pro_b": "Pro-B",
    "malignant": "malignant",
}

#: Boxes along each side in which references are counted to find where a class is densest.
_BOXES = 10


class PlacedImage(NamedTuple):
    """An image of a run: where it lies, and what became of it."""

    x: float
    y: float
    label: Label
    flag: Flag


@dataclass(frozen=True, eq=False)
class MapPicture:
    """All references, drawn once; images are laid over them.

    ``ground``: RGB, ``_SCALE * SIDE`` square. ``names``: place and name of every class.
    """

    ground: Image.Image
    names: tuple[tuple[float, float, str], ...]

    @classmethod
    def of(cls, latent_map: LatentMap) -> MapPicture:
        """Draw the references."""
        points, labels = latent_map.points, latent_map.labels
        ground = Image.new("RGB", (_SCALE * SIDE, _SCALE * SIDE), _PAPER)
        draw = ImageDraw.Draw(ground)
        colours = [_pale(CLASS_COLOURS[label]) for label in REFERENCE_LABELS]
        for (x, y), label in zip(points.tolist(), labels.tolist(), strict=True):
            _dot(draw, x, y, _DOT, colours[label])
        names = tuple(
            (*_densest(points[labels == number]), _NAMES[REFERENCE_LABELS[number]])
            for number in sorted(set(labels.tolist()))
        )
        return cls(ground, names)

    def of_image(self, position: MapPosition, neighbours: Neighbours) -> bytes:
        """An image, and lines to its nearest references, as PNG."""
        picture = self.ground.copy()
        draw = ImageDraw.Draw(picture)
        ends = list(zip(position.neighbours, neighbours.nearest, strict=True))
        self._write_names(draw)
        for width, colour in ((4, _PAPER), (1.5, _INK)):
            _crosshair(draw, position.x, position.y, round(width * _SCALE), colour)
            for end, _ in ends:
                line = (_at(position.x, position.y), _at(*end))
                draw.line(line, fill=colour, width=round(width * _SCALE))
        for (x, y), neighbour in ends:
            _dot(draw, x, y, _NEIGHBOUR, CLASS_COLOURS[neighbour.label], _INK)
        return _png(picture)

    def of_run(self, images: Iterable[PlacedImage]) -> bytes:
        """All images of a run as PNG: their colour is the label, hollow where confidence is low."""
        picture = self.ground.copy()
        draw = ImageDraw.Draw(picture)
        for image in images:
            colour = CLASS_COLOURS[image.label]
            inside, rim = (colour, _INK) if image.flag == "high" else (_PAPER, colour)
            _dot(draw, image.x, image.y, _IMAGE, inside, rim)
        self._write_names(draw)
        return _png(picture)

    def _write_names(self, draw: ImageDraw.ImageDraw) -> None:
        for x, y, name in self.names:
            left, top = _at(x, y)
            half = draw.textlength(name, _font()) / 2
            # Names at the rim are moved in.
            left = min(max(left, half + 4), _SCALE * SIDE - half - 4)
            draw.text(
                (left, top),
                name,
                fill=_INK,
                font=_font(),
                anchor="mm",
                stroke_width=3 * _SCALE,
                stroke_fill=_PAPER,
            )


def _densest(points: np.ndarray) -> tuple[float, float]:
    """The middle of the points in the box that holds most of them."""
    boxes = np.minimum((points * _BOXES).astype(int), _BOXES - 1) @ (_BOXES, 1)
    fullest = np.bincount(boxes).argmax()
    x, y = points[boxes == fullest].mean(axis=0).tolist()
    return x, y


def _at(x: float, y: float) -> tuple[float, float]:
    inner = SIDE - 2 * MARGIN
    return _SCALE * (MARGIN + x * inner), _SCALE * (MARGIN + y * inner)


def _dot(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    radius: float,
    colour: str,
    rim: str | None = None,
) -> None:
    draw.circle(_at(x, y), radius * _SCALE, fill=colour, outline=rim, width=round(1.3 * _SCALE))


def _crosshair(draw: ImageDraw.ImageDraw, x: float, y: float, width: int, colour: str) -> None:
    """A ring with four ticks: the neighbours inside stay visible."""
    across, down = _at(x, y)
    ring, tick = _RING * _SCALE, _TICK * _SCALE
    draw.circle((across, down), ring + width / 2, outline=colour, width=width)
    for right, below in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        start = (across + right * ring, down + below * ring)
        end = (across + right * tick, down + below * tick)
        draw.line((start, end), fill=colour, width=width)


def _pale(colour: str) -> str:
    parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    mixed = [round(_STRENGTH * part + (1 - _STRENGTH) * 255) for part in parts]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(LETTERS * _SCALE)


def _png(picture: Image.Image) -> bytes:
    small = picture.reduce(_SCALE)
    buffer = io.BytesIO()
    palette = small.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
