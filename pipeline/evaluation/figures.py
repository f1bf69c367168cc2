"""From judgements to figures: everything ``evaluation.json`` says of a classifier."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.evaluation import measures
from pipeline.evaluation.bootstrap import difference_of_shares, figure, resample_counts
from pipeline.evaluation.judge import Judgement
from pipeline.evaluation.measures import counted, of_matrix
from pipeline.labels import LABELS
from pipeline.report.aggregate import build_report
from pipeline.results import AnalysisOptions, ModelRecord
from pipeline.statistics import wilson_interval


class Resampling:
    """How often each image is drawn: seeded, the same for every figure on the same images."""

    def __init__(self, resamples: int, seed: int) -> None:
        self.resamples, self.seed = resamples, seed

    def images(self, judgements: Sequence[Judgement]) -> np.ndarray:
        """Counts where images are drawn one by one."""
        return resample_counts(len(judgements), resamples=self.resamples, seed=self.seed)

    def groups(self, judgements: Sequence[Judgement]) -> np.ndarray:
        """Counts where whole groups (blocks, stain groups, subjects) are drawn."""
        names = [one.example.group or one.example.path for one in judgements]
        return resample_counts(
            len(judgements), resamples=self.resamples, seed=self.seed, groups=names
        )


def is_wrong(one: Judgement) -> bool:
    """Whether the label is wrong; for what is none of the classes, every label is."""
    if one.example.truth == "malignant":
        return one.label == "benign"
    return one.label != one.example.truth


def is_missed(one: Judgement) -> bool:
    """Whether a malignant image was called benign: the costly error in screening."""
    return one.example.malignant and one.label == "benign"


def four_classes(judgements: Sequence[Judgement], draw: Resampling) -> dict[str, Any] | None:
    """Figures over the four classes, of the images that are one of them; None without any."""
    judgements = [one for one in judgements if one.example.of_four]
    if not judgements:
        return None
    truth = np.array([LABELS.index(one.example.truth) for one in judgements])
    decision = np.array([LABELS.index(one.label) for one in judgements])
    probabilities = np.array([one.probabilities for one in judgements])
    right = truth == decision
    counts = draw.images(judgements)
    matrices = measures.confusions(truth, decision, len(LABELS))
    totals, called = np.bincount(truth, minlength=4), np.bincount(decision, minlength=4)

    def of_class(number: int) -> dict[str, Any]:
        images, decisions = int(totals[number]), int(called[number])
        bases = {
            "recall": (measures.recall, images),
            "precision": (measures.precision, decisions),
            "specificity": (measures.specificity, len(truth) - images),
            "f1": (measures.f1, images),
        }
        found = {
            name: figure(of_matrix(matrices, function, number), counts, n=n)
            for name, (function, n) in bases.items()
        }
        found["auc"] = figure(measures.auc(probabilities[:, number], truth == number), counts)
        return found

    top = probabilities.max(axis=1)
    return {
        "images": len(judgements),
        "accuracy": counted(right, counts),
        "accuracy_by_group": figure(
            of_matrix(matrices, measures.accuracy), draw.groups(judgements)
        ),
        "balanced_accuracy": figure(of_matrix(matrices, measures.balanced_accuracy), counts),
        "matthews": figure(of_matrix(matrices, measures.matthews), counts),
        "auc": figure(measures.mean_auc(probabilities, truth), counts),
        "brier": figure(measures.brier(probabilities, truth), counts),
        "calibration_error": figure(measures.calibration_error(top, right), counts),
        "classes": {label: of_class(number) for number, label in enumerate(LABELS)},
        "confusion": matrices(counts[:1])[0].astype(int).tolist(),
        "reliability": measures.reliability(top, right),
        "roc": {
            label: measures.roc(probabilities[:, number], truth == number)
            for number, label in enumerate(LABELS)
        },
    }


def benign_or_malignant(judgements: Sequence[Judgement], draw: Resampling) -> dict[str, Any] | None:
    """Figures for the question that matters in screening; None without benign or malignant images.

    The decision is malignant if the label is; its probability is the sum over the subtypes.
    """
    judgements = [one for one in judgements if one.example.truth != "outside"]
    if not judgements:
        return None
    truth = np.array([one.example.malignant for one in judgements]).astype(int)
    decision = np.array([one.label != "benign" for one in judgements]).astype(int)
    probability = np.array([1 - one.probabilities[0] for one in judgements])
    counts = draw.images(judgements)
    matrices = measures.confusions(truth, decision, 2)
    malignant, benign, called = int(truth.sum()), int((1 - truth).sum()), int(decision.sum())
    missed = np.array([is_missed(one) for one in judgements])
    return {
        "images": len(judgements),
        "accuracy": counted(truth == decision, counts),
        "balanced_accuracy": figure(of_matrix(matrices, measures.balanced_accuracy), counts),
        "missed_malignant": counted(missed, counts, truth == 1),
        "sensitivity": figure(of_matrix(matrices, measures.recall, 1), counts, n=malignant),
        "specificity": figure(of_matrix(matrices, measures.specificity, 1), counts, n=benign),
        "precision": figure(of_matrix(matrices, measures.precision, 1), counts, n=called),
        "f1": figure(of_matrix(matrices, measures.f1, 1), counts),
        "matthews": figure(of_matrix(matrices, measures.matthews), counts),
        "auc": figure(measures.auc(probability, truth == 1), counts),
        "brier": figure(measures.binary_brier(probability, truth), counts),
        "calibration_error": figure(measures.calibration_error(probability, truth), counts),
        "confusion": matrices(counts[:1])[0].astype(int).tolist(),
        "reliability": measures.reliability(probability, truth),
        "roc": measures.roc(probability, truth == 1),
    }


def confidence(judgements: Sequence[Judgement], draw: Resampling) -> dict[str, Any] | None:
    """What the flag keeps and what is wrong in it; None for a classifier without a flag.

    On images that are none of the classes every ``high`` is wrong.
    """
    flagged = [one for one in judgements if one.flag is not None]
    if not flagged:
        return None
    counts = draw.images(flagged)
    high = np.array([one.flag == "high" for one in flagged])
    wrong = np.array([is_wrong(one) for one in flagged])
    missed = np.array([is_missed(one) for one in flagged])
    malignant = np.array([one.example.malignant for one in flagged])
    reasons = Counter(
        reason
        for one in flagged
        if one.result is not None and one.result.confidence is not None
        for reason in one.result.confidence.reasons
    )
    return {
        "images": len(flagged),
        "coverage": counted(high, counts),
        "error": counted(wrong, counts, high),
        "missed_malignant": counted(missed, counts, high & malignant),
        "high_and_wrong": counted(high & wrong, counts),
        "reasons": dict(sorted(reasons.items())),
        "risk_coverage": {
            name: measures.risk_coverage(trust, wrong) for name, trust in _trust(flagged).items()
        },
    }


def _trust(judgements: Sequence[Judgement]) -> dict[str, np.ndarray]:
    """Numbers by which decisions could be trusted, larger is more: probability, distance, score."""
    found = {"probability": np.array([one.probabilities.max() for one in judgements])}
    kept = [
        one.result.confidence
        for one in judgements
        if one.result is not None and one.result.confidence is not None
    ]
    if len(kept) == len(judgements):
        found["distance"] = -np.array([one.distance for one in kept])
        if all(one.score is not None for one in kept):
            found["score"] = np.array([one.score for one in kept], dtype=np.float64)
    return found


def patients(
    judgements: Sequence[Judgement], model: ModelRecord, options: AnalysisOptions
) -> dict[str, Any] | None:
    """The call of every patient by the rule of the reports; None where nothing names patients.

    A patient is malignant if one of his images is. With unknown subtypes any malignant call is
    right.
    """
    images: dict[str, list[Judgement]] = defaultdict(list)
    for one in judgements:
        if one.example.patient is not None and one.result is not None:
            images[one.example.patient].append(one)
    if not images:
        return None
    rows = []
    for patient, ones in sorted(images.items()):
        results = [one.result for one in ones if one.result is not None]
        report = build_report(patient, results, model, options, {})
        truths = sorted({one.example.truth for one in ones} - {"benign"}) or ["benign"]
        truth = truths[0] if len(truths) == 1 else "malignant"
        any_malignant = report.call not in {"benign", "not_assessable"}
        right = any_malignant if truth == "malignant" else report.call == truth
        rows.append(
            {
                "patient": patient,
                "images": len(ones),
                "truth": truth,
                "call": report.call,
                "flag": report.flag,
                "right": bool(right),
            }
        )
    malignant = [row for row in rows if row["truth"] not in {"benign", "outside"}]
    high = [row for row in rows if row["flag"] == "high"]
    return {
        "patients": len(rows),
        "right": _wilson([bool(row["right"]) for row in rows]),
        "missed_malignant": _wilson([row["call"] == "benign" for row in malignant]),
        "high": _wilson([row["flag"] == "high" for row in rows]),
        "high_error": _wilson([not row["right"] for row in high]),
        "calls": rows,
    }


def compared(
    judgements: Sequence[Judgement], others: Sequence[Judgement], draw: Resampling
) -> dict[str, Any]:
    """How much more accurate ``judgements`` are than ``others`` on the same images (paired).

    Intervals by image and by group; above zero means better beyond what the draw explains. Only
    images both have judged count.
    """
    wrong = {one.example.path: is_wrong(one) for one in others}
    both = [one for one in judgements if one.example.path in wrong]
    right = np.array([not is_wrong(one) for one in both])
    other = np.array([not wrong[one.example.path] for one in both])
    gain = difference_of_shares(right, other)
    return {
        "accuracy_difference": figure(gain, draw.images(both)),
        "accuracy_difference_by_group": figure(gain, draw.groups(both)),
        "only_model_right": int((right & ~other).sum()),
        "only_baseline_right": int((~right & other).sum()),
    }


def summarise(judgements: Sequence[Judgement], draw: Resampling) -> dict[str, Any]:
    """All figures of a classifier on images."""
    return {
        "four_classes": four_classes(judgements, draw),
        "benign_or_malignant": benign_or_malignant(judgements, draw),
        "confidence": confidence(judgements, draw),
    }


def _wilson(hits: Sequence[bool]) -> dict[str, Any]:
    """A share of few, with the interval that suits few (Wilson)."""
    interval = wilson_interval(sum(hits), len(hits))
    return {
        "value": sum(hits) / len(hits) if hits else None,
        "interval": list(interval) if interval else None,
        "n": len(hits),
        "hits": sum(hits),
    }
