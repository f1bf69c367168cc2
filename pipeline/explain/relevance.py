"""Is an explanation any good: where it points, and whether the network minds losing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.explain.perturbed import PerturbedScores
from pipeline.labels import LABELS, Label
from pipeline.results import Confidence, Explanations

if TYPE_CHECKING:
    from pipeline.explain.lime import ShownImage

#: A decision is doubted where less of its explanation lies on white cells.
LEAST_INSIDE = 0.5


def share_inside(relevance: np.ndarray, mask: np.ndarray) -> float | None:
    """Share of a non-negative relevance map ``(size, size)`` that lies in ``mask``.

    None where there is no relevance at all, or no mask to lie in.
    """
    total = float(relevance.sum())
    if total <= 0 or not mask.any():
        return None
    # Sums in another order may differ in the last digit.
    return min(1.0, float(relevance[mask].sum()) / total)


def deletion_and_insertion(
    shown: ShownImage, orders: Sequence[np.ndarray], label: Label, scores_of: PerturbedScores
) -> list[dict[str, float]]:
    """Areas under the curves of Petsiuk, Das, Saenko 2018 (arXiv:1806.07421), over superpixels.

    Each of ``orders``: superpixels, the most relevant first. The mean probability of ``label``
    while they are hidden one after the other, and while they are shown one after the other.
    """
    ranks = np.argsort(orders, axis=1)[:, None, :]
    done = np.arange(shown.count + 1)[:, None]
    # Explanation, hidden or shown, how many of them, superpixel.
    patterns = np.stack([ranks >= done, ranks < done], axis=1)
    scores = scores_of(shown.samples(patterns.reshape(-1, shown.count)))[:, LABELS.index(label)]
    areas = np.clip(scores.reshape(len(orders), 2, -1).mean(axis=2), 0.0, 1.0)
    return [{"deletion": float(hidden), "insertion": float(seen)} for hidden, seen in areas]


def doubted(confidence: Confidence, explanations: Explanations) -> Confidence:
    """The confidence with ``background`` among its reasons where LIME points beside the cells.

    Only an image that is explained can be doubted so.
    """
    inside = explanations.lime.inside_white_cells
    if inside is None or inside >= LEAST_INSIDE:
        return confidence
    reasons = [*confidence.reasons, "background"]
    score = None if confidence.score is None else 0.0
    return confidence.model_copy(update={"flag": "low", "reasons": reasons, "score": score})


def order_of(relevance: np.ndarray, superpixels: np.ndarray) -> np.ndarray:
    """Superpixels by their mean relevance, the highest first; of equal ones the first."""
    counts = np.bincount(superpixels.ravel())
    means = np.bincount(superpixels.ravel(), weights=relevance.ravel()) / counts
    return np.argsort(-means, kind="stable")
