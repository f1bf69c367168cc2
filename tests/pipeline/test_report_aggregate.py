"""The aggregation rule: from the images of a patient to call, flag, reasons and statement."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.labels import LABELS, MALIGNANT_LABELS
from pipeline.report.aggregate import REASONS, build_report
from pipeline.report.words import CALL_MEANINGS, CALL_NAMES, PATIENT_REASONS
from pipeline.results import AnalysisOptions, Call, ImageResult
from tests.pipeline.report_builder import (
    MODEL,
    SOFTWARE,
    failed_image,
    ok_image,
    report_on,
    series,
)

judged_images = st.builds(
    lambda label, flag, white_cells, content: ok_image(
        label=label,
        flag=flag,
        white_cells=white_cells,
        sha256=f"{content:064x}",
        explained=False,
    ),
    label=st.sampled_from(LABELS),
    flag=st.sampled_from(["high", "low"]),
    white_cells=st.integers(0, 30),
    content=st.integers(),
)
any_image = st.one_of(judged_images, st.builds(failed_image))


@st.composite
def patients(draw: st.DrawFn) -> list[ImageResult]:
    """Up to thirty images with names of their own, some of them copies of others."""
    drawn = draw(st.lists(any_image, max_size=25))
    copies = draw(st.lists(st.sampled_from(drawn), max_size=5)) if drawn else []
    return [
        image.model_copy(update={"source": f"P-17/{number}.jpg"})
        for number, image in enumerate(drawn + copies)
    ]


# --- calls --------------------------------------------------------------------------------------


def test_many_certain_benign_fields_are_benign_with_high_confidence() -> None:
    report = report_on(series(12))
    assert (report.call, report.flag, report.reasons) == ("benign", "high", [])


@pytest.mark.parametrize("label", sorted(MALIGNANT_LABELS))
def test_many_certain_fields_of_a_malignant_label_have_that_call(label: str) -> None:
    report = report_on(series(12, label))  # type: ignore[arg-type]  # a Label, lost by sorted
    assert (report.call, report.flag) == (label, "high")


def test_one_malignant_field_of_nineteen_is_not_benign() -> None:
    report = report_on([*series(18), *series(1, "pro_b")])
    assert (report.call, report.flag) == ("mixed", "low")


def test_one_malignant_field_of_twenty_is_benign_but_never_with_high_confidence() -> None:
    report = report_on([*series(19), *series(1, "pro_b")])
    assert report.call == "benign"
    assert report.reasons == ["malignant_images_in_benign_call"]


def test_half_malignant_is_mixed_and_more_than_half_is_malignant() -> None:
    assert report_on([*series(5), *series(5, "pre_b")]).call == "mixed"
    assert report_on([*series(4), *series(6, "pre_b")]).call == "pre_b"


def test_a_malignant_label_needs_two_thirds_of_the_malignant_fields() -> None:
    assert report_on([*series(8, "pre_b"), *series(4, "early_b")]).call == "pre_b"
    mixed = report_on([*series(7, "pre_b"), *series(5, "early_b")])
    assert (mixed.call, mixed.reasons) == ("mixed", ["mixed_labels"])


def test_certain_fields_decide_where_they_are_half_of_the_readable_ones() -> None:
    report = report_on([*series(10), *series(10, "pro_b", "low")])
    assert report.call == "benign"
    assert report.counts.judged == 10
    assert report.reasons == ["uncertain_images_disagree"]


def test_few_certain_benign_fields_do_not_outvote_many_uncertain_malignant_ones() -> None:
    report = report_on([*series(9), *series(12, "pro_b", "low")])
    assert report.call == "mixed"
    assert report.counts.judged == 21
    assert "few_certain_images" in report.reasons


def test_a_certain_malignant_field_is_not_outvoted_by_many_uncertain_benign_ones() -> None:
    report = report_on([*series(40, "benign", "low"), *series(1, "pro_b")])
    assert report.call == "mixed"
    assert "uncertain_images_disagree" in report.reasons


def test_uncertain_fields_alone_still_get_a_call_but_a_low_flag() -> None:
    report = report_on(series(12, "pre_b", "low"))
    assert (report.call, report.flag) == ("pre_b", "low")
    assert report.reasons == ["few_certain_images"]


def test_fields_without_white_cells_are_never_judged_whatever_their_flag() -> None:
    report = report_on([*series(12), *series(3, "pro_b", cells=0)])
    assert (report.call, report.counts.judged) == ("benign", 12)
    assert report_on(series(3, cells=0)).call == "not_assessable"


@pytest.mark.parametrize("images", [[], [failed_image()], series(4, cells=0)])
def test_nothing_to_judge_is_not_assessable(images: list[ImageResult]) -> None:
    report = report_on(images)
    assert (report.call, report.flag) == ("not_assessable", "low")
    assert report.reasons[0] == "nothing_to_judge"
    assert report.counts.malignant_share is None
    assert report.counts.malignant_share_interval is None


# --- flags --------------------------------------------------------------------------------------


def test_fewer_white_cells_than_the_usual_hundred_lower_the_flag() -> None:
    assert report_on(series(11, cells=9)).reasons == ["few_white_cells"]
    assert report_on(series(10, cells=10)).flag == "high"


def test_white_cells_of_fields_that_are_not_judged_do_not_count_as_enough() -> None:
    report = report_on([*series(9, cells=5), *series(8, "benign", "low", cells=50)])
    assert report.counts.white_cells == 445
    assert report.counts.judged_white_cells == 45
    assert report.reasons == ["few_white_cells"]


def test_three_unanimous_fields_are_too_few_and_four_are_enough() -> None:
    assert report_on(series(3, cells=50)).reasons == ["share_uncertain"]
    assert report_on(series(4, cells=50)).flag == "high"
    assert report_on(series(3, "pro_b", cells=50)).reasons == ["share_uncertain"]
    assert report_on(series(4, "pro_b", cells=50)).flag == "high"


def test_a_failed_image_lowers_the_flag_only_if_it_could_change_the_call() -> None:
    failed = [failed_image()]
    assert report_on([*series(12), *failed]).reasons == ["failed_images"]
    assert report_on([*series(19), *failed]).flag == "high"
    assert report_on([*series(12, "pre_b"), *failed]).flag == "high"
    many = [failed_image(f"{n}.jpg") for n in range(12)]
    assert report_on([*series(12, "pre_b"), *many]).reasons == ["failed_images"]


def test_synthetic_images_never_have_a_high_flag() -> None:
    report = report_on([*series(12), ok_image(synthetic=True)])
    assert report.synthetic
    assert report.reasons == ["synthetic_images"]
    assert report.statement.startswith("Rendered by software")


# --- counts -------------------------------------------------------------------------------------


def test_copies_count_once() -> None:
    original = ok_image("a.jpg", white_cells=30)
    copy = ok_image("b.jpg", white_cells=30, sha256=original.sha256)
    counts = report_on([original, copy]).counts
    assert (counts.images, counts.ok, counts.copies) == (2, 2, 1)
    assert (counts.judged, counts.white_cells) == (1, 30)


def test_the_interval_of_the_malignant_share_is_wilsons() -> None:
    counts = report_on([*series(5), *series(5, "pre_b")]).counts
    assert counts.malignant_share == 0.5
    interval = counts.malignant_share_interval
    assert interval is not None
    # Newcombe 1998 (doi:10.1002/sim.4780170802): 5 of 10 by the score method.
    assert (interval.low, interval.high) == pytest.approx((0.2366, 0.7634), abs=1e-4)


@given(patients())
def test_no_image_disappears_and_none_counts_twice(images: list[ImageResult]) -> None:
    counts = report_on(images).counts
    assert counts.images == len(images) == counts.ok + counts.failed
    assert counts.high + counts.low == counts.ok == sum(counts.by_label.values())
    assert counts.judged + counts.copies <= counts.ok
    assert counts.judged_white_cells <= counts.white_cells


@given(patients(), st.randoms(use_true_random=False))
def test_the_order_of_images_makes_no_difference(images: list[ImageResult], random) -> None:  # type: ignore[no-untyped-def]  # hypothesis hands in a Random
    shuffled = random.sample(images, len(images))
    assert report_on(shuffled) == report_on(images)


@given(patients())
def test_copying_every_image_changes_neither_call_nor_evidence(images: list[ImageResult]) -> None:
    readable = [image for image in images if image.status == "ok"]
    copies = [image.model_copy(update={"source": f"copy of {image.source}"}) for image in readable]
    before, after = report_on(readable), report_on([*readable, *copies])
    assert (before.call, before.flag) == (after.call, after.flag)
    assert before.counts.judged == after.counts.judged
    assert before.counts.white_cells == after.counts.white_cells


@given(patients(), st.data())
def test_turning_a_benign_image_malignant_never_makes_a_call_benign(
    images: list[ImageResult], data: st.DataObject
) -> None:
    # Copies share one content and so one label: look at patients without.
    images = list({image.sha256 or image.source: image for image in images}.values())
    benign = [number for number, image in enumerate(images) if image.label == "benign"]
    if not benign:
        return
    chosen = data.draw(st.sampled_from(benign))
    worse = list(images)
    worse[chosen] = images[chosen].model_copy(update={"label": "pro_b"})
    if report_on(images).call != "benign":
        assert report_on(worse).call != "benign"


@given(patients())
def test_a_benign_call_with_high_confidence_hides_no_certain_malignant_image(
    images: list[ImageResult],
) -> None:
    report = report_on(images)
    if (report.call, report.flag) == ("benign", "high"):
        assert not any(
            image.label in MALIGNANT_LABELS and image.confidence and image.cells
            for image in report.images
            if image.confidence and image.confidence.flag == "high"
        )
        assert report.counts.judged_white_cells >= 100


@given(patients())
def test_the_flag_is_low_exactly_if_there_are_reasons(images: list[ImageResult]) -> None:
    report = report_on(images)
    assert (report.flag == "low") == bool(report.reasons)
    assert set(report.reasons) <= set(REASONS)


# --- words --------------------------------------------------------------------------------------


def test_too_few_cells_are_said_in_words() -> None:
    statement = report_on([*series(3, cells=9), ok_image(white_cells=10)]).statement
    assert statement.startswith(
        "37 white cells in 4 fields examined: too few to judge with confidence (100 are usual)."
    )


def test_the_statement_says_what_was_judged_what_failed_and_what_was_copied() -> None:
    judged = series(12, "pre_b")
    copy = judged[0].model_copy(update={"source": "copy.jpg"})
    others = [*series(2, "pro_b", "low"), failed_image()]
    assert report_on([*judged, copy, *others]).statement == (
        "168 white cells in 14 fields examined, 144 white cells in 12 fields judged. "
        "Copies of other images, not counted again: 1. Images that failed: 1 of 16. "
        "Judged fields that resemble acute lymphoblastic leukaemia: 12 of 12 "
        "(100%, 95% interval 76% to 100%); most of them its pre-B form."
    )


def test_a_single_cell_in_a_single_field_is_counted_in_the_singular() -> None:
    assert "1 white cell in 1 field examined" in report_on([ok_image(white_cells=1)]).statement


def test_no_readable_image_is_said_in_words() -> None:
    assert report_on([failed_image()]).statement.startswith("No image could be read")


def test_every_reason_and_every_call_has_words() -> None:
    assert set(PATIENT_REASONS) == set(REASONS)
    assert set(CALL_NAMES) == set(CALL_MEANINGS) == set(get_args(Call))


# --- misuse -------------------------------------------------------------------------------------


def test_images_come_out_sorted_by_source() -> None:
    sources = ["b.jpg", "a.jpg", "ä.jpg", "B.jpg"]
    report = report_on([ok_image(source) for source in sources])
    assert [image.source for image in report.images] == sorted(sources)


def test_an_image_given_twice_is_an_error_not_a_second_vote() -> None:
    with pytest.raises(ValueError, match="twice"):
        report_on([ok_image(), ok_image()])


def test_a_judged_image_without_a_label_is_an_error() -> None:
    unlabelled = ImageResult(source="a.jpg", status="ok")
    with pytest.raises(ValueError, match="no label"):
        build_report("P-17", [unlabelled], MODEL, AnalysisOptions(), SOFTWARE)
