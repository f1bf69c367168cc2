"""What a training run needs to know, declared in one place per published network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import ConfigurationError
from pipeline.labels import Label
from pipeline.preprocess import Preprocessing

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained."""

    name: str
    source: str
    build: Callable[[], keras.Model]
    preprocessing: Preprocessing
    embedding_layer: str
    feature_map_layer: str
    epochs: int
    batch_size: int
    learning_rate: float
    #: Fraction of the epochs after which the learning rate falls to zero along a half cosine.
    #: The paper trains at a constant rate; the fall only makes the last epoch a good one, so that
    #: no epoch has to be picked by looking at held-out images.
    constant_fraction: float
    augmented_labels: frozenset[Label]
    #: How often an image of an augmented class is seen per epoch: once as it is, then moved.
    augmented_repeats: int


def _build_all_net() -> keras.Model:
    from pipeline.models.all_net import build_all_net

    return build_all_net()


RECIPES: dict[str, Recipe] = {
    "all-net": Recipe(
        name="all-net",
        source="Thiriveedhi et al. 2025, PeerJ Computer Science, e2600",
        build=_build_all_net,
        preprocessing=Preprocessing(input_size=224),
        embedding_layer="dense1",
        feature_map_layer="pool3",
        epochs=50,
        batch_size=32,
        learning_rate=1e-3,
        constant_fraction=0.6,
        augmented_labels=frozenset({"benign"}),
        augmented_repeats=2,
    ),
}


def recipe_named(name: str) -> Recipe:
    """Return the recipe called ``name``; raises ConfigurationError with the known names."""
    try:
        return RECIPES[name]
    except KeyError:
        known = ", ".join(sorted(RECIPES))
        raise ConfigurationError(f"there is no recipe {name!r}; known recipes: {known}") from None
