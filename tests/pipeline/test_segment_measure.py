import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.segment.measure import measure

COLOUR = (120, 60, 160)


def field(height=120, width=160):
    return np.full((height, width, 3), COLOUR, np.uint8)


def disc(shape, centre, radius):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2


def one_cell(mask, nucleus=None):
    nothing = np.zeros(mask.shape, bool)
    result = measure(
        field(*mask.shape), mask.astype(np.int32), nothing if nucleus is None else nucleus
    )
    (cell,) = result.cells
    return cell


def test_a_disc_is_measured_as_a_disc():
    mask = disc((120, 160), (70, 50), 30)
    nucleus = disc((120, 160), (70, 50), 20)
    cell = one_cell(mask, nucleus)
    assert cell.area == mask.sum()
    assert cell.nucleus_area == nucleus.sum()
    assert cell.nucleus_to_cytoplasm_ratio == pytest.approx(20**2 / (30**2 - 20**2), rel=0.03)
    assert cell.centre == pytest.approx((70, 50))
    assert (cell.box.x, cell.box.y, cell.box.width, cell.box.height) == (40, 20, 61, 61)
    assert cell.mean_colour == COLOUR
    assert cell.roundness > 0.97
    assert not cell.touches_edge


@pytest.mark.parametrize("radius", [6, 15, 50])
def test_roundness_does_not_depend_on_size(radius):
    assert one_cell(disc((120, 160), (70, 60), radius)).roundness > 0.95


def test_a_bar_is_less_round_than_a_square_and_a_square_than_a_disc():
    square, bar = np.zeros((120, 160), bool), np.zeros((120, 160), bool)
    square[20:60, 20:60] = True
    bar[20:30, 20:120] = True
    round_disc = disc((120, 160), (70, 50), 30)
    values = [one_cell(mask).roundness for mask in (bar, square, round_disc)]
    assert values == sorted(values)
    assert values[1] == pytest.approx(math.pi / 4, abs=0.08)


def test_the_outline_encloses_the_cell():
    mask = disc((120, 160), (70, 50), 30)
    outline = np.array(one_cell(mask).outline, np.int32)
    drawn = cv2.fillPoly(np.zeros(mask.shape, np.uint8), [outline], 1) > 0
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.97
    assert len(outline) < 60


def test_a_cell_that_is_all_nucleus_has_no_ratio():
    mask = disc((120, 160), (70, 50), 30)
    assert one_cell(mask, mask).nucleus_to_cytoplasm_ratio is None


@pytest.mark.parametrize("centre", [(0, 50), (159, 50), (70, 0), (70, 119), (20, 50)])
def test_a_cell_cut_by_the_edge_is_marked(centre):
    assert one_cell(disc((120, 160), centre, 20)).touches_edge


def test_cells_are_numbered_from_top_to_bottom_and_left_to_right():
    labels = np.zeros((120, 160), np.int32)
    for label, centre in {7: (30, 90), 2: (120, 20), 5: (30, 20), 9: (120, 90)}.items():
        labels[disc(labels.shape, centre, 10)] = label
    result = measure(field(), labels, labels < 0)
    assert [cell.number for cell in result.cells] == [1, 2, 3, 4]
    assert [cell.centre for cell in result.cells] == [(30, 20), (120, 20), (30, 90), (120, 90)]
    assert [result.labels[y, x] for x, y in [(30, 20), (120, 20), (30, 90), (120, 90)]] == [
        1,
        2,
        3,
        4,
    ]


def test_crumbs_go_and_holes_are_filled():
    mask = disc((120, 160), (70, 50), 30) & ~disc((120, 160), (70, 50), 5)
    labels = (mask | disc((120, 160), (140, 100), 4)).astype(np.int32)
    nuclei = disc((120, 160), (140, 100), 4)
    result = measure(field(), labels, nuclei)
    (cell,) = result.cells
    assert np.array_equal(result.labels > 0, disc((120, 160), (70, 50), 30))
    assert cell.nucleus_area == 0
    assert not result.nuclei.any()


def test_no_cell_gives_an_empty_result():
    result = measure(field(), np.zeros((120, 160), np.int32), np.ones((120, 160), bool))
    assert result.cells == ()
    assert not result.labels.any()
    assert not result.nuclei.any()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 79), st.integers(0, 59), st.integers(1, 15)),
        min_size=1,
        max_size=6,
    )
)
def test_numbers_agree_with_the_masks(discs):
    labels = np.zeros((60, 80), np.int32)
    nuclei = np.zeros((60, 80), bool)
    for label, (x, y, radius) in enumerate(discs, start=1):
        labels[disc(labels.shape, (x, y), radius)] = label
        nuclei |= disc(labels.shape, (x, y), radius / 2)
    result = measure(field(60, 80), labels, nuclei)
    assert np.array_equal(
        np.unique(result.labels[result.labels > 0]), range(1, len(result.cells) + 1)
    )
    assert not (result.nuclei & (result.labels == 0)).any()
    for number, cell in enumerate(result.cells, start=1):
        mask = result.labels == number
        rows, columns = np.nonzero(mask)
        assert cell.number == number
        assert cell.area == mask.sum()
        assert cell.nucleus_area == (result.nuclei & mask).sum()
        assert (cell.box.x, cell.box.y) == (columns.min(), rows.min())
        assert cell.box.x + cell.box.width - 1 == columns.max()
        assert cell.box.y + cell.box.height - 1 == rows.max()
        assert all(cell.box.contains(x, y) for x, y in cell.outline)
        assert 0 < cell.roundness <= 1
    order = [(cell.centre[1], cell.centre[0]) for cell in result.cells]
    assert order == sorted(order)
