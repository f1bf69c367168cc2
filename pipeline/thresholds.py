"""Where the limits of the confidence flag come from: labelled images kept out of training.

Distances get conformal quantiles, the consensus the lowest limit at which the risk of an error and
of a missed malignant image stay controlled. docs/confidence.md says what that promises.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from scipy.optimize import minimize_scalar

from pipeline.canonical import rounded
from pipeline.confidence import (
    LABEL_TAIL,
    N_CLOSE,
    NEVER,
    SMALLEST_PROBABILITY,
    TAIL,
    SetFigures,
    Thresholds,
    consensus_of,
    is_far,
    needed_for,
    tempered,
    tempered_probabilities,
)
from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS, MALIGNANT_LABELS, ReferenceLabel
from pipeline.neighbours import Neighbours
from pipeline.types import ClassScores

#: Share of all images that may be ``high`` and wrong, and ``high`` and a missed malignant one.
TARGET_ERROR, TARGET_MISSED = 0.01, 0.005

#: A ``high`` image may by its own consensus be this many times as likely to be wrong as all of them
#: are together. Else a calibration part without errors would call an even chance ``high``.
OWN_RISK = 10

#: Range of temperatures. The lower end keeps a calibration part without a single error, whose
#: likelihood grows without limit as the temperature falls, from making every image certain.
COLDEST, HOTTEST = 0.25, 20.0

#: What is visible may be this much less than in any calibration image: numbers of a bundle are
#: rounded, and that image itself must pass.
ALLOWANCE = 0.999


@dataclass(frozen=True)
class CalibrationCase:
    """What the model said of one labelled image that it was not trained on.

    ``scores`` as the network gave them, before any temperature. ``visible``: share of what the
    network was shown that is white cell. ``source``: the set the image is from. ``patient``: the
    patient's number within the set, None where patients are not known.
    """

    truth: ReferenceLabel
    scores: ClassScores
    neighbours: Neighbours
    visible: float = 1.0
    scale_known: bool = True
    source: str = "training set"
    patient: int | None = None

    @property
    def correct(self) -> bool:
        """Whether the network named the right class, or a malignant one where no more is known."""
        if self.truth == "malignant":
            return self.scores.label in MALIGNANT_LABELS
        return self.scores.label == self.truth

    @property
    def missed(self) -> bool:
        """Whether a malignant image was called benign, the costly error in screening."""
        return self.truth != "benign" and self.scores.label == "benign"

    @property
    def agrees(self) -> bool:
        """Whether network and neighbours name the same class."""
        return self.neighbours.agrees(self.scores.label)


def conformal_quantile(values: Sequence[float], coverage: float) -> float:
    """Smallest calibration value that a new exchangeable one exceeds with at most ``1 - coverage``.

    Split conformal prediction (Vovk et al. 2005): the ``ceil((n + 1) coverage)``-th smallest of
    ``n`` values. Raises ConfigurationError if ``n`` is too small for the coverage asked for.
    """
    rank = math.ceil((len(values) + 1) * coverage - 1e-9)
    if rank > len(values):
        raise ConfigurationError(
            f"{len(values)} calibration images cannot support a coverage of {coverage:.0%}; "
            f"at least {needed_for(1 - coverage)} are needed: keep more groups out of training"
        )
    return float(np.sort(np.asarray(values))[rank - 1])


def fit_temperature(probabilities: np.ndarray, truths: Sequence[ReferenceLabel]) -> float:
    """The temperature that makes the truths likeliest (Guo et al. 2017, section 4.2).

    ``probabilities``: ``(images, classes)``. A malignant image without a known subtype has the
    probability of all malignant classes together.
    """
    right = np.array(
        [
            [label == truth or (truth == "malignant" and label != "benign") for label in LABELS]
            for truth in truths
        ]
    )

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = tempered_probabilities(probabilities, math.exp(log_temperature))
        return -float(np.log(np.maximum((scaled * right).sum(axis=1), SMALLEST_PROBABILITY)).mean())

    found = minimize_scalar(
        negative_log_likelihood, bounds=(math.log(COLDEST), math.log(HOTTEST)), method="bounded"
    )
    return math.exp(found.x)


def controlled_limit(
    consensus: Sequence[float],
    wrong: Sequence[bool],
    target: float,
    patients: Sequence[int] | None = None,
) -> float:
    """Lowest limit of consensus at which ``wrong`` stays controlled at ``target``.

    Conformal risk control (Angelopoulos et al. 2022, theorem 1): the share of images at or above
    the limit that are wrong is, in expectation over new images exchangeable with these, at most
    ``target`` if ``(wrong images kept + 1) / (n + 1) <= target``. Images of one patient are not
    exchangeable with those of others: where ``patients`` are known, a wrong image counts as the
    share of its patient's images that it is, and ``n`` are patients. ``consensus``: 0 for images
    that are not kept at any limit. Raises ConfigurationError if ``n`` is too small for the target.
    """
    units = list(range(len(consensus))) if patients is None else patients
    images_of = Counter(units)
    allowed = (len(images_of) + 1) * target - 1 + 1e-9
    if allowed < 0:
        alone = len(images_of) == len(units)
        what = "calibration images" if alone else "patients with calibration images"
        raise ConfigurationError(
            f"{len(images_of)} {what} cannot show an error of at most {target:.1%}; at least "
            f"{needed_for(target)} are needed, or a larger error must be accepted"
        )
    errors = sorted(
        (
            (value, 1 / images_of[unit])
            for value, is_wrong, unit in zip(consensus, wrong, units, strict=True)
            if is_wrong
        ),
        reverse=True,
    )
    for (value, _), kept in zip(errors, accumulate(share for _, share in errors), strict=True):
        if kept > allowed:
            return min((c for c in consensus if c > value), default=NEVER)
    return 0.0


def calibrate(
    cases: Sequence[CalibrationCase],
    *,
    target_coverage: float = 1 - TAIL,
    target_error: float = TARGET_ERROR,
    target_missed: float = TARGET_MISSED,
) -> Thresholds:
    """Choose thresholds on labelled images that were kept out of training.

    The limits of distance are conformal quantiles. Among the images within them on which network
    and neighbours agree, the limit of consensus is the lowest, and so keeps the most, at which both
    the share of wrong and the share of missed malignant images stay controlled, in every set alone:
    a large set on which the network is good must not hide a small one on which it is not. It is
    ``1 - OWN_RISK * target_error`` at least. Raises ConfigurationError if there are too few images
    of a set for what is asked.
    """
    _refuse_unusable(cases)
    temperature = rounded(
        fit_temperature(np.array([c.scores.probabilities for c in cases]), [c.truth for c in cases])
    )
    cases = [replace(case, scores=tempered(case.scores, temperature)) for case in cases]
    draft = Thresholds(
        n_close=N_CLOSE,
        max_distance=conformal_quantile([c.neighbours.distance for c in cases], target_coverage),
        calibration_images=len(cases),
        target_coverage=target_coverage,
        target_error=target_error,
        target_missed=target_missed,
        calibration_coverage=0.0,
        calibration_error=0.0,
        temperature=temperature,
        min_visible=ALLOWANCE * min((c.visible for c in cases if c.visible > 0), default=0.0),
        unknown_scale_seen=_share(cases, lambda c: not c.scale_known) > LABEL_TAIL,
        distances={
            label: sorted(c.neighbours.distance for c in cases if c.scores.label == label)
            for label in LABELS
        },
        consensus=sorted(consensus_of(c.scores, c.neighbours) for c in cases),
    )
    sources = sorted({case.source for case in cases})
    limit = max(
        rounded(1 - OWN_RISK * target_error),
        *(_limit_of_set(name, cases, draft, target_error, target_missed) for name in sources),
    )
    kept = [case for case in cases if _kept_consensus(case, draft) >= max(limit, 1e-9)]
    return draft.model_copy(
        update={
            "min_consensus": limit,
            "calibration_coverage": len(kept) / len(cases),
            "calibration_error": sum(not c.correct for c in kept) / len(kept) if kept else 0.0,
            "sets": {name: _figures(name, cases, kept) for name in sources},
        }
    )


def _limit_of_set(
    name: str,
    cases: Sequence[CalibrationCase],
    draft: Thresholds,
    target_error: float,
    target_missed: float,
) -> float:
    """The lowest limit of consensus at which both risks are controlled in a set."""
    some = [case for case in cases if case.source == name]
    values = [_kept_consensus(case, draft) for case in some]
    # What is not kept at any limit is no error, and must not raise the limit.
    wrong = [not case.correct and value > 0 for case, value in zip(some, values, strict=True)]
    missed = [case.missed and value > 0 for case, value in zip(some, values, strict=True)]
    known = [case.patient for case in some if case.patient is not None]
    patients = known if len(known) == len(some) else None
    try:
        return max(
            controlled_limit(values, wrong, target_error, patients),
            controlled_limit(values, missed, target_missed, patients),
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def _kept_consensus(case: CalibrationCase, thresholds: Thresholds) -> float:
    """0 for an image that is not kept at any limit."""
    far = is_far(case.scores.label, case.neighbours.distance, thresholds)
    return consensus_of(case.scores, case.neighbours) if case.agrees and not far else 0.0


def _figures(
    name: str, cases: Sequence[CalibrationCase], kept: Sequence[CalibrationCase]
) -> SetFigures:
    images = sum(case.source == name for case in cases)
    some = [case for case in kept if case.source == name]
    return SetFigures(
        images=images,
        coverage=len(some) / images,
        error=_share(some, lambda case: not case.correct) if some else None,
        missed_malignant=sum(case.missed for case in some),
    )


def _share(cases: Sequence[CalibrationCase], holds: Callable[[CalibrationCase], bool]) -> float:
    return sum(map(holds, cases)) / len(cases)


def _refuse_unusable(cases: Sequence[CalibrationCase]) -> None:
    for case in cases:
        numbers = (*case.scores.probabilities, case.neighbours.distance, case.visible)
        if not np.isfinite(numbers).all():
            raise ConfigurationError(
                "a calibration image has probabilities or distances that are not numbers: the "
                "network diverged; train it again"
            )
