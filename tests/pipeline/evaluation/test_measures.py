"""Every measure against scikit-learn or a value computed by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from pipeline.evaluation import measures
from pipeline.evaluation.bootstrap import (
    difference_of_shares,
    figure,
    resample_counts,
    share_measure,
)


def once(images: int) -> np.ndarray:
    return np.ones((1, images), dtype=np.float32)


@st.composite
def classified(draw):
    """Truth, decisions and probabilities of a few dozen images, ties and empty classes included."""
    n = draw(st.integers(4, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    probabilities = np.round(rng.dirichlet(np.ones(4), size=n), draw(st.integers(1, 6)))
    probabilities += 1e-9
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return rng.integers(0, draw(st.integers(1, 4)), n), probabilities.argmax(axis=1), probabilities


@settings(max_examples=40)
@given(classified())
def test_measures_of_decisions_equal_those_of_scikit_learn(example):
    truth, decision, _ = example
    matrix = measures.confusions(truth, decision, 4)(once(len(truth)))
    np.testing.assert_array_equal(
        matrix[0], metrics.confusion_matrix(truth, decision, labels=range(4))
    )
    assert measures.accuracy(matrix)[0] == pytest.approx(metrics.accuracy_score(truth, decision))
    assert measures.matthews(matrix)[0] == pytest.approx(
        metrics.matthews_corrcoef(truth, decision), abs=1e-9
    )
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, decision, labels=range(4), zero_division=np.nan
    )
    assert measures.balanced_accuracy(matrix)[0] == pytest.approx(recall[support > 0].mean())
    with np.errstate(invalid="ignore", divide="ignore"):
        for one in range(4):
            assert measures.precision(matrix, one)[0] == pytest.approx(precision[one], nan_ok=True)
            assert measures.recall(matrix, one)[0] == pytest.approx(recall[one], nan_ok=True)
            if support[one] and (decision == one).any():
                assert measures.f1(matrix, one)[0] == pytest.approx(f1[one])
            # The specificity of a class is the recall of everything else.
            rest = metrics.recall_score(truth != one, decision != one, zero_division=np.nan)
            assert measures.specificity(matrix, one)[0] == pytest.approx(rest, nan_ok=True)


@settings(max_examples=40)
@given(classified())
def test_measures_of_probabilities_equal_those_of_scikit_learn(example):
    truth, _, probabilities = example
    counts = once(len(truth))
    malignant = truth > 0
    if malignant.any() and not malignant.all():
        scores = 1 - probabilities[:, 0]
        assert measures.auc(scores, malignant)(counts)[0] == pytest.approx(
            metrics.roc_auc_score(malignant, scores)
        )
        assert measures.binary_brier(scores, malignant)(counts)[0] == pytest.approx(
            metrics.brier_score_loss(malignant, scores)
        )
    if len(set(truth.tolist())) == 4:
        assert measures.mean_auc(probabilities, truth)(counts)[0] == pytest.approx(
            metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro")
        )
        assert measures.brier(probabilities, truth)(counts)[0] == pytest.approx(
            metrics.brier_score_loss(truth, probabilities, labels=range(4), scale_by_half=False)
        )


@settings(max_examples=40)
@given(classified(), st.integers(0, 1000))
def test_a_resample_has_the_value_of_the_images_it_repeats(example, seed):
    truth, decision, probabilities = example
    counts = resample_counts(len(truth), resamples=3, seed=seed)
    drawn = np.repeat(np.arange(len(truth)), counts[2].astype(int))
    for built, repeated in (
        (measures.brier(probabilities, truth), measures.brier(probabilities[drawn], truth[drawn])),
        (
            measures.calibration_error(probabilities.max(axis=1), truth == decision),
            measures.calibration_error(
                probabilities[drawn].max(axis=1), (truth == decision)[drawn]
            ),
        ),
        (
            measures.auc(probabilities[:, 0], truth == 0),
            measures.auc(probabilities[drawn, 0], (truth == 0)[drawn]),
        ),
    ):
        with np.errstate(invalid="ignore"):
            assert built(counts)[2] == pytest.approx(repeated(once(len(drawn)))[0], nan_ok=True)


def test_the_calibration_error_of_a_worked_example():
    # Two bins: two images at 0.9 of which one happened (gap 0.4), two at 0.2, none (gap 0.2).
    probability = np.array([0.9, 0.9, 0.2, 0.2])
    happened = np.array([1, 0, 0, 0])
    error = measures.calibration_error(probability, happened)(once(4))[0]
    assert error == pytest.approx(0.5 * 0.4 + 0.5 * 0.2)
    assert [one["images"] for one in measures.reliability(probability, happened)] == [2, 2]


def test_the_risk_coverage_curve_of_a_worked_example():
    curve = measures.risk_coverage(np.array([4, 3, 2, 1]), np.array([False, True, False, False]))
    assert curve["coverage"] == [0.25, 0.5, 0.75, 1.0]
    assert curve["risk"] == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
    assert curve["area"] == pytest.approx(np.mean([0, 1 / 2, 1 / 3, 1 / 4]))


def test_equally_trusted_images_are_kept_together_in_the_curve():
    first = measures.risk_coverage(np.array([1, 1, 0]), np.array([True, False, False]))
    other = measures.risk_coverage(np.array([1, 1, 0]), np.array([False, True, False]))
    assert first == other
    assert first["coverage"] == pytest.approx([2 / 3, 1])
    assert first["risk"] == pytest.approx([1 / 2, 1 / 3])


@pytest.mark.parametrize("trials", [1, 10, 299, 3000])
def test_without_an_error_the_upper_bound_is_the_rule_of_three(trials):
    # Solve (1 - p)^n = 0.05.
    assert measures.upper_bound(0, trials) == pytest.approx(1 - 0.05 ** (1 / trials))
    assert measures.upper_bound(trials, trials) == 1
    assert measures.upper_bound(0, 0) is None


def test_the_bootstrap_interval_of_a_share_is_near_the_binomial_one():
    hits = np.arange(400) < 300
    counts = resample_counts(400, resamples=2000, seed=7)
    found = figure(share_measure(hits), counts)
    spread = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert found["value"] == pytest.approx(0.75) and found["n"] == 400
    assert found["interval"] == pytest.approx([0.75 - spread, 0.75 + spread], abs=0.006)


def test_the_bootstrap_follows_from_its_seed_and_draws_n_images():
    one, same, other = (resample_counts(50, resamples=20, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert (one[0] == 1).all() and (one.sum(axis=1) == 50).all()


def test_groups_are_drawn_whole_and_widen_the_interval():
    groups = [f"{number // 20}" for number in range(200)]
    hits = np.array([number // 20 != 3 for number in range(200)])
    counts = resample_counts(200, resamples=500, seed=1, groups=groups)
    assert all(len(set(row[60:80])) == 1 for row in counts)
    by_group = figure(share_measure(hits), counts)
    by_image = figure(share_measure(hits), resample_counts(200, resamples=500, seed=1))
    assert by_group["value"] == by_image["value"] == pytest.approx(0.9)
    width = by_group["interval"][1] - by_group["interval"][0]
    assert width > 2 * (by_image["interval"][1] - by_image["interval"][0])


def test_a_paired_difference_knows_that_both_judged_the_same_images():
    rng = np.random.default_rng(3)
    hits = rng.random(300) < 0.7
    better = hits | (np.arange(300) < 12)
    counts = resample_counts(300, resamples=1000, seed=1)
    found = figure(difference_of_shares(better, hits), counts)
    assert found["value"] == pytest.approx((better & ~hits).sum() / 300)
    # No image is lost, so no resample can be worse; drawn apart, many would be.
    assert found["interval"][0] >= 0
    same = figure(difference_of_shares(hits, hits), counts)
    assert same["value"] == 0 and same["interval"] == [0, 0]


def test_an_undefined_measure_is_none_and_undefined_resamples_are_left_out():
    counts = resample_counts(5, resamples=200, seed=1)
    nothing = figure(share_measure(np.zeros(5, bool), np.zeros(5, bool)), counts)
    assert nothing["value"] is None and nothing["interval"] is None
    rare = figure(share_measure(np.ones(5, bool), np.arange(5) == 0), counts)
    # One of one: resamples without it are left out, and the others say little.
    assert rare["value"] == 1 and rare["interval"] == pytest.approx([0.207, 1], abs=0.001)


def test_a_thousand_resamples_of_some_thousand_images_take_no_time():
    rng = np.random.default_rng(0)
    truth, probabilities = rng.integers(0, 4, 3000), rng.dirichlet(np.ones(4), size=3000)
    counts = resample_counts(3000, resamples=1000, seed=1)
    start = time.process_time()
    figure(measures.auc(probabilities[:, 0], truth == 0), counts)
    figure(measures.brier(probabilities, truth), counts)
    # Fractions of a second; the bound is for machines that are busy with other things.
    assert time.process_time() - start < 3


@pytest.mark.parametrize("missed", [0, 487])
def test_no_error_among_few_images_is_no_proof_of_none(missed: int) -> None:
    hits = np.arange(487) < missed
    found = figure(share_measure(hits), resample_counts(487, resamples=200, seed=1))
    low, high = found["interval"]
    assert found["value"] == missed / 487
    assert high - low == pytest.approx(0.0078, abs=0.0002)
