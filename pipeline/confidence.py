"""The confidence flag: has the model seen anything like this, and does everything agree?

The flag is ``high`` only if nothing speaks against it. Its thresholds are computed from labelled
images kept out of training (``calibrate``) and travel in the model bundle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.labels import Label
from pipeline.neighbours import Neighbours
from pipeline.results import Confidence, Quality, Record
from pipeline.types import ClassScores, FieldGeometry

#: Number of neighbours that are looked at (Genovese et al. 2025 use 5 on all but one set).
N_CLOSE = 5


class Thresholds(Record):
    """What separates ``high`` from ``low``, and how it was found."""

    n_close: int
    max_distance: float
    min_agreement: float
    min_probability: float
    calibration_images: int
    target_coverage: float
    target_error: float
    calibration_coverage: float
    calibration_error: float


@dataclass(frozen=True)
class CalibrationCase:
    """What the model said of one labelled image that it was not trained on."""

    truth: Label
    scores: ClassScores
    neighbours: Neighbours

    @property
    def correct(self) -> bool:
        """Whether the network named the right class."""
        return self.scores.label == self.truth

    @property
    def agrees(self) -> bool:
        """Whether network and neighbours name the same class."""
        return self.scores.label == self.neighbours.vote


def judge(
    scores: ClassScores,
    neighbours: Neighbours,
    quality: Quality,
    geometry: FieldGeometry,
    thresholds: Thresholds,
) -> Confidence:
    """Collect everything that speaks against trusting the decision; the flag follows from it."""
    reasons = list(quality.reasons)
    if not geometry.scale_known:
        reasons.append("scale_unknown")
    if neighbours.distance > thresholds.max_distance:
        reasons.append("far_from_references")
    if neighbours.agreement < thresholds.min_agreement:
        reasons.append("neighbours_disagree")
    if scores.label != neighbours.vote:
        reasons.append("network_and_neighbours_disagree")
    if scores.probabilities.max() < thresholds.min_probability:
        reasons.append("network_uncertain")
    return Confidence(
        flag="low" if reasons else "high",
        reasons=reasons,
        vote=neighbours.vote,
        agreement=neighbours.agreement,
        distance=neighbours.distance,
        neighbours=list(neighbours.nearest),
    )


def conformal_quantile(values: Sequence[float], coverage: float) -> float:
    """Smallest calibration value that a new exchangeable one exceeds with at most ``1 - coverage``.

    Split conformal prediction (Vovk et al. 2005): the ``ceil((n + 1) coverage)``-th smallest of
    ``n`` values. Raises ConfigurationError if ``n`` is too small for the coverage asked for.
    """
    rank = math.ceil((len(values) + 1) * coverage)
    if rank > len(values):
        raise ConfigurationError(
            f"{len(values)} calibration images cannot support a coverage of {coverage:.0%}; "
            f"at least {math.ceil(coverage / (1 - coverage))} are needed"
        )
    return float(np.sort(np.asarray(values))[rank - 1])


def calibrate(
    cases: Sequence[CalibrationCase], *, target_coverage: float = 0.99, target_error: float = 0.01
) -> Thresholds:
    """Choose thresholds on labelled images that were kept out of training.

    The distance limit is the conformal quantile that keeps ``target_coverage`` of the calibration
    images. Among the images within it whose neighbours agree with the network, agreement and
    probability limits are chosen that keep the most images while at most ``target_error`` of those
    kept are wrong; if no pair reaches that, the one with the smallest error.
    """
    max_distance = conformal_quantile([case.neighbours.distance for case in cases], target_coverage)
    near = [case for case in cases if case.agrees and case.neighbours.distance <= max_distance]
    agreements = sorted({case.neighbours.agreement for case in near})
    # A limit half-way between two observed values would do as well; an observed value is simplest.
    probabilities = [0.0, *sorted({float(case.scores.probabilities.max()) for case in near})]

    def figures(pair: tuple[float, float]) -> tuple[int, float]:
        kept = [
            case.correct
            for case in near
            if case.neighbours.agreement >= pair[0] and case.scores.probabilities.max() >= pair[1]
        ]
        return len(kept), 1.0 - sum(kept) / len(kept) if kept else 0.0

    candidates = {
        (agreement, probability): figures((agreement, probability))
        for agreement in agreements
        for probability in probabilities
    }
    if not candidates:
        raise ConfigurationError(
            "network and neighbours agree on none of the calibration images: train longer"
        )
    good = {pair: found for pair, found in candidates.items() if found[1] <= target_error}
    if good:
        chosen = max(good, key=lambda pair: (good[pair][0], -pair[0], -pair[1]))
    else:
        chosen = min(candidates, key=lambda pair: (candidates[pair][1], -candidates[pair][0]))
    kept, error = candidates[chosen]
    return Thresholds(
        n_close=N_CLOSE,
        max_distance=max_distance,
        min_agreement=chosen[0],
        min_probability=chosen[1],
        calibration_images=len(cases),
        target_coverage=target_coverage,
        target_error=target_error,
        calibration_coverage=kept / len(cases),
        calibration_error=error,
    )
