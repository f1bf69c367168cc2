"""Stain normalisation of white cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stain import normalise_stain


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray]:
    """Pixels between 40 and 160 in every channel, and a mask of half of them."""
    rng = np.random.default_rng(5)
    pixels = rng.integers(40, 161, (40, 40, 3)).astype(np.uint8)
    mask = np.zeros((40, 40), bool)
    mask[10:30, 5:35] = True
    return pixels, mask


def test_the_ground_is_zero_and_cells_are_not(cells):
    shown = normalise_stain(*cells)
    np.testing.assert_array_equal(shown.any(axis=2), cells[1])
    assert shown[cells[1]].min() >= 1


def test_what_lies_outside_the_cells_has_no_say(cells):
    pixels, mask = cells
    other = np.where(mask[..., None], pixels, 255 - pixels).astype(np.uint8)
    np.testing.assert_array_equal(normalise_stain(other, mask), normalise_stain(pixels, mask))


@given(gains=st.lists(st.floats(0.7, 1.4), min_size=3, max_size=3))
def test_channel_gains_are_taken_out(gains):
    rng = np.random.default_rng(6)
    pixels = rng.integers(60, 161, (24, 24, 3)).astype(np.uint8)
    mask = np.ones((24, 24), bool)
    brighter = np.rint((pixels + 1.0) * gains - 1).astype(np.uint8)
    before, after = (normalise_stain(p, mask).astype(int) for p in (pixels, brighter))
    assert np.abs(before - after).max() <= 3


def test_dirt_on_a_cell_changes_nothing_elsewhere(cells):
    pixels, mask = cells
    dirty = pixels.copy()
    dirty[12:15, 8:20] = 0
    clean = normalise_stain(pixels, mask)[16:30].astype(int)
    assert np.abs(normalise_stain(dirty, mask)[16:30] - clean).max() <= 16


def test_dense_places_are_dark():
    pixels = np.full((4, 4, 3), 200, np.uint8)
    pixels[1, 1] = 60
    shown = normalise_stain(pixels, np.ones((4, 4), bool))
    assert (shown[1, 1] < shown[0, 0]).all()


def test_even_cells_stay_even_and_nothing_stays_nothing():
    pixels = np.full((4, 4, 3), 200, np.uint8)
    assert (normalise_stain(pixels, np.ones((4, 4), bool)) == 128).all()
    assert not normalise_stain(pixels, np.zeros((4, 4), bool)).any()
