"""The confidence flag: has the model seen anything like this, and does everything agree?

The flag is ``high`` only if nothing speaks against it. Its thresholds are computed from labelled
images kept out of training (``pipeline.thresholds``) and travel in the model bundle.
docs/confidence.md says what they promise.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field

from pipeline.labels import Label
from pipeline.neighbours import Neighbours
from pipeline.results import Confidence, Quality, Record
from pipeline.types import ClassScores, FieldGeometry

#: Number of neighbours that are looked at (Genovese et al. 2025 use 5 on all but one set).
N_CLOSE = 5

#: Share of images like the calibration images that may be farther from the references than the
#: limit of all, and than the limit of their own label. A label has about a quarter of the images,
#: too few for a tail of 1 %.
TAIL, LABEL_TAIL = 0.01, 0.02

#: Least probability that has a logarithm; single precision ends there.
SMALLEST_PROBABILITY = 1e-38

#: Decimals of a consensus, in the calibration as in the judgement: what is written to a bundle and
#: read again must compare alike.
DECIMALS = 6

#: A limit that no consensus reaches.
NEVER = 2.0


class SetFigures(Record):
    """What the thresholds keep of the calibration images from one set."""

    images: int
    coverage: float
    error: float | None = Field(description="share of the kept that are wrong; null if none is")
    missed_malignant: int = Field(description="malignant images kept and called benign")


class Thresholds(Record):
    """What separates ``high`` from ``low``, and how it was found.

    ``min_agreement`` and ``min_probability`` are limits of older bundles, which have nothing from
    ``temperature`` on.
    """

    n_close: int
    max_distance: float
    min_agreement: float = 0.0
    min_probability: float = 0.0
    calibration_images: int
    target_coverage: float
    target_error: float
    calibration_coverage: float
    calibration_error: float
    temperature: float = Field(default=1.0, gt=0)
    target_missed: float | None = None
    min_consensus: float = 0.0
    min_visible: float = 0.0
    unknown_scale_seen: bool = False
    distances: dict[Label, list[float]] = Field(
        default={}, description="of the calibration images by the label they got, ascending"
    )
    consensus: list[float] = Field(default=[], description="of the same images, ascending")
    sets: dict[str, SetFigures] = Field(default={}, description="the same figures by source")


def tempered(scores: ClassScores, temperature: float) -> ClassScores:
    """Probabilities as a network of this temperature would give them (Guo et al. 2017).

    ``softmax(log p / T)`` of the field's probabilities, and of each tile's; the order of the
    classes, and so the label, stays.
    """
    if temperature == 1.0:
        return scores
    return replace(
        scores,
        probabilities=tempered_probabilities(scores.probabilities, temperature),
        tile_probabilities=tempered_probabilities(scores.tile_probabilities, temperature),
    )


def judge(
    scores: ClassScores,
    neighbours: Neighbours,
    quality: Quality,
    geometry: FieldGeometry,
    thresholds: Thresholds,
) -> Confidence:
    """Collect everything that speaks against trusting the decision; the flag follows from it.

    ``scores``: with the temperature of the thresholds applied.
    """
    # What is not a matter of degree.
    reasons = list(quality.reasons)
    if not geometry.scale_known and not thresholds.unknown_scale_seen:
        reasons.append("scale_unknown")
    if visible_share(geometry) < thresholds.min_visible and "no_white_cell" not in reasons:
        reasons.append("little_visible")
    if not neighbours.agrees(scores.label):
        reasons.append("network_and_neighbours_disagree")
    decided = bool(reasons)

    consensus = consensus_of(scores, neighbours)
    if is_far(scores.label, neighbours.distance, thresholds):
        reasons.append("far_from_references")
    if neighbours.agreement < thresholds.min_agreement or (
        consensus < thresholds.min_consensus and neighbours.support(scores.label) < 1
    ):
        reasons.append("neighbours_disagree")
    probability = float(scores.probabilities.max())
    if (
        probability < thresholds.min_probability
        or round(probability, DECIMALS) < thresholds.min_consensus
    ):
        reasons.append("network_uncertain")

    typicality = score = None
    if thresholds.distances:
        typicality = typicality_of(scores.label, neighbours.distance, thresholds.distances)
        below = bisect_left(thresholds.consensus, math.nextafter(consensus, 2.0))
        score = min(typicality, (1 + below) / (1 + len(thresholds.consensus)))
        score = 0.0 if decided else score
    return Confidence(
        flag="low" if reasons else "high",
        reasons=reasons,
        vote=neighbours.vote,
        agreement=neighbours.agreement,
        distance=neighbours.distance,
        typicality=typicality,
        consensus=consensus if thresholds.distances else None,
        score=score,
        neighbours=list(neighbours.nearest),
    )


def consensus_of(scores: ClassScores, neighbours: Neighbours) -> float:
    """Probability of the label times the share of neighbours that support it, 0 to 1."""
    share = neighbours.support(scores.label)
    return round(float(scores.probabilities.max()) * share, DECIMALS)


def visible_share(geometry: FieldGeometry) -> float:
    """Share of the tiles' pixels that are white cell; 0 without tiles."""
    return float(np.mean([tile.white_cells.mean() for tile in geometry.tiles] or [0.0]))


def p_value(value: float, calibration: Sequence[float]) -> float:
    """Conformal p-value: share of images, this one included, at least as far as this one.

    ``calibration`` ascending. For exchangeable images it is at most ``a`` with a probability of at
    most ``a`` (Vovk, Gammerman, Shafer 2005; Bates et al. 2023 for outliers).
    """
    return (1 + len(calibration) - bisect_left(calibration, value)) / (1 + len(calibration))


def typicality_of(label: Label, distance: float, distances: dict[Label, list[float]]) -> float:
    """The smaller of the p-values of the distance among all calibration images and its label's.

    A label with fewer calibration images than its tail needs has no p-value of its own.
    """
    overall = p_value(distance, sorted(value for some in distances.values() for value in some))
    own = distances.get(label, [])
    if len(own) < needed_for(LABEL_TAIL):
        return overall
    return min(overall, p_value(distance, own))


def needed_for(share: float) -> int:
    """Fewest calibration images that can support a promise about this share of images."""
    return math.ceil(1 / share - 1 - 1e-9)


def is_far(label: Label, distance: float, thresholds: Thresholds) -> bool:
    """Whether a distance exceeds the limit of all images or that of its label."""
    own = thresholds.distances.get(label, [])
    if len(own) >= needed_for(LABEL_TAIL) and p_value(distance, own) <= LABEL_TAIL:
        return True
    return distance > thresholds.max_distance


def tempered_probabilities(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """``softmax(log p / T)`` along the last axis, float64."""
    scaled = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY)) / temperature
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return scaled / scaled.sum(axis=-1, keepdims=True)
