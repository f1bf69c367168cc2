"""What the stages of the per-image pipeline hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.labels import Label

GeometryMethod = Literal["as_is", "whole_field", "scaled", "padded", "tiled"]


@dataclass(frozen=True)
class SmearImage:
    """A decoded field.

    ``pixels``: uint8 ``(height, width, 3)``, RGB, upright (EXIF orientation applied).
    ``synthetic``: the file says that ``screen samples`` rendered it.
    """

    pixels: np.ndarray
    sha256: str
    synthetic: bool = False

    @property
    def width(self) -> int:
        """Pixels across."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels down."""
        return int(self.pixels.shape[0])


@dataclass(frozen=True)
class Rectangle:
    """Pixels ``x .. x + width - 1`` by ``y .. y + height - 1`` of the original image."""

    x: int
    y: int
    width: int
    height: int

    def contains(self, x: float, y: float) -> bool:
        """Whether the point lies inside."""
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height


@dataclass(frozen=True)
class WhiteCell:
    """One white cell; see ``pipeline.results.Cell`` for units."""

    number: int
    box: Rectangle
    outline: tuple[tuple[int, int], ...]
    centre: tuple[float, float]
    area: float
    nucleus_area: float
    nucleus_to_cytoplasm_ratio: float | None
    roundness: float
    mean_colour: tuple[int, int, int]
    touches_edge: bool


@dataclass(frozen=True)
class WhiteCells:
    """All white cells of a field.

    ``labels``: int32 ``(height, width)``, 0 outside, else the number of the cell.
    ``nuclei``: bool ``(height, width)``, a subset of ``labels > 0``.
    """

    cells: tuple[WhiteCell, ...]
    labels: np.ndarray
    nuclei: np.ndarray


@dataclass(frozen=True)
class FieldTile:
    """One network input.

    ``pixels``: uint8 ``(size, size, 3)``, RGB. ``box``: the part of the original it shows, which
    may reach beyond the image where the tile was padded. ``white_cells`` and ``nuclei``: bool
    ``(size, size)``, where white cells and their nuclei lie. ``cell_count``: cells whose centre
    lies in ``box``.
    """

    pixels: np.ndarray
    box: Rectangle
    white_cells: np.ndarray
    nuclei: np.ndarray
    cell_count: int


@dataclass(frozen=True)
class FieldGeometry:
    """How a field becomes network inputs; see ``pipeline.results.Geometry``."""

    method: GeometryMethod
    red_cell_diameter: float | None
    scale_known: bool
    tiles: tuple[FieldTile, ...]


@dataclass(frozen=True)
class ClassScores:
    """What the network says of a field.

    ``probabilities``: float64 ``(classes,)`` in the order of ``LABELS``, sums to 1.
    ``embedding``: float32 ``(dimensions,)``. ``tile_probabilities``: float64 ``(tiles, classes)``.
    ``decisive_tile``: index of the tile that speaks most clearly for ``label``.
    """

    label: Label
    probabilities: np.ndarray
    embedding: np.ndarray
    tile_probabilities: np.ndarray
    decisive_tile: int
