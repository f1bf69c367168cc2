"""White cells: where they lie, and how each kind looks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pipeline.samples.recipe import FieldRecipe, Kind
from pipeline.samples.shapes import (
    Outline,
    Window,
    covered,
    random_outline,
    shape_of,
    texture,
    window,
)

#: Places tried for each white cell before it is left out.
TRIES = 200

#: A cell cut by the edge shows at least this share of its diameter.
SHOWN_AT_EDGE = 0.35


class _Look(NamedTuple):
    """What a kind looks like; lengths in diameters of a usual red cell.

    ``nucleus``: range of the share of the cell's area that the nucleus takes. ``chromatin``:
    density of the nucleus relative to the stain's. ``clumps``: contrast and grain (of a red cell's
    diameter) of its texture. ``basophilia``: how blue the cytoplasm is. ``granules``: how much
    pink there is in it.
    """

    diameter: tuple[float, float]
    nucleus: tuple[float, float]
    roughness: float
    chromatin: float
    clumps: tuple[float, float]
    basophilia: float
    granules: float


_LOOKS: dict[Kind, _Look] = {
    "lymphoblast": _Look((1.55, 2.0), (0.74, 0.92), 0.034, 1.0, (0.09, 0.022), 1.25, 0.0),
    "haematogone": _Look((1.12, 1.45), (0.80, 0.93), 0.026, 1.5, (0.10, 0.045), 1.1, 0.0),
    "neutrophil": _Look((1.6, 1.85), (0.30, 0.38), 0.022, 1.4, (0.16, 0.045), 0.15, 1.0),
    "monocyte": _Look((1.9, 2.25), (0.46, 0.56), 0.030, 0.95, (0.16, 0.035), 0.75, 0.15),
}


@dataclass(frozen=True)
class PlacedCell:
    """A white cell as it was planned; ``outline`` before neighbours press on it."""

    kind: Kind
    centre: tuple[float, float]
    outline: Outline


@dataclass(frozen=True)
class DrawnCell:
    """What of a cell came to lie in the field: masks inside ``window``."""

    window: Window
    body: np.ndarray
    nucleus: np.ndarray


def place_white_cells(
    rng: np.random.Generator, recipe: FieldRecipe, reserved: list[tuple[float, float, float]]
) -> list[PlacedCell]:
    """Scatter the recipe's white cells; ``reserved`` are discs (x, y, radius) to keep clear of."""
    kinds: list[Kind] = []
    for kind, mean in recipe.white_cells.items():
        kinds.extend([kind] * int(rng.poisson(mean)))
    kinds = kinds or [next(iter(recipe.white_cells))] if recipe.white_cells else []
    cells: list[PlacedCell] = []
    for kind in kinds:
        look = _LOOKS[kind]
        radius = recipe.red_cell_diameter * rng.uniform(*look.diameter) / 2
        outline = random_outline(rng, float(radius), stretch=0.06, roughness=look.roughness)
        centre = _find_place(rng, recipe, outline, cells, reserved)
        if centre is not None:
            cells.append(PlacedCell(kind, centre, outline))
    return sorted(cells, key=lambda cell: (cell.centre[1], cell.centre[0]))


def _find_place(
    rng: np.random.Generator,
    recipe: FieldRecipe,
    outline: Outline,
    cells: list[PlacedCell],
    reserved: list[tuple[float, float, float]],
) -> tuple[float, float] | None:
    wants_touch = bool(cells) and rng.random() < recipe.touching
    wants_edge = not wants_touch and rng.random() < recipe.at_edge
    for _ in range(TRIES):
        if wants_touch:
            x, y = _beside(rng, cells[int(rng.integers(len(cells)))], outline.radius)
        elif wants_edge:
            x, y = _on_edge(rng, recipe, outline.radius)
        else:
            margin = outline.radius + 4
            x = rng.uniform(margin, recipe.width - margin)
            y = rng.uniform(margin, recipe.height - margin)
        gap = 0.9 if wants_touch else 1.12
        free = all(
            math.hypot(x - other.centre[0], y - other.centre[1])
            > gap * (outline.radius + other.outline.radius)
            for other in cells
        )
        clear = all(
            math.hypot(x - left, y - top) > outline.radius + radius
            for left, top, radius in reserved
        )
        if free and clear and _is_shown(x, y, outline.radius, recipe):
            return float(x), float(y)
    return None


def _beside(rng: np.random.Generator, other: PlacedCell, radius: float) -> tuple[float, float]:
    direction = rng.uniform(0, 2 * np.pi)
    distance = rng.uniform(0.91, 1.0) * (radius + other.outline.radius)
    x, y = other.centre
    return x + distance * np.cos(direction), y + distance * np.sin(direction)


def _on_edge(rng: np.random.Generator, recipe: FieldRecipe, radius: float) -> tuple[float, float]:
    across = rng.uniform(-(1 - 2 * SHOWN_AT_EDGE), 0.6) * radius
    x, y = rng.uniform(0, recipe.width), rng.uniform(0, recipe.height)
    side = int(rng.integers(4))
    return (
        (across, y),
        (recipe.width - across, y),
        (x, across),
        (x, recipe.height - across),
    )[side]


def _is_shown(x: float, y: float, radius: float, recipe: FieldRecipe) -> bool:
    hidden = (1 - 2 * SHOWN_AT_EDGE) * radius
    return -hidden <= x <= recipe.width + hidden and -hidden <= y <= recipe.height + hidden


def draw_white_cell(
    rng: np.random.Generator,
    density: np.ndarray,
    cell: PlacedCell,
    others: list[PlacedCell],
    recipe: FieldRecipe,
) -> DrawnCell:
    """Put a white cell into ``density``, float32 ``(height, width, 3)``, in place of what is there.

    Where ``others`` press on it, both give way half.
    """
    view = window(shape_of(density), cell.centre, cell.outline.reach + 4)
    depth = cell.outline.depth(view.x, view.y)
    for other in others:
        shift_x = cell.centre[0] - other.centre[0]
        shift_y = cell.centre[1] - other.centre[1]
        pressure = other.outline.depth(view.x + shift_x, view.y + shift_y)
        depth = np.minimum(depth, (depth - pressure) / 2)
    look = _LOOKS[cell.kind]
    nucleus = _nucleus(rng, cell, look, view, depth)

    body, core = covered(depth), covered(nucleus, 1.3)
    painted = _cytoplasm(rng, cell, look, recipe, depth)
    chromatin = _chromatin(rng, look, recipe, nucleus, cell.kind)
    painted += core[:, :, np.newaxis] * (chromatin - painted)
    drawn = body[:, :, np.newaxis]
    density[view.place] = density[view.place] * (1.0 - drawn) + painted * drawn
    return DrawnCell(view, depth > 0, (nucleus > 0) & (depth > 0))


def _cytoplasm(
    rng: np.random.Generator, cell: PlacedCell, look: _Look, recipe: FieldRecipe, depth: np.ndarray
) -> np.ndarray:
    """Density of the cytoplasm: deeper blue at the rim, with granules or now and then vacuoles."""
    stain, unit = recipe.stain, recipe.red_cell_diameter
    tone = float(rng.normal(1.0, 0.12))
    rim = np.exp(-np.clip(depth, 0, None) / (0.07 * unit))
    cloud = texture(rng, shape_of(depth), 0.06 * unit)
    blue = tone * look.basophilia * (0.72 + 0.45 * rim + 0.08 * cloud)
    painted = blue[:, :, np.newaxis] * np.array(stain.cytoplasm, np.float32)
    if look.granules:
        grains = np.clip(texture(rng, shape_of(depth), 0.018 * unit), -1.5, 2.5)
        pink = look.granules * (0.75 + 0.22 * grains)
        painted = painted + pink[:, :, np.newaxis] * np.array(stain.granules, np.float32)
    if cell.kind == "lymphoblast" and rng.random() < 0.25:
        painted *= _vacuoles(rng, cell.outline.radius, depth, unit)[:, :, np.newaxis]
    return painted


def _vacuoles(
    rng: np.random.Generator, radius: float, depth: np.ndarray, unit: float
) -> np.ndarray:
    """1, with a few round clearings near the rim of the cell."""
    clear = np.ones_like(depth)
    rows, columns = np.nonzero((depth > 0.04 * unit) & (depth < 0.35 * radius))
    if not len(rows):
        return clear
    for _ in range(int(rng.integers(2, 7))):
        chosen = int(rng.integers(len(rows)))
        size = unit * rng.uniform(0.025, 0.06)
        y, x = np.ogrid[: depth.shape[0], : depth.shape[1]]
        distance = np.hypot(x - columns[chosen], y - rows[chosen])
        clear = np.minimum(clear, 1.0 - 0.8 * covered(size - distance))
    return clear


def _chromatin(
    rng: np.random.Generator, look: _Look, recipe: FieldRecipe, nucleus: np.ndarray, kind: Kind
) -> np.ndarray:
    """Density of the nucleus: fine or clumped chromatin, a darker membrane, nucleoli in blasts."""
    unit = recipe.red_cell_diameter
    contrast, grain = look.clumps
    shape = shape_of(nucleus)
    clumps = texture(rng, shape, grain * unit) + 0.6 * texture(rng, shape, 2.5 * grain * unit)
    membrane = np.exp(-((np.clip(nucleus, 0, None) / (0.035 * unit)) ** 2))
    amount = 1.0 + contrast * np.clip(clumps, -2.5, 2.5) + 0.10 * membrane
    if kind == "lymphoblast":
        amount *= _nucleoli(rng, nucleus, unit)
    tone = look.chromatin * float(rng.normal(1.0, 0.07))
    hue = rng.normal(1.0, 0.04, 3).astype(np.float32)
    chromatin = np.array(recipe.stain.chromatin, np.float32) * hue
    return (tone * amount)[:, :, np.newaxis] * chromatin


def _nucleoli(rng: np.random.Generator, nucleus: np.ndarray, unit: float) -> np.ndarray:
    """1, with up to three paler discs well inside the nucleus."""
    pale = np.ones_like(nucleus)
    rows, columns = np.nonzero(nucleus > 0.2 * unit)
    for _ in range(int(rng.integers(0, 4)) if len(rows) else 0):
        chosen = int(rng.integers(len(rows)))
        size = unit * rng.uniform(0.06, 0.12)
        y, x = np.ogrid[: nucleus.shape[0], : nucleus.shape[1]]
        distance = np.hypot(x - columns[chosen], y - rows[chosen])
        pale = np.minimum(pale, 1.0 - 0.2 * covered(size - distance, 0.05 * unit))
    return pale


def _nucleus(
    rng: np.random.Generator, cell: PlacedCell, look: _Look, view: Window, body: np.ndarray
) -> np.ndarray:
    """Depth of the nucleus, in pixels, positive inside; always within the cell."""
    share = float(rng.uniform(*look.nucleus))
    radius = cell.outline.radius
    # Nuclei lie off the middle as far as there is room, so that cytoplasm shows on one side.
    direction, room = rng.uniform(0, 2 * np.pi), radius * (1 - np.sqrt(share))
    off = room * rng.uniform(0.3, 0.9) * (0.3 if cell.kind == "neutrophil" else 1.0)
    x, y = view.x - off * np.cos(direction), view.y - off * np.sin(direction)
    if cell.kind == "neutrophil":
        depth = _lobes(rng, radius, share, x, y)
    elif cell.kind == "monocyte":
        depth = _kidney(rng, radius, share, x, y)
    else:
        roughness = 0.028 if cell.kind == "lymphoblast" else 0.016
        outline = random_outline(
            rng, float(radius * np.sqrt(share)), stretch=0.05, roughness=roughness
        )
        depth = outline.depth(x, y)
        if cell.kind == "lymphoblast" and rng.random() < 0.45:
            depth = _rounded_minimum(depth, _dent(rng, outline.radius, x, y), 0.08 * radius)
    return _rounded_minimum(depth, body - 0.03 * radius, 0.06 * radius)


def _rounded_minimum(first: np.ndarray, second: np.ndarray, rounding: float) -> np.ndarray:
    """The smaller of two depths, with corners rounded by about ``rounding`` pixels."""
    near = np.clip(rounding - np.abs(first - second), 0.0, None) / rounding
    return np.minimum(first, second) - near * near * rounding / 4


def _dent(rng: np.random.Generator, radius: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Negative inside a disc that presses into the nucleus from one side."""
    direction = rng.uniform(0, 2 * np.pi)
    size = radius * rng.uniform(0.25, 0.6)
    distance = radius + size - radius * rng.uniform(0.12, 0.35)
    away = np.hypot(x - distance * np.cos(direction), y - distance * np.sin(direction))
    return away - np.float32(size)


def _lobes(
    rng: np.random.Generator, radius: float, share: float, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Three to five lobes on an arc, joined by strands."""
    count = int(rng.integers(3, 6))
    start, turn = rng.uniform(0, 2 * np.pi), rng.uniform(3.6, 5.0)
    angles = start + turn * np.linspace(0, 1, count) + rng.normal(0, 0.08, count)
    arc = radius * rng.uniform(0.46, 0.58, count)
    places = np.stack([arc * np.cos(angles), arc * np.sin(angles)], axis=1)
    size = radius * np.sqrt(share / count)
    depth = np.full_like(x, -radius)
    for place in places:
        lobe = random_outline(
            rng, float(size * rng.uniform(0.85, 1.15)), stretch=0.18, roughness=0.03
        )
        depth = np.maximum(depth, lobe.depth(x - place[0], y - place[1]))
    for first, second in pairwise(places):
        depth = np.maximum(depth, 0.09 * radius - _to_segment(x, y, first, second))
    return depth


def _kidney(
    rng: np.random.Generator, radius: float, share: float, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """A thick arc: a bean or a horseshoe, after how far it reaches round."""
    start, turn = rng.uniform(0, 2 * np.pi), rng.uniform(1.6, 3.2)
    arc = radius * 0.36
    # Area of a band of this half width along the arc, with its two round ends, is the share.
    half = radius * (np.sqrt((0.36 * turn) ** 2 + np.pi * np.pi * share) - 0.36 * turn) / np.pi
    angles = start + turn * np.linspace(0, 1, 9)
    places = np.stack([arc * np.cos(angles), arc * np.sin(angles)], axis=1)
    places -= places.mean(axis=0)
    depth = np.full_like(x, -radius)
    for first, second in pairwise(places):
        depth = np.maximum(depth, half - _to_segment(x, y, first, second))
    wobble = texture(rng, shape_of(x), 0.18 * radius)
    return depth + 0.025 * radius * wobble


def _to_segment(x: np.ndarray, y: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    step = second - first
    length = float(step @ step) or 1.0
    along = np.clip(((x - first[0]) * step[0] + (y - first[1]) * step[1]) / length, 0.0, 1.0)
    return np.hypot(x - first[0] - along * step[0], y - first[1] - along * step[1])


def label_cells(shape: tuple[int, int], drawn: list[DrawnCell]) -> tuple[np.ndarray, np.ndarray]:
    """Cell numbers (int32, from 1) and nuclei (bool) of a field of ``shape``."""
    labels, nuclei = np.zeros(shape, np.int32), np.zeros(shape, bool)
    for number, cell in enumerate(drawn, start=1):
        free = cell.body & (labels[cell.window.place] == 0)
        labels[cell.window.place][free] = number
        nuclei[cell.window.place][free & cell.nucleus] = True
    return labels, nuclei


__all__ = ["DrawnCell", "PlacedCell", "draw_white_cell", "label_cells", "place_white_cells"]
