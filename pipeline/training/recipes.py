"""All recipes by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.preprocess import Preprocessing
from pipeline.training.recipe import Recipe, Sampling
from pipeline.training.schedules import constant_then_cosine
from pipeline.training.white_cell_recipe import WHITE_CELLS

if TYPE_CHECKING:
    import keras

_THIRIVEEDHI = "Thiriveedhi et al. 2025, PeerJ Computer Science, e2600"


def _build_all_net(classes: int) -> keras.Model:
    from pipeline.models.all_net import build_all_net

    return build_all_net(classes)


def _moved(view: np.ndarray, rng: np.random.Generator, label: str) -> np.ndarray:
    from pipeline.training.augment import random_affine

    return random_affine(view, rng).astype(np.float32) / np.float32(255.0)


ALL_NET = Recipe(
    name="all-net",
    source=_THIRIVEEDHI,
    published="accuracy 99.32 %, random split, benign images augmented",
    build=_build_all_net,
    preprocessing=Preprocessing(input_size=224),
    embedding_layer="dense1",
    feature_map_layer="pool3",
    parameters=1_097_604,
    epochs=50,
    batch_size=32,
    learning_rate=1e-3,
    # The paper trains at a constant rate; the fall only makes the last epoch a good one, so that no
    # epoch has to be picked by looking at held-out images.
    schedule=constant_then_cosine(0.6),
    augment=_moved,
    sampling=Sampling(repeats={"benign": 2}, first_as_is=True),
)

_DECLARED = (
    WHITE_CELLS,
    ALL_NET,
    replace(
        ALL_NET,
        name="all-net-plain",
        published="accuracy 97.85 %, random split, no augmentation",
        augment=None,
        sampling=Sampling(),
    ),
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _DECLARED}


def recipe_named(name: str) -> Recipe:
    """Return the recipe called ``name``; raises ConfigurationError with the known names."""
    try:
        return RECIPES[name]
    except KeyError:
        known = ", ".join(sorted(RECIPES))
        raise ConfigurationError(f"there is no recipe {name!r}; known recipes: {known}") from None


__all__ = ["RECIPES", "Recipe", "recipe_named"]
