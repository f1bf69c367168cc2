"""What the network is shown of a tile."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.preprocess import Preprocessing, network_input, view_of
from pipeline.types import FieldTile, Rectangle


@pytest.fixture
def tile() -> FieldTile:
    pixels = np.full((8, 8, 3), 200, np.uint8)
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:6] = True
    pixels[2, 2] = 0
    return FieldTile(pixels, Rectangle(0, 0, 8, 8), mask, mask, 1)


def test_the_field_is_shown_as_it_is(tile):
    shown = view_of(tile, Preprocessing(input_size=8, tile_size=8))
    np.testing.assert_array_equal(shown, tile.pixels)


def test_white_cells_are_what_is_not_zero_even_where_they_are_black(tile):
    shown = view_of(tile, Preprocessing(input_size=8, tile_size=8, view="white_cells"))
    np.testing.assert_array_equal(shown.any(axis=2), tile.white_cells)
    assert 1 <= shown[2, 2].min() < shown[3, 3].min()


def test_what_lies_outside_white_cells_does_not_reach_the_network(tile):
    preprocessing = Preprocessing(input_size=8, tile_size=8, view="white_cells")
    other = np.where(tile.white_cells[..., None], tile.pixels, 17).astype(np.uint8)
    replaced = FieldTile(other, tile.box, tile.white_cells, tile.nuclei, 1)
    np.testing.assert_array_equal(view_of(replaced, preprocessing), view_of(tile, preprocessing))


def test_tiles_are_enlarged_to_what_the_network_takes(tile):
    shown = view_of(tile, Preprocessing(input_size=16, tile_size=8, view="white_cells"))
    assert shown.shape == (16, 16, 3)
    assert shown.any(axis=2).sum() == 4 * tile.white_cells.sum()


def test_network_input_is_one_image_in_0_to_1():
    found = network_input(np.array([[[0, 51, 255]]], np.uint8))
    np.testing.assert_allclose(found, [[[[0.0, 0.2, 1.0]]]])
    assert found.dtype == np.float32
