"""What the confidence flag is told, as a test wants it."""

from __future__ import annotations

import numpy as np

from pipeline.confidence import Thresholds, judge
from pipeline.labels import LABELS, Label, ReferenceLabel
from pipeline.neighbours import Neighbours
from pipeline.results import Confidence, Neighbour, Quality
from pipeline.types import ClassScores, FieldGeometry, FieldTile, Rectangle

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
