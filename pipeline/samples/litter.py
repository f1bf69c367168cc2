"""What lies between the cells: platelets, stain precipitate, dust, smudged nuclei."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.samples.recipe import FieldRecipe
from pipeline.samples.shapes import covered, random_outline, shape_of, texture, window


class Artefact(NamedTuple):
    """Something that is no cell: kind, and the disc that holds it, in pixels."""

    kind: str
    x: float
    y: float
    radius: float


def draw_smudges(
    rng: np.random.Generator, density: np.ndarray, recipe: FieldRecipe, spots: list[Artefact]
) -> None:
    """Burst nuclei at ``spots``: pale, without an edge, drawn out into strands."""
    chromatin = np.array(recipe.stain.chromatin, np.float32)
    for spot in spots:
        view = window(shape_of(density), (spot.x, spot.y), spot.radius)
        outline = random_outline(rng, spot.radius / 1.7, stretch=0.15, roughness=0.05, waves=9)
        unit = recipe.red_cell_diameter
        strands = texture(rng, view.shape, 0.03 * unit)
        ragged = 0.08 * unit * texture(rng, view.shape, 0.07 * unit)
        body = covered(outline.depth(view.x, view.y) + ragged, 0.16 * unit)
        amount = body * np.clip(0.40 + 0.08 * strands, 0.0, 1.0)
        density[view.place] += amount[:, :, np.newaxis] * chromatin


def draw_litter(
    rng: np.random.Generator, density: np.ndarray, recipe: FieldRecipe
) -> list[Artefact]:
    """Platelets, specks of stain and dust, anywhere; returns the platelets."""
    platelets = [
        _draw_platelet(rng, density, recipe) for _ in range(int(rng.poisson(recipe.platelets)))
    ]
    for _ in range(int(rng.poisson(recipe.debris))):
        _draw_speck(rng, density, recipe)
    for _ in range(int(rng.integers(1, 4))):
        _draw_dust(rng, density, recipe)
    return platelets


def _anywhere(rng: np.random.Generator, recipe: FieldRecipe) -> tuple[float, float]:
    return float(rng.uniform(0, recipe.width)), float(rng.uniform(0, recipe.height))


def _draw_platelet(rng: np.random.Generator, density: np.ndarray, recipe: FieldRecipe) -> Artefact:
    """A granular violet body of 1.5 to 3 micrometres."""
    unit, centre = recipe.red_cell_diameter, _anywhere(rng, recipe)
    radius = unit * float(rng.uniform(0.10, 0.20))
    view = window(shape_of(density), centre, 2.5 * radius)
    outline = random_outline(rng, radius, stretch=0.25, roughness=0.09, waves=6)
    depth = outline.depth(view.x, view.y)
    grains = np.clip(texture(rng, view.shape, 0.02 * unit), -1.5, 2.0)
    middle = covered(depth - 0.35 * radius, 0.4 * radius)
    amount = covered(depth, 1.5) * (0.35 + 0.35 * middle + 0.13 * grains)
    stain = recipe.stain
    colour = 0.6 * np.array(stain.chromatin) + 0.4 * np.array(stain.granules)
    density[view.place] += amount[:, :, np.newaxis] * colour.astype(np.float32)
    return Artefact("platelet", *centre, radius)


def _draw_speck(rng: np.random.Generator, density: np.ndarray, recipe: FieldRecipe) -> None:
    """Precipitate of the stain: small, dark, jagged, most of it tiny."""
    unit, centre = recipe.red_cell_diameter, _anywhere(rng, recipe)
    radius = unit * float(0.018 + 0.05 * rng.beta(1.0, 4.0))
    view = window(shape_of(density), centre, 4 * radius + 4)
    outline = random_outline(rng, radius, stretch=0.5, roughness=0.15, waves=6)
    amount = covered(outline.depth(view.x, view.y)) * rng.uniform(0.4, 1.5)
    chromatin = np.array(recipe.stain.chromatin, np.float32)
    density[view.place] += amount[:, :, np.newaxis] * chromatin


def _draw_dust(rng: np.random.Generator, density: np.ndarray, recipe: FieldRecipe) -> None:
    """A grey shadow of something far out of focus."""
    unit, centre = recipe.red_cell_diameter, _anywhere(rng, recipe)
    size = unit * float(rng.uniform(0.12, 0.3))
    view = window(shape_of(density), centre, 4 * size)
    shadow = rng.uniform(0.04, 0.16) * np.exp(-(view.x**2 + view.y**2) / (2 * size**2))
    density[view.place] += shadow[:, :, np.newaxis] * np.array((1.0, 0.95, 0.85), np.float32)
