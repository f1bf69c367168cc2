"""How the thresholds of the confidence flag are found, and whether they keep their promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from pipeline.confidence import NEVER, tempered
from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS
from pipeline.thresholds import (
    CalibrationCase,
    calibrate,
    conformal_quantile,
    controlled_limit,
    fit_temperature,
)
from tests.pipeline.flag_builder import judged, neighbours, scores


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


def test_thresholds_keep_most_images_at_the_error_asked_for():
    some = cases(np.random.default_rng(3))
    thresholds = calibrate(some)
    # Above a probability of 0.8 nothing is wrong: with all of that 40 % of the images are kept.
    assert 0.36 < thresholds.calibration_coverage < 0.45
    assert thresholds.calibration_error * thresholds.calibration_coverage <= 0.01
    assert thresholds.sets["training set"].coverage == thresholds.calibration_coverage
    more = calibrate(some, target_error=0.02, target_missed=0.01)
    assert more.calibration_coverage > thresholds.calibration_coverage
    assert 0.01 < more.calibration_error * more.calibration_coverage <= 0.02


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
    targets = {"target_error": 0.02, "target_missed": 0.01}
    coverage = [calibrate(some, **targets).calibration_coverage for some in (confused, missed)]
    assert coverage[1] < coverage[0]


def test_an_image_that_is_likely_wrong_is_not_high_however_good_the_others_are():
    sure = [CalibrationCase("pre_b", scores(), neighbours(), visible=0.05) for _ in range(250)]
    thresholds = calibrate(sure)
    assert (thresholds.calibration_error, thresholds.min_consensus) == (0, 0.9)
    for probability, flag in ((0.89, "low"), (0.91, "high")):
        found = judged(scores=scores("pre_b", probability), thresholds=thresholds)
        assert found.flag == flag
    assert calibrate(sure, target_error=0.05).min_consensus == 0.5


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
