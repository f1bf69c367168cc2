"""Measures of a classifier, as functions of how often each image was drawn (``bootstrap``).

Every builder takes arrays over images and returns a ``Measure``. Checked against scikit-learn,
which has no way to compute a thousand resamples at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import beta

from pipeline.evaluation.bootstrap import Measure, figure, share_measure

#: Bins of equal width for the calibration error (Guo et al. 2017).
CALIBRATION_BINS = 15

#: Points of a curve that is written down; more are not seen in a plot.
CURVE_POINTS = 200


def confusions(truth: np.ndarray, decision: np.ndarray, classes: int) -> Measure:
    """Confusion matrices float64 ``(rows, classes, classes)``: rows truth, columns decision."""
    cell = np.zeros((len(truth), classes * classes), dtype=np.float32)
    cell[np.arange(len(truth)), truth * classes + decision] = 1
    return lambda counts: (counts @ cell).astype(np.float64).reshape(-1, classes, classes)


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Share of right decisions."""
    return np.trace(matrix, axis1=1, axis2=2) / matrix.sum(axis=(1, 2))


def balanced_accuracy(matrix: np.ndarray) -> np.ndarray:
    """Mean recall of the classes that have images."""
    totals = matrix.sum(axis=2)
    recalls = np.where(totals > 0, _diagonal(matrix) / totals, 0)
    return recalls.sum(axis=1) / (totals > 0).sum(axis=1)


def recall(matrix: np.ndarray, one: int) -> np.ndarray:
    """Right decisions among the images of class ``one`` (sensitivity)."""
    return matrix[:, one, one] / matrix[:, one].sum(axis=1)


def precision(matrix: np.ndarray, one: int) -> np.ndarray:
    """Right decisions among the decisions for class ``one``."""
    return matrix[:, one, one] / matrix[:, :, one].sum(axis=1)


def specificity(matrix: np.ndarray, one: int) -> np.ndarray:
    """Images of other classes that are not called class ``one``."""
    called = matrix[:, :, one].sum(axis=1) - matrix[:, one, one]
    others = matrix.sum(axis=(1, 2)) - matrix[:, one].sum(axis=1)
    return 1 - called / others


def f1(matrix: np.ndarray, one: int) -> np.ndarray:
    """Harmonic mean of precision and recall."""
    both = matrix[:, one].sum(axis=1) + matrix[:, :, one].sum(axis=1)
    return 2 * matrix[:, one, one] / both


def matthews(matrix: np.ndarray) -> np.ndarray:
    """Matthews correlation of any number of classes (Gorodkin 2004); 0 if all is one class."""
    total, right = matrix.sum(axis=(1, 2)), np.trace(matrix, axis1=1, axis2=2)
    true, called = matrix.sum(axis=2), matrix.sum(axis=1)
    covariance = right * total - (true * called).sum(axis=1)
    spread = np.sqrt((total**2 - (called**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1)))
    return np.where(spread > 0, covariance / np.where(spread > 0, spread, 1), 0.0)


def auc(scores: np.ndarray, positive: np.ndarray) -> Measure:
    """Area under the ROC curve: how often a positive image scores higher than a negative one.

    Ties count half. Undefined without images of both kinds.
    """
    _, tie = np.unique(scores, return_inverse=True)
    order = np.argsort(tie, kind="stable")
    starts = np.flatnonzero(np.diff(tie[order], prepend=-1))
    is_positive = positive[order].astype(np.float64)

    def measure(counts: np.ndarray) -> np.ndarray:
        ordered = counts[:, order].astype(np.float64)
        above = np.add.reduceat(ordered * is_positive, starts, axis=1)
        below = np.add.reduceat(ordered * (1 - is_positive), starts, axis=1)
        beaten = np.cumsum(below, axis=1) - below / 2
        return (above * beaten).sum(axis=1) / (above.sum(axis=1) * below.sum(axis=1))

    return measure


def mean_auc(probabilities: np.ndarray, truth: np.ndarray) -> Measure:
    """Mean over the classes of the area of each against the rest."""
    each = [auc(column, truth == one) for one, column in enumerate(probabilities.T)]
    return lambda counts: np.mean([measure(counts) for measure in each], axis=0)


def brier(probabilities: np.ndarray, truth: np.ndarray) -> Measure:
    """Squared distance of the probabilities from the truth, summed over classes: 0 to 2 (Brier)."""
    wanted = np.eye(probabilities.shape[1])[truth]
    return _mean_of(((probabilities - wanted) ** 2).sum(axis=1))


def binary_brier(probability: np.ndarray, happened: np.ndarray) -> Measure:
    """Mean squared difference of a probability and what happened: 0 to 1."""
    return _mean_of((probability - happened) ** 2)


def calibration_error(probability: np.ndarray, happened: np.ndarray) -> Measure:
    """Expected calibration error: mean gap between probability and frequency, over bins by size."""
    member = np.eye(CALIBRATION_BINS)[_bin_of(probability)]
    gap = member * (probability - happened)[:, None]
    return lambda counts: np.abs(counts @ gap).sum(axis=1) / counts.sum(axis=1)


def reliability(probability: np.ndarray, happened: np.ndarray) -> list[dict[str, float]]:
    """For every bin with images: how many, their mean probability, how often it happened."""
    bins = _bin_of(probability)
    return [
        {
            "images": int((bins == one).sum()),
            "probability": float(probability[bins == one].mean()),
            "frequency": float(happened[bins == one].mean()),
        }
        for one in sorted(set(bins.tolist()))
    ]


def roc(scores: np.ndarray, positive: np.ndarray) -> dict[str, list[float]] | None:
    """The ROC curve, at most ``CURVE_POINTS`` points; None without images of both kinds."""
    from sklearn.metrics import roc_curve

    if positive.all() or not positive.any():
        return None
    false, true, _ = roc_curve(positive, scores)
    kept = _spread(len(false))
    return {"false_positive": false[kept].tolist(), "true_positive": true[kept].tolist()}


def risk_coverage(trust: np.ndarray, wrong: np.ndarray) -> dict[str, Any]:
    """How many decisions are wrong among the most trusted ones, by how many are kept.

    ``trust``: larger is more trusted. ``area`` is the mean of the risk over all coverages (area
    under the risk-coverage curve, Geifman and El-Yaniv 2017). Equally trusted images are kept
    together.
    """
    order = np.argsort(-trust, kind="stable")
    kept = np.arange(1, len(trust) + 1)
    last_of_tie = np.append(np.diff(trust[order]) != 0, True)
    risk = np.cumsum(wrong[order]) / kept
    following = np.searchsorted(np.flatnonzero(last_of_tie), np.arange(len(trust)))
    risk = risk[np.flatnonzero(last_of_tie)[following]]
    points = np.flatnonzero(last_of_tie)
    points = points[_spread(len(points))]
    return {
        "coverage": (kept[points] / len(trust)).tolist(),
        "risk": risk[points].tolist(),
        "area": float(risk.mean()),
    }


def upper_bound(hits: int, trials: int) -> float | None:
    """One-sided exact 95 % upper bound of a share (Clopper and Pearson 1934); None without trials.

    Unlike a bootstrap it says something where nothing was wrong: 0 of 300 is at most 1 %.
    """
    if trials == 0:
        return None
    return 1.0 if hits == trials else float(beta.ppf(0.95, hits + 1, trials - hits))


def counted(
    hits: np.ndarray, counts: np.ndarray, among: np.ndarray | None = None
) -> dict[str, Any]:
    """A share with its bootstrap interval, its counts, and the exact upper bound."""
    chosen = np.ones(len(hits), dtype=bool) if among is None else among
    found, trials = int((hits & chosen).sum()), int(chosen.sum())
    return {
        **figure(share_measure(hits, chosen), counts, n=trials),
        "hits": found,
        "upper_95": upper_bound(found, trials),
    }


def of_matrix(matrices: Measure, function: Callable[..., np.ndarray], *arguments: int) -> Measure:
    """A measure of the confusion matrix as a measure of counts."""
    return lambda counts: function(matrices(counts), *arguments)


def _mean_of(values: np.ndarray) -> Measure:
    return lambda counts: (counts @ values) / counts.sum(axis=1)


def _bin_of(probability: np.ndarray) -> np.ndarray:
    return np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)


def _diagonal(matrix: np.ndarray) -> np.ndarray:
    return np.diagonal(matrix, axis1=1, axis2=2)


def _spread(points: int) -> np.ndarray:
    """Positions of at most ``CURVE_POINTS`` of so many points, first and last among them."""
    return np.unique(np.linspace(0, points - 1, min(points, CURVE_POINTS)).round().astype(int))
