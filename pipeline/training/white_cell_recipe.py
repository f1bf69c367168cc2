"""How the white-cell network is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.preprocess import Preprocessing
from pipeline.training.cell_sheets import cell_sheet, upper_halves
from pipeline.training.recipe import Mixing, Optimiser, Recipe, cross_entropy
from pipeline.training.schedules import warm_up_then_cosine
from pipeline.training.tiles import training_tile

if TYPE_CHECKING:
    import keras

_PREPROCESSING = Preprocessing(input_size=224, view="white_cells")


def _build(classes: int) -> keras.Model:
    from pipeline.models.white_cell_net import build_white_cell_net

    return build_white_cell_net(classes)


def _marked_field(path: Path) -> np.ndarray:
    """A field and where its white cells are, uint8 ``(224, 224, 4)``: RGB, and 255 in cells."""
    tile = training_tile(path, _PREPROCESSING.tile_size, with_cells=True)
    return np.dstack([tile.pixels, np.where(tile.white_cells, 255, 0).astype(np.uint8)])


def _sheet(field: np.ndarray, rng: np.random.Generator, label: str) -> np.ndarray:
    return cell_sheet(field[..., :3], field[..., 3] > 0, rng)


WHITE_CELLS = Recipe(
    name="white-cells",
    source="this project",
    published="",
    build=_build,
    preprocessing=_PREPROCESSING,
    embedding_layer="embedding",
    feature_map_layer="weighted",
    parameters=490_789,
    trainable_parameters=489_573,
    epochs=100,
    batch_size=32,
    learning_rate=3e-3,
    schedule=warm_up_then_cosine(3),
    optimiser=Optimiser("AdamW", weight_decay=0.01),
    loss=cross_entropy(smoothing=0.05),
    example=_marked_field,
    augment=_sheet,
    mixing=Mixing(0.5, upper_halves),
)
