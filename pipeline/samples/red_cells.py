"""Red cells: discs that are thin in the middle and absorb by their thickness, alone or stacked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from pipeline.samples.recipe import FieldRecipe
from pipeline.samples.shapes import Outline, covered, random_outline, shape_of, window

#: How steeply the pale middle of a red cell rises to its rim.
PALLOR_STEEPNESS = 2.6

#: Share of a red cell's density that is lost where it lies on another: both are flattened there.
SQUEEZE = 0.35

#: The outline runs where density has fallen to about half; a thin rim of this share of the radius
#: lies outside it.
SWELL = 0.05

#: Half width of a red cell's edge in pixels: it is rounded, and a little out of focus where white
#: cells are sharp.
EDGE = 1.8

#: Places tried for each red cell before the field counts as full.
TRIES = 30


@dataclass(frozen=True)
class RedCell:
    """A red cell.

    ``pallor``: 0 for an even disc, 1 for one whose middle is as clear as the background.
    ``pallor_size``, ``pallor_shift``: radius and place (x, y) of the pale middle over the cell's
    radius. ``shade``: factor of its density, RGB.
    """

    centre: tuple[float, float]
    outline: Outline
    pallor: float
    pallor_size: float
    pallor_shift: tuple[float, float]
    shade: tuple[float, float, float]


@dataclass(frozen=True)
class Disc:
    """A place that is taken."""

    x: float
    y: float
    radius: float


def place_red_cells(
    rng: np.random.Generator, recipe: FieldRecipe, taken: list[Disc]
) -> list[RedCell]:
    """Scatter red cells, some in stacks; they may press against the discs but not lie on them."""
    cells: list[RedCell] = []
    discs: list[Disc] = []
    while len(cells) < recipe.red_cells:
        stacked = rng.random() < recipe.rouleaux
        length = int(rng.integers(3, 8)) if stacked else 1
        # About `rouleaux` of the cells, not of the stacks, are to lie in stacks.
        if stacked and rng.random() > 2.0 / length:
            continue
        stack = _place_stack(rng, recipe, taken, discs, length)
        if not stack:
            break
        discs.extend(stack)
        cells.extend(_random_cell(rng, recipe, disc, stacked) for disc in stack)
    return cells


def _place_stack(
    rng: np.random.Generator,
    recipe: FieldRecipe,
    taken: list[Disc],
    discs: list[Disc],
    length: int,
) -> list[Disc]:
    usual = recipe.red_cell_diameter / 2
    for _ in range(TRIES):
        x = rng.uniform(-usual, recipe.width + usual)
        y = rng.uniform(-usual, recipe.height + usual)
        heading, stack = rng.uniform(0, 2 * np.pi), []
        crowding = float(rng.choice([0.5, 0.8, 1.03], p=[0.12, 0.3, 0.58]))
        for _ in range(length):
            radius = usual * float(np.exp(rng.normal(0.0, recipe.size_variation)))
            disc = Disc(float(x), float(y), radius)
            if _overlaps(disc, taken, 0.9) or _overlaps(disc, discs, crowding):
                break
            stack.append(disc)
            heading += rng.normal(0.0, 0.3)
            step = 2 * usual * rng.uniform(0.5, 0.85)
            x, y = x + step * np.cos(heading), y + step * np.sin(heading)
        if stack:
            return stack
    return []


def _overlaps(disc: Disc, others: list[Disc], allowed: float) -> bool:
    return any(
        math.hypot(disc.x - other.x, disc.y - other.y) < allowed * (disc.radius + other.radius)
        for other in others
    )


def _random_cell(
    rng: np.random.Generator, recipe: FieldRecipe, disc: Disc, stacked: bool
) -> RedCell:
    outline = _random_outline(rng, disc.radius)
    pallor = min(1.0, recipe.pallor * float(rng.normal(1.0, 0.2))) * (0.55 if stacked else 1.0)
    pallor *= float(rng.choice([1.0, 0.25], p=[0.85, 0.15]))
    tone = rng.normal(1.0, 0.10)
    shade = tone * rng.normal(1.0, 0.03, 3)
    if rng.random() < 0.04:  # young red cells are larger and take up some blue
        shade *= (1.2, 1.1, 0.9)
        pallor *= 0.3
    shift = rng.normal(0.0, 0.05, 2)
    return RedCell(
        centre=(disc.x, disc.y),
        outline=outline,
        pallor=max(0.0, pallor),
        pallor_size=float(rng.uniform(0.36, 0.58)),
        pallor_shift=(float(shift[0]), float(shift[1])),
        shade=(float(shade[0]), float(shade[1]), float(shade[2])),
    )


def _random_outline(rng: np.random.Generator, radius: float) -> Outline:
    """Mostly round; some oval, some crenated."""
    form = rng.random()
    if form < 0.12:
        return random_outline(rng, radius, stretch=0.2, roughness=0.03)
    if form < 0.2:
        return random_outline(rng, radius, stretch=0.05, roughness=0.035, waves=11)
    return random_outline(rng, radius, stretch=0.06, roughness=0.022)


def draw_red_cell(density: np.ndarray, cell: RedCell, colour: tuple[float, float, float]) -> None:
    """Add a red cell to ``density``, float32 ``(height, width, 3)``; overlaps come out darker."""
    view = window(shape_of(density), cell.centre, cell.outline.reach * (1 + SWELL) + 3)
    swell = SWELL * cell.outline.radius
    depth = cell.outline.depth(view.x, view.y) + swell
    outer = np.clip(1.0 - depth / (cell.outline.radius + swell), 0.0, 1.0)
    shift_x, shift_y = (shift * cell.outline.radius for shift in cell.pallor_shift)
    smooth = replace(cell.outline, waves=())
    shifted = smooth.depth(view.x - shift_x, view.y - shift_y)
    inner = np.clip(1.0 - shifted / cell.outline.radius, 0.0, 1.0)

    rounded = np.clip(1.0 - outer**2, 0.0, 1.0) ** 0.3
    middle = cell.pallor * np.exp(-((inner / cell.pallor_size) ** PALLOR_STEEPNESS))
    thickness = covered(depth, EDGE) * rounded * (1.0 - middle)
    absorbed = np.array(colour, np.float32) * np.array(cell.shade, np.float32)
    layer = thickness[:, :, np.newaxis] * absorbed
    below = density[view.place]
    density[view.place] = below + layer * (1.0 - SQUEEZE * np.clip(below / absorbed, 0.0, 1.0))
