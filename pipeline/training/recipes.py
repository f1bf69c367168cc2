"""All recipes by name."""

from __future__ import annotations

from pipeline.errors import ConfigurationError
from pipeline.training.dss_recipes import DSS, DSS_PRETRAINING
from pipeline.training.published import PUBLISHED
from pipeline.training.recipe import Recipe
from pipeline.training.white_cell_recipe import WHITE_CELLS

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (WHITE_CELLS, *PUBLISHED, *DSS, *DSS_PRETRAINING)
}


def recipe_named(name: str) -> Recipe:
    """Return the recipe called ``name``; raises ConfigurationError with the known names."""
    try:
        return RECIPES[name]
    except KeyError:
        known = ", ".join(sorted(RECIPES))
        raise ConfigurationError(
            f"there is no recipe {name!r}; `screen recipes` lists them: {known}"
        ) from None


__all__ = ["RECIPES", "Recipe", "recipe_named"]
