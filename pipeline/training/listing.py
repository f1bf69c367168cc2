"""What there is to train, for people and programs; imports no TensorFlow."""

from __future__ import annotations

from typing import Literal

from pipeline.results import Record
from pipeline.training.recipe import FOUR_CLASSES, Recipe
from pipeline.training.recipes import RECIPES

#: What each view shows, in words.
VIEWS = {
    "field": "whole field",
    "white_cells": "white cells alone, without the stain's colour",
    "saturated": "what the HSI saturation mask keeps",
}


class ListedRecipe(Record):
    """One line of ``screen recipes``.

    ``parameters`` and ``trainable_parameters`` are those with ``classes``; ``command`` is the
    command that trains it.
    """

    name: str
    source: str
    published: str
    parameters: int | None
    trainable_parameters: int | None
    input: str
    classes: list[str]
    epochs: int | None
    weights: str | None
    command: Literal["train", "evaluate"] = "train"


#: No network, and trained anew wherever a bundle is evaluated.
COLOUR_FOREST = ListedRecipe(
    name="colour-forest",
    source="this project",
    published="",
    parameters=None,
    trainable_parameters=None,
    input="twelve numbers of colour and scale bar, as a baseline",
    classes=list(FOUR_CLASSES.names),
    epochs=None,
    weights=None,
    command="evaluate",
)


def list_recipes() -> list[ListedRecipe]:
    """Every recipe, in the order of declaration."""
    return [*(_listed(recipe) for recipe in RECIPES.values()), COLOUR_FOREST]


def _listed(recipe: Recipe) -> ListedRecipe:
    size = recipe.preprocessing.input_size
    return ListedRecipe(
        name=recipe.name,
        source=recipe.source,
        published=recipe.published,
        parameters=recipe.parameters,
        trainable_parameters=recipe.trainable_parameters or recipe.parameters,
        input=f"{size}x{size}, {VIEWS[recipe.preprocessing.view]}",
        classes=list((recipe.classes or FOUR_CLASSES).names),
        epochs=recipe.epochs,
        weights=recipe.weights,
    )
