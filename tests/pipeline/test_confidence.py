"""The confidence flag and how its thresholds are found."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.confidence import CalibrationCase, Thresholds, calibrate, conformal_quantile, judge
from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS, Label
from pipeline.neighbours import Neighbours
from pipeline.results import Neighbour, Quality
from pipeline.types import ClassScores, FieldGeometry

THRESHOLDS = Thresholds(
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


def scores(label: Label = "pre_b", probability: float = 0.9) -> ClassScores:
    probabilities = np.full(4, (1 - probability) / 3)
    probabilities[LABELS.index(label)] = probability
    return ClassScores(label, probabilities, np.zeros(3, np.float32), probabilities[None], 0)


def neighbours(distance: float = 0.5, labels: str = "ppppp") -> Neighbours:
    names: dict[str, Label] = {"p": "pre_b", "b": "benign"}
    return Neighbours(
        tuple(
            Neighbour(id=str(rank), label=names[letter], distance=distance)
            for rank, letter in enumerate(labels)
        )
    )


def quality(*reasons: str) -> Quality:
    return Quality(focus=2.0, brightness=0.8, contrast=0.5, saturated=0.0, reasons=list(reasons))


def geometry(scale_known: bool = True) -> FieldGeometry:
    return FieldGeometry("as_is", 18.0, scale_known, ())


def flagged(**changes: object) -> tuple[str, list[str]]:
    given = {
        "scores": scores(),
        "neighbours": neighbours(),
        "quality": quality(),
        "geometry": geometry(),
        "thresholds": THRESHOLDS,
        **changes,
    }
    found = judge(**given)  # type: ignore[arg-type]
    return found.flag, found.reasons


def test_the_flag_is_high_when_nothing_speaks_against_it():
    assert flagged() == ("high", [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"neighbours": neighbours(distance=1.01)}, "far_from_references"),
        ({"neighbours": neighbours(labels="pppbb")}, "neighbours_disagree"),
        ({"scores": scores("pro_b")}, "network_and_neighbours_disagree"),
        ({"scores": scores(probability=0.69)}, "network_uncertain"),
        ({"geometry": geometry(scale_known=False)}, "scale_unknown"),
        ({"quality": quality("no_white_cell")}, "no_white_cell"),
    ],
)
def test_each_objection_alone_makes_the_flag_low_and_is_named(changes, reason):
    assert flagged(**changes) == ("low", [reason])


def test_all_objections_are_named():
    _, reasons = flagged(
        neighbours=neighbours(distance=2, labels="ppbbb"), quality=quality("blurred")
    )
    assert reasons == [
        "blurred",
        "far_from_references",
        "neighbours_disagree",
        "network_and_neighbours_disagree",
    ]


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


def cases(rng: np.random.Generator, count: int = 400) -> list[CalibrationCase]:
    """Images whose chance of being right grows with the network's probability."""
    found = []
    for _ in range(count):
        probability = float(rng.uniform(0.5, 1.0))
        right = rng.random() < (1.0 if probability > 0.8 else 0.7)
        found.append(
            CalibrationCase(
                truth="pre_b" if right else "benign",
                scores=scores("pre_b", probability),
                neighbours=neighbours(distance=float(rng.gamma(2.0))),
            )
        )
    return found


def test_thresholds_keep_most_images_at_the_error_asked_for():
    thresholds = calibrate(cases(np.random.default_rng(3)))
    assert thresholds.calibration_error <= 0.01
    assert 0.75 < thresholds.min_probability < 0.85
    assert 0.3 < thresholds.calibration_coverage < 0.5


def test_if_no_thresholds_reach_the_error_the_safest_are_taken_and_the_error_is_told():
    wrong = [
        CalibrationCase("benign" if number % 2 else "pre_b", scores(), neighbours())
        for number in range(200)
    ]
    thresholds = calibrate(wrong)
    assert thresholds.calibration_error == pytest.approx(0.5)
