"""How tiles are scored and combined."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.classify import classify
from pipeline.labels import LABELS
from pipeline.preprocess import network_input
from pipeline.types import FieldGeometry, FieldTile, Rectangle


class BrightnessNetwork:
    """Stands for a network: dark tiles are likely Pro-B, bright ones likely benign."""

    def input_of(self, tile: FieldTile) -> np.ndarray:
        return network_input(tile.pixels)

    def embed_and_score(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert images.shape == (1, 8, 8, 3) and images.dtype == np.float32
        brightness = images.mean()
        scores = np.array([[brightness, 0.0, 0.0, 1 - brightness]], np.float32)
        return np.array([[brightness, 1.0]], np.float32), scores


def tile(value: int, cells: int) -> FieldTile:
    pixels = np.full((8, 8, 3), value, np.uint8)
    return FieldTile(
        pixels, Rectangle(0, 0, 8, 8), np.zeros((8, 8), bool), np.zeros((8, 8), bool), cells
    )


def scores_of(*tiles: FieldTile):
    return classify(FieldGeometry("tiled", 18.0, True, tiles), BrightnessNetwork())


def test_one_tile_decides_alone_with_or_without_cells():
    for cells in (0, 7):
        scores = scores_of(tile(204, cells))
        assert scores.label == "benign"
        assert scores.probabilities == pytest.approx([0.8, 0, 0, 0.2])
        assert scores.embedding == pytest.approx([0.8, 1.0])


def test_tiles_weigh_as_much_as_they_have_white_cells_and_empty_ones_nothing():
    scores = scores_of(tile(255, 1), tile(0, 3), tile(255, 0))
    assert scores.probabilities == pytest.approx([0.25, 0, 0, 0.75])
    assert scores.label == "pro_b"
    assert scores.decisive_tile == 1
    assert scores.tile_probabilities.shape == (3, len(LABELS))


def test_without_any_white_cell_all_tiles_weigh_the_same():
    scores = scores_of(tile(255, 0), tile(0, 0))
    assert scores.probabilities == pytest.approx([0.5, 0, 0, 0.5])
