"""Sheets of white cells that the white-cell network is trained on."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.training import cell_sheets
from pipeline.training.cell_sheets import SHEET_SIZE, cell_sheet, upper_halves


@pytest.fixture
def field() -> tuple[np.ndarray, np.ndarray]:
    """A grey field with three discs, each with a darker middle."""
    rows, columns = np.mgrid[:224, :224]
    pixels = np.full((224, 224, 3), 230, np.uint8)
    mask = np.zeros((224, 224), bool)
    for y, x in ((40, 50), (120, 160), (190, 60)):
        distance = np.hypot(rows - y, (columns - x) * 4 / 3)
        pixels[distance < 15] = (160, 120, 190)
        pixels[distance < 9] = (90, 40, 140)
        mask |= distance < 15
    return pixels, mask


def sheet(field, seed: int) -> np.ndarray:
    return cell_sheet(*field, np.random.default_rng(seed))


def test_a_sheet_is_network_input_with_cells_on_zeros(field):
    found = sheet(field, 1)
    assert found.shape == (SHEET_SIZE, SHEET_SIZE, 3) and found.dtype == np.float32
    cells = found.max(axis=2) > 0
    assert (found.min(axis=2)[cells] > 0).all() and found.max() <= 1


def test_all_cells_are_laid_out_where_there_is_room(field):
    areas = [(sheet(field, seed).max(axis=2) > 0).sum() for seed in range(20)]
    assert np.mean(areas) == pytest.approx(field[1].sum(), rel=0.15)


def test_what_is_not_a_white_cell_does_not_matter(field, monkeypatch):
    pixels, mask = field
    # Cells bring a margin of two pixels, of which a widened outline shows one.
    around = np.zeros_like(mask)
    for dy in range(-4, 5):
        for dx in range(-4, 5):
            around |= np.roll(mask, (dy, dx), (0, 1))
    other = np.where(around[..., None], pixels, 17).astype(np.uint8)
    # Compression smears over blocks of pixels; it is left out here.
    monkeypatch.setattr(cell_sheets, "JPEG_SHARE", 0)
    np.testing.assert_array_equal(sheet((other, mask), 3), sheet(field, 3))


def test_sheets_follow_from_the_seed_and_differ(field):
    np.testing.assert_array_equal(sheet(field, 5), sheet(field, 5))
    assert (sheet(field, 5) != sheet(field, 6)).any()


def test_a_cluster_larger_than_a_sheet_is_cut(field):
    pixels, _ = field
    found = sheet((pixels, np.ones((224, 224), bool)), 7)
    assert found.shape == (SHEET_SIZE, SHEET_SIZE, 3)
    assert (found.max(axis=2) > 0).mean() > 0.6


def test_a_field_without_white_cells_gives_an_empty_sheet(field):
    assert not sheet((field[0], np.zeros((224, 224), bool)), 8).any()


def test_two_sheets_share_one(field):
    first, second = sheet(field, 9), sheet(field, 10)
    joined = upper_halves(first, second)
    assert joined.shape == first.shape
    np.testing.assert_array_equal(joined[: SHEET_SIZE // 2], first[: SHEET_SIZE // 2])
    np.testing.assert_array_equal(joined[SHEET_SIZE // 2 :], second[: SHEET_SIZE // 2])
