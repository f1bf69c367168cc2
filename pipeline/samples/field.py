"""Rendering one field together with the truth about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.samples.camera import draw_scale_bar, expose, scale_bar_box
from pipeline.samples.litter import Artefact, draw_litter, draw_smudges
from pipeline.samples.recipe import FieldRecipe, Kind
from pipeline.samples.red_cells import Disc, draw_red_cell, place_red_cells
from pipeline.samples.white_cells import (
    PlacedCell,
    draw_white_cell,
    label_cells,
    place_white_cells,
)
from pipeline.types import Rectangle


@dataclass(frozen=True)
class TruthCell:
    """A white cell that was drawn. Lengths in pixels, areas in pixels that can be seen.

    ``number``: its value in ``SyntheticField.labels``. ``centre``, ``radius``: of the whole cell,
    also of a cell cut by the edge; the radius is that of a circle of about its area. ``box``:
    of the part in the field.
    """

    number: int
    kind: Kind
    centre: tuple[float, float]
    radius: float
    box: Rectangle
    area: int
    nucleus_area: int
    touches_edge: bool


@dataclass(frozen=True)
class SyntheticField:
    """A rendered field and what is in it.

    ``pixels``: uint8 ``(height, width, 3)``, RGB. ``labels``: int32 ``(height, width)``, 0 outside
    white cells, else their number from 1, top to bottom. ``nuclei``: bool ``(height, width)``, a
    subset of ``labels > 0``. ``artefacts``: platelets and smudged nuclei, which are no cells.
    Blur shifts no outline: the truth is where edges would be in perfect focus.
    """

    pixels: np.ndarray
    labels: np.ndarray
    nuclei: np.ndarray
    cells: tuple[TruthCell, ...]
    artefacts: tuple[Artefact, ...]


def render_field(seed: int, recipe: FieldRecipe) -> SyntheticField:
    """Render a field; the same seed and recipe give the same pixels.

    Cells add up as layers that absorb light (Beer and Lambert), so that overlapping red cells are
    darker; white cells push red cells aside.
    """
    rng = np.random.default_rng(seed)
    shape = (recipe.height, recipe.width)
    density = np.zeros((*shape, 3), np.float32)

    reserved = [_bar_disc(recipe)] if recipe.scale_bar else []
    white = place_white_cells(rng, recipe, reserved)
    smudges = _place_smudges(rng, recipe, white, reserved)
    taken = [Disc(*cell.centre, cell.outline.radius) for cell in white]
    taken += [Disc(spot.x, spot.y, 0.5 * spot.radius) for spot in smudges]

    for red in place_red_cells(rng, recipe, taken):
        draw_red_cell(density, red, recipe.stain.red_cell)
    draw_smudges(rng, density, recipe, smudges)
    platelets = draw_litter(rng, density, recipe)
    drawn = [
        draw_white_cell(rng, density, cell, [other for other in white if other != cell], recipe)
        for cell in white
    ]

    labels, nuclei = label_cells(shape, drawn)
    pixels = expose(rng, density, recipe)
    if recipe.scale_bar:
        pixels = draw_scale_bar(pixels, recipe)
        left, top, right, bottom = scale_bar_box(recipe)
        labels[top:bottom, left:right] = 0
        nuclei[top:bottom, left:right] = False
    cells = tuple(
        _truth(number, cell, labels, nuclei) for number, cell in enumerate(white, start=1)
    )
    return SyntheticField(pixels, labels, nuclei, cells, (*smudges, *platelets))


def _bar_disc(recipe: FieldRecipe) -> tuple[float, float, float]:
    left, top, right, bottom = scale_bar_box(recipe)
    return (left + right) / 2, (top + bottom) / 2, float(np.hypot(right - left, bottom - top)) / 2


def _place_smudges(
    rng: np.random.Generator,
    recipe: FieldRecipe,
    white: list[PlacedCell],
    reserved: list[tuple[float, float, float]],
) -> list[Artefact]:
    taken = [(*cell.centre, cell.outline.radius) for cell in white] + reserved
    spots: list[Artefact] = []
    for _ in range(int(rng.poisson(recipe.smudges))):
        radius = recipe.red_cell_diameter * float(rng.uniform(1.3, 1.7))
        x, y = rng.uniform(0, recipe.width), rng.uniform(0, recipe.height)
        if all(np.hypot(x - left, y - top) > radius + reach for left, top, reach in taken):
            spots.append(Artefact("smudge", float(x), float(y), radius))
    return spots


def _truth(number: int, cell: PlacedCell, labels: np.ndarray, nuclei: np.ndarray) -> TruthCell:
    mask = labels == number
    rows, columns = np.nonzero(mask)
    top, left = int(rows.min()), int(columns.min())
    bottom, right = int(rows.max()), int(columns.max())
    height, width = labels.shape
    return TruthCell(
        number=number,
        kind=cell.kind,
        centre=cell.centre,
        radius=cell.outline.radius,
        box=Rectangle(left, top, right - left + 1, bottom - top + 1),
        area=len(rows),
        nucleus_area=int((mask & nuclei).sum()),
        touches_edge=top == 0 or left == 0 or bottom == height - 1 or right == width - 1,
    )
