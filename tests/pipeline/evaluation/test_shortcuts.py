"""Each change does what its name says, and nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.shortcuts import CHANGES, Field, erase_white_cells
from pipeline.evaluation.shortcuts_bar import covered, find_scale_bar
from pipeline.evaluation.shortcuts_fill import fill
from pipeline.samples import SyntheticField
from pipeline.segment import segment
from pipeline.segment.background import background_colour
from tests.pipeline.evaluation.smears import field as smear


@pytest.fixture(scope="module")
def truth() -> SyntheticField:
    return smear("benign", 6)


@pytest.fixture(scope="module")
def field(truth: SyntheticField) -> Field:
    return Field.of(truth.pixels)


@pytest.fixture(scope="module")
def donor() -> Field:
    return Field.of(smear("early", 5).pixels)


def after(name: str, field: Field, donor: Field, seed: int = 1) -> np.ndarray:
    change = CHANGES[name]
    lent = None if change.donor == "none" else donor
    return change.apply(field, lent, np.random.default_rng(seed))


def roughness(pixels: np.ndarray, where: np.ndarray) -> float:
    return float(np.std(cv2.Laplacian(pixels[..., 1], cv2.CV_32F)[where]))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seeded_and_keeps_size_and_original(
    name: str, field: Field, donor: Field
) -> None:
    before = field.pixels.copy()
    result = after(name, field, donor)
    assert result.dtype == np.uint8
    assert result.shape == field.pixels.shape
    assert np.array_equal(result, after(name, field, donor))
    assert np.array_equal(field.pixels, before)
    assert np.array_equal(result, field.pixels) == (name == "as_is")


def test_erasing_removes_every_white_cell_and_nothing_far_from_them(
    truth: SyntheticField, field: Field
) -> None:
    erased = field.erased
    assert truth.cells
    assert not segment(erased).cells
    # Chromatin is far darker in green than anything that is left.
    assert truth.pixels[truth.nuclei][:, 1].mean() < 110
    assert erased[truth.nuclei][:, 1].mean() > 180
    far = cv2.dilate(field.white.astype(np.uint8), np.ones((25, 25), np.uint8)) == 0
    assert np.array_equal(erased[far], field.pixels[far])


def test_an_erased_field_keeps_grain_where_smooth_inpainting_loses_it(field: Field) -> None:
    inner = cv2.erode(field.white.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    smooth = cv2.inpaint(field.pixels, field.white.astype(np.uint8), 5, cv2.INPAINT_TELEA)

    assert roughness(field.erased, inner) > 2 * roughness(smooth, inner)


def test_erasing_works_at_higher_resolution() -> None:
    pixels = cv2.resize(smear("early", 105).pixels, (560, 420), interpolation=cv2.INTER_CUBIC)
    assert segment(pixels).cells
    erased = erase_white_cells(pixels)
    assert erased.shape == pixels.shape
    assert not segment(erased).cells


def test_a_field_without_white_cells_is_not_changed_by_erasing(field: Field) -> None:
    assert np.array_equal(erase_white_cells(field.erased), field.erased)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_filling_changes_the_hole_alone_whatever_its_size(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    hole = cv2.blur(rng.random((48, 64)), (9, 9)) < 0.35 + 0.3 * share
    filled = fill(pixels, hole, np.random.default_rng(seed))
    assert filled.dtype == np.uint8
    assert np.array_equal(filled[~hole], pixels[~hole])
    assert np.array_equal(filled, fill(pixels, hole, np.random.default_rng(seed)))


def test_badly_erased_cells_keep_their_rims(field: Field, donor: Field) -> None:
    flat = after("white_cells_flat", field, donor)
    colour = np.rint(background_colour(field.pixels))
    assert np.all(flat[field.white] == colour)
    assert np.array_equal(flat[~field.white], field.pixels[~field.white])


def test_blurred_cells_lose_structure_but_not_colour(field: Field, donor: Field) -> None:
    blurred = after("white_cells_blurred", field, donor)
    inner = cv2.erode(field.white.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert roughness(blurred, inner) < 0.2 * roughness(field.pixels, inner)
    assert blurred[inner][:, 1].mean() < background_colour(field.pixels)[1] - 30
    assert np.array_equal(blurred[~field.white], field.pixels[~field.white])


def test_only_white_cells_stay_on_flat_ground(field: Field, donor: Field) -> None:
    alone = after("only_white_cells", field, donor)
    assert np.array_equal(alone[field.white], field.pixels[field.white])
    assert len(np.unique(alone[~field.white], axis=0)) == 1


@pytest.mark.parametrize("name", ["background_replaced", "background_same_class"])
def test_a_background_is_replaced_around_unchanged_cells(
    name: str, field: Field, donor: Field
) -> None:
    replaced = after(name, field, donor)
    assert np.array_equal(replaced[field.white], field.pixels[field.white])
    seam = cv2.dilate(field.white.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert np.array_equal(replaced[~seam], donor.erased[~seam])


def test_a_scale_bar_is_found_where_it_was_drawn(truth: SyntheticField) -> None:
    bar = find_scale_bar(truth.pixels)
    assert bar is not None
    assert bar.boxed
    rows, columns = bar.box
    # Black ink is nowhere but in the box.
    ink = truth.pixels.max(axis=2) < 60
    assert ink[rows, columns].sum() == ink.sum() > 20
    assert rows.start > 140
    assert columns.start > 150


def test_a_field_without_scale_bar_has_none(donor: Field) -> None:
    bare = fill(donor.pixels, covered(donor.bar, donor.white.shape), np.random.default_rng(0))
    assert donor.bar is not None
    assert find_scale_bar(bare) is None


def test_red_ink_without_a_box_is_found_too(donor: Field) -> None:
    bare = fill(donor.pixels, covered(donor.bar, donor.white.shape), np.random.default_rng(0))
    cv2.putText(bare, "100 px", (190, 192), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (200, 30, 40), 1)
    bar = find_scale_bar(bare)
    assert bar is not None
    assert not bar.boxed
    assert 170 < bar.box[0].start < 185


def test_an_erased_bar_is_gone_and_a_moved_one_is_elsewhere(field: Field, donor: Field) -> None:
    assert field.bar is not None
    erased = after("bar_erased", field, donor)
    assert find_scale_bar(erased) is None
    here = covered(field.bar, field.white.shape)
    assert np.array_equal(erased[~here], field.pixels[~here])

    moved = after("bar_moved", field, donor)
    ink = moved.max(axis=2) < 60
    assert ink.sum() > 20
    assert not (ink & here).any()


def test_a_copied_bar_is_the_other_fields(field: Field, donor: Field) -> None:
    copied = after("bar_copied", field, donor)
    assert donor.bar is not None
    free = ~field.white[donor.bar.box]
    assert np.array_equal(copied[donor.bar.box][free], donor.pixels[donor.bar.box][free])


def test_a_field_without_bar_gets_one(field: Field, donor: Field) -> None:
    bare = Field.of(after("bar_erased", field, donor))
    assert bare.bar is None
    assert not np.array_equal(after("bar_moved", bare, donor), bare.pixels)
    assert np.array_equal(after("bar_erased", bare, donor), bare.pixels)
    assert find_scale_bar(after("bar_copied", bare, bare)) is not None


@pytest.mark.parametrize("name", ["bar_moved", "bar_copied"])
def test_a_bar_never_hides_a_white_cell(name: str, field: Field, donor: Field) -> None:
    result = after(name, field, donor)
    outside = field.white & ~covered(field.bar, field.white.shape)
    assert np.array_equal(result[outside], field.pixels[outside])


def test_gains_are_gains(field: Field, donor: Field) -> None:
    dark = after("gain_0.9_1_1", field, donor)
    assert np.array_equal(dark[..., 1:], field.pixels[..., 1:])
    assert np.abs(dark[..., 0] - 0.9 * field.pixels[..., 0]).max() <= 0.5
    bright = after("gain_1.2_1.2_1.2", field, donor)
    assert bright.max() == 255


def test_turning_keeps_the_shape_of_cells() -> None:
    """A disc in the unsquashed frame is an ellipse in the square file, and the same one turned."""
    frame = np.full((224, 299, 3), 240, np.uint8)
    cv2.circle(frame, (149, 90), 30, (120, 60, 160), -1)
    pixels = cv2.resize(frame, (224, 224), interpolation=cv2.INTER_AREA)
    field = Field(pixels, pixels[..., 1] < 150, 26.0, None)
    before, turned = field.white, after("turn_left", field, field)[..., 1] < 150
    for mask in (before, turned):
        rows, columns = np.nonzero(mask)
        assert np.ptp(rows) / np.ptp(columns) == pytest.approx(4 / 3, abs=0.08)
    # 22 pixels above the middle become 22 pixels, squashed, to the left of it.
    assert np.nonzero(turned)[1].mean() == pytest.approx(111.5 - 22 * 0.75, abs=1.5)
    assert np.nonzero(turned)[0].mean() == pytest.approx(111.5, abs=1.5)


def test_four_half_turns_and_two_mirrors_are_nothing(field: Field, donor: Field) -> None:
    twice = Field(after("turn_half", field, donor), field.white, 1.0, None)
    assert np.array_equal(after("turn_half", twice, donor), field.pixels)
    mirrored = Field(after("mirror", field, donor), field.white, 1.0, None)
    assert np.array_equal(after("mirror", mirrored, donor), field.pixels)
