"""The confidence flag and how its thresholds are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from pipeline.confidence import (
    NEVER,
    CalibrationCase,
    Thresholds,
    calibrate,
    conformal_quantile,
    controlled_limit,
    fit_temperature,
    judge,
    p_value,
    tempered,
    typicality_of,
)
from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS, Label, ReferenceLabel
from pipeline.neighbours import Neighbours
from pipeline.results import Confidence, Neighbour, Quality
from pipeline.types import ClassScores, FieldGeometry, FieldTile, Rectangle

#: As an older bundle has them.
OLDER = Thresholds(
    n_close=5,
    max_distance=1.0,
    min_agreement=0.8,
    min_probability=0.7,
    calibration_images=100,
    target_coverage=0.99,
    target_error=0.01,
    calibration_coverage=0.9,
    calibration_error=0.01,
)
THRESHOLDS = Thresholds(
    n_close=5,
    max_distance=1.0,
    calibration_images=100,
    target_coverage=0.99,
    target_error=0.01,
    calibration_coverage=0.9,
    calibration_error=0.01,
    min_consensus=0.7,
    min_visible=0.02,
    distances={"pre_b": [n / 100 for n in range(1, 101)]},
    consensus=[n / 100 for n in range(1, 101)],
)


def scores(label: Label = "pre_b", probability: float = 0.9) -> ClassScores:
    probabilities = np.full(4, (1 - probability) / 3)
    probabilities[LABELS.index(label)] = probability
    return ClassScores(label, probabilities, np.zeros(3, np.float32), probabilities[None], 0)


def neighbours(distance: float = 0.5, labels: str = "ppppp") -> Neighbours:
    names: dict[str, ReferenceLabel] = {"p": "pre_b", "b": "benign", "m": "malignant"}
    return Neighbours(
        tuple(
            Neighbour(id=str(rank), label=names[letter], distance=distance)
            for rank, letter in enumerate(labels)
        )
    )


def quality(*reasons: str) -> Quality:
    return Quality(focus=2.0, brightness=0.8, contrast=0.5, saturated=0.0, reasons=list(reasons))


def geometry(scale_known: bool = True, visible: int = 10) -> FieldGeometry:
    """``visible``: pixels of a hundred that are white cell."""
    mask = np.arange(100).reshape(10, 10) < visible
    tile = FieldTile(np.zeros((10, 10, 3), np.uint8), Rectangle(0, 0, 10, 10), mask, mask, 1)
    return FieldGeometry("as_is", 18.0, scale_known, (tile,))


def judged(**changes: object) -> Confidence:
    given = {
        "scores": scores(),
        "neighbours": neighbours(),
        "quality": quality(),
        "geometry": geometry(),
        "thresholds": THRESHOLDS,
        **changes,
    }
    return judge(**given)  # type: ignore[arg-type]


def test_the_flag_is_high_when_nothing_speaks_against_it():
    for thresholds in (THRESHOLDS, OLDER):
        found = judged(thresholds=thresholds)
        assert (found.flag, found.reasons) == ("high", [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"neighbours": neighbours(distance=1.01)}, "far_from_references"),
        ({"neighbours": neighbours(labels="pppbb")}, "neighbours_disagree"),
        ({"scores": scores(probability=0.69)}, "network_uncertain"),
        ({"geometry": geometry(scale_known=False)}, "scale_unknown"),
        ({"geometry": geometry(visible=1)}, "little_visible"),
        ({"quality": quality("no_white_cell")}, "no_white_cell"),
    ],
)
def test_each_objection_alone_makes_the_flag_low_and_is_named(changes, reason):
    found = judged(**changes)
    assert (found.flag, found.reasons) == ("low", [reason])


def test_a_vote_against_the_network_makes_the_flag_low():
    reasons = judged(scores=scores("pro_b", 0.95)).reasons
    assert reasons == ["network_and_neighbours_disagree", "neighbours_disagree"]
    assert judged(scores=scores("pro_b"), thresholds=OLDER).reasons == [
        "network_and_neighbours_disagree"
    ]


def test_malignant_neighbours_without_a_subtype_agree_with_any_malignant_label():
    assert judged(neighbours=neighbours(labels="mmmmm")).flag == "high"
    assert judged(neighbours=neighbours(labels="mmmmm")).vote == "malignant"
    assert judged(scores=scores("benign"), neighbours=neighbours(labels="mmmmm")).flag == "low"


def test_an_unknown_scale_does_not_count_where_the_calibration_images_have_it_too():
    known = THRESHOLDS.model_copy(update={"unknown_scale_seen": True})
    assert judged(geometry=geometry(scale_known=False), thresholds=known).flag == "high"


def test_a_bundle_without_a_reachable_limit_is_never_high():
    never = THRESHOLDS.model_copy(update={"min_consensus": NEVER})
    assert judged(scores=scores(probability=1.0), thresholds=never).flag == "low"


@given(
    st.floats(0, 2),
    st.floats(0.25, 1),
    st.sampled_from(["ppppp", "ppppb", "pppbb", "bbbbb", "mmmpb"]),
    st.floats(0, 1),
)
def test_more_of_what_speaks_for_an_image_never_makes_it_worse(distance, probability, labels, step):
    before = judged(scores=scores("pre_b", probability), neighbours=neighbours(distance, labels))
    nearer = judged(
        scores=scores("pre_b", probability), neighbours=neighbours(distance * step, labels)
    )
    surer = judged(
        scores=scores("pre_b", probability + (1 - probability) * step),
        neighbours=neighbours(distance, labels),
    )
    for better in (nearer, surer):
        assert set(better.reasons) <= set(before.reasons)
        assert better.score >= before.score
    assert (before.flag == "low") == bool(before.reasons)
    assert before.consensus >= THRESHOLDS.min_consensus or before.flag == "low"


def test_older_bundles_have_no_score_and_what_cannot_be_a_matter_of_degree_scores_nothing():
    assert judged(thresholds=OLDER).score is None
    assert judged(quality=quality("blank")).score == 0.0
    # Distance 0.5 is reached by 51 of 100, consensus 0.9 not exceeded by 90.
    assert judged().score == pytest.approx(52 / 101)
    assert judged(neighbours=neighbours(0.005)).score == pytest.approx(91 / 101)


@given(st.integers(20, 120), st.integers(0, 2**32 - 1), st.booleans())
def test_p_values_of_exchangeable_images_are_never_too_small(count, seed, ties):
    # Over all choices of which of n + 1 values is the new one, at most a share a has p <= a.
    values = np.random.default_rng(seed).gamma(2, size=count + 1)
    values = np.round(values) if ties else values
    found = [
        p_value(float(values[one]), sorted(np.delete(values, one).tolist()))
        for one in range(count + 1)
    ]
    for level in (0.01, 0.05, 0.1, 0.5):
        assert np.mean(np.array(found) <= level) <= level
    assert ties or np.mean(found) == pytest.approx((count + 2) / (count + 1) / 2)


def test_a_label_has_a_p_value_of_its_own_once_it_has_images_enough():
    near, far = [n / 100 for n in range(49)], [5.0 + n for n in range(300)]
    assert typicality_of("pro_b", 1.0, {"pro_b": near, "pre_b": far}) == pytest.approx(1 / 50)
    few = {"pro_b": near[:48], "pre_b": far}
    assert typicality_of("pro_b", 1.0, few) == pytest.approx(301 / 349)


def test_the_conformal_quantile_covers_new_values_as_promised():
    rng = np.random.default_rng(7)
    covered = [
        rng.normal() <= conformal_quantile(rng.normal(size=199).tolist(), 0.9) for _ in range(2000)
    ]
    # Binomial(2000, 0.9): four standard deviations are 0.027.
    assert np.mean(covered) == pytest.approx(0.9, abs=0.027)


def test_too_few_calibration_images_for_the_promise_are_refused():
    with pytest.raises(ConfigurationError, match="at least 99"):
        conformal_quantile([1.0] * 50, 0.99)
    with pytest.raises(ConfigurationError, match="at least 99"):
        calibrate(cases(np.random.default_rng(0), 98))
    with pytest.raises(ConfigurationError, match="at least 199"):
        calibrate(cases(np.random.default_rng(0), 150))
    assert calibrate(cases(np.random.default_rng(0), 99), target_missed=0.01)


def test_the_temperature_is_found_that_a_network_was_distorted_with():
    rng = np.random.default_rng(1)
    honest = softmax(2 * rng.normal(size=(20000, 4)), axis=1)
    truths = [LABELS[int(rng.choice(4, p=row))] for row in honest]
    boasting = softmax(3 * np.log(honest), axis=1)
    assert fit_temperature(boasting, truths) == pytest.approx(3, rel=0.05)


@given(st.floats(0.3, 10), st.lists(st.floats(0.01, 1), min_size=4, max_size=4))
def test_temperature_changes_no_label_and_leaves_probabilities(temperature, weights):
    probabilities = np.array(weights) / sum(weights)
    label = LABELS[int(probabilities.argmax())]
    before = ClassScores(label, probabilities, np.zeros(2), probabilities[None], 0)
    after = tempered(before, temperature)
    assert after.probabilities.sum() == pytest.approx(1)
    assert after.probabilities[LABELS.index(label)] == after.probabilities.max()
    assert (after.probabilities.max() >= probabilities.max() - 1e-12) == (temperature <= 1) or (
        np.ptp(probabilities) < 1e-6
    )


def test_certain_probabilities_survive_any_temperature():
    certain = replace(scores(), probabilities=np.array([0.0, 0.0, 1.0, 0.0]))
    assert tempered(certain, 20).probabilities.sum() == pytest.approx(1)


def cases(rng: np.random.Generator, count: int = 1000) -> list[CalibrationCase]:
    """Images whose chance of being right grows with the network's probability."""
    found = []
    for _ in range(count):
        probability = float(rng.uniform(0.5, 1.0))
        right = rng.random() < (1.0 if probability > 0.8 else 0.7)
        found.append(
            CalibrationCase(
                truth="pre_b" if right else "pro_b",
                scores=scores("pre_b", probability),
                neighbours=neighbours(distance=float(rng.gamma(2.0))),
            )
        )
    return found


def test_thresholds_keep_most_images_at_the_error_asked_for():
    thresholds = calibrate(cases(np.random.default_rng(3)))
    # Above a probability of 0.8 nothing is wrong: with all of that 40 % of the images are kept.
    assert 0.36 < thresholds.calibration_coverage < 0.45
    assert 0 < thresholds.calibration_error * thresholds.calibration_coverage <= 0.01
    assert thresholds.sets["training set"].coverage == thresholds.calibration_coverage


def test_a_missed_malignant_image_counts_for_more_than_a_confused_subtype():
    rng = np.random.default_rng(4)
    confused = cases(rng)
    missed = [
        replace(
            case,
            truth="pre_b" if not case.correct else "benign",
            scores=scores("benign", float(case.scores.probabilities.max())),
            neighbours=neighbours(case.neighbours.distance, "bbbbb"),
        )
        for case in confused
    ]
    assert sum(case.missed for case in missed) == sum(not case.correct for case in confused)
    coverage = [calibrate(some).calibration_coverage for some in (confused, missed)]
    assert coverage[1] < coverage[0]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=19, max_size=80),
    st.sampled_from([0.05, 0.1, 0.3]),
)
def test_the_limit_is_the_lowest_that_controls_the_risk(found, target):
    consensus, wrong = [c / 20 for c, _ in found], [is_wrong for _, is_wrong in found]

    def bound(limit: float) -> float:
        kept = sum(w for c, w in zip(consensus, wrong, strict=True) if c >= limit)
        return (kept + 1) / (len(found) + 1)

    limit = controlled_limit(consensus, wrong, target)
    assert bound(limit) <= target + 1e-9
    lower = [value for value in [0.0, *consensus] if value < limit]
    assert all(bound(value) > target for value in lower)


def test_new_images_are_high_and_wrong_no_more_often_than_promised():
    rng = np.random.default_rng(5)
    total = []
    for _ in range(400):
        consensus = rng.uniform(size=200)
        wrong = rng.uniform(size=200) > consensus
        limit = controlled_limit(consensus[:199].tolist(), wrong[:199].tolist(), 0.05)
        # Expected share of new images kept and wrong: the integral of 1 - c from the limit on.
        total.append((1 - min(limit, 1.0)) ** 2 / 2)
    assert 0.035 < np.mean(total) <= 0.05


def test_the_risk_is_controlled_in_every_set_alone():
    """A hundred images of another laboratory, half of them wrong, among a thousand good ones."""
    rng = np.random.default_rng(6)
    ours = [
        replace(case, truth="pre_b" if number % 2 else "pro_b", source="our lab")
        for number, case in enumerate(cases(rng, 100))
    ]
    known = [replace(case, truth="pre_b") for case in cases(rng)]
    alone = calibrate(known, target_missed=0.01)
    assert alone.calibration_coverage > 0.9
    together = calibrate([*known, *ours], target_missed=0.01)
    found = together.sets["our lab"]
    assert (found.error or 0) * found.coverage * found.images == 0
    assert together.min_consensus > alone.min_consensus
    with pytest.raises(ConfigurationError, match="our lab: 98 calibration images"):
        calibrate([*known, *ours[:98]], target_missed=0.01)


def test_images_of_one_patient_count_together():
    """Wrong on one patient of twenty, whose images are many: one error, not half of all."""
    patients = [0] * 100 + [1 + number % 19 for number in range(95)]
    wrong = [patient == 0 for patient in patients]
    consensus = [0.9 if is_wrong else 0.5 for is_wrong in wrong]
    assert controlled_limit(consensus, wrong, 0.1, patients) == 0.0
    assert controlled_limit(consensus, wrong, 0.1) == NEVER
    # A few images of each of many patients, all of them wrong, are as many errors as patients.
    spread = [number < 5 for number in range(95)]
    assert controlled_limit([0.5] * 95, spread, 0.1, [n % 19 for n in range(95)]) == 0.0
    assert controlled_limit([0.5] * 95, spread, 0.05, [n % 19 for n in range(95)]) == NEVER
    with pytest.raises(ConfigurationError, match="20 patients with calibration images"):
        controlled_limit(consensus, wrong, 0.01, patients)


def test_a_model_that_is_wrong_everywhere_is_never_high():
    wrong = [
        CalibrationCase("benign" if number % 2 else "pre_b", scores(), neighbours())
        for number in range(200)
    ]
    thresholds = calibrate(wrong)
    assert thresholds.min_consensus == NEVER
    assert thresholds.calibration_coverage == 0
    assert judged(thresholds=thresholds).flag == "low"


def test_constant_distances_and_perfect_images_are_all_kept():
    thresholds = calibrate(
        [CalibrationCase("pre_b", scores(), neighbours(0.0), visible=0.05) for _ in range(250)]
    )
    assert thresholds.calibration_coverage == 1
    assert thresholds.temperature >= 0.25
    sure = tempered(scores(), thresholds.temperature)
    assert judged(scores=sure, neighbours=neighbours(0.0), thresholds=thresholds).flag == "high"


def test_numbers_that_are_none_are_refused():
    spoilt = replace(scores(), probabilities=np.array([np.nan, 0, 1, 0]))
    found = cases(np.random.default_rng(6), 300)
    with pytest.raises(ConfigurationError, match="not numbers"):
        calibrate([*found, CalibrationCase("pre_b", spoilt, neighbours())])
    with pytest.raises(ConfigurationError, match="not numbers"):
        calibrate([*found, CalibrationCase("pre_b", scores(), neighbours(float("nan")))])
