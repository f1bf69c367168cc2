"""The confidence flag: what it is judged by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.confidence import NEVER, Thresholds, p_value, tempered, typicality_of
from pipeline.labels import LABELS
from pipeline.types import ClassScores
from tests.pipeline.flag_builder import THRESHOLDS, geometry, judged, neighbours, quality, scores

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
