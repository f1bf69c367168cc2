"""Bootstrap intervals, all resamples at once.

A resample of n images is a row of n counts (how often each image was drawn), so that every measure
that is a function of sums becomes a product of the matrix of counts with a vector. Row 0 is the
sample itself, every image once: estimate and interval come from the same formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.statistics import wilson_interval

#: Two-sided 95 % percentile interval (Efron and Tibshirani 1993, chapter 13).
LEVELS = (2.5, 97.5)

RESAMPLES = 1000

#: A measure of weighted images: counts ``(rows, images)`` to values ``(rows,)``, nan where it is
#: undefined, such as the recall of a class that was not drawn.
Measure = Callable[[np.ndarray], np.ndarray]


def resample_counts(
    images: int, *, resamples: int, seed: int, groups: Sequence[str] | None = None
) -> np.ndarray:
    """Counts float32 ``(1 + resamples, images)``; row 0 is all ones.

    ``groups``: a group for every image; then whole groups are drawn, as many as there are. Images
    of one slide resemble each other, and intervals that draw them singly are too narrow.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        drawn = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
    else:
        names, index = np.unique(np.asarray(groups), return_inverse=True)
        per_group = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        drawn = per_group[:, index]
    return np.concatenate([np.ones((1, images)), drawn]).astype(np.float32)


def figure(measure: Measure, counts: np.ndarray, n: int | None = None) -> dict[str, Any]:
    """Value, 95 % interval and ``n`` of a measure; None where it is undefined.

    ``n``: the images it rests on, all of them unless said otherwise. Resamples in which the
    measure is undefined are left out of the interval. Images without an error have none in any
    resample; the interval of a share that is 0 or 1 is Wilson's instead.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.asarray(measure(counts), dtype=np.float64)
    estimate, drawn = values[0], values[1:][np.isfinite(values[1:])]
    known = bool(np.isfinite(estimate)) and len(drawn) > 0
    interval = [float(one) for one in np.percentile(drawn, LEVELS)] if known else None
    if isinstance(measure, Share) and known and estimate in (0.0, 1.0):
        interval = list(wilson_interval(int(estimate * measure.images), measure.images) or ())
    return {
        "value": float(estimate) if np.isfinite(estimate) else None,
        "interval": interval,
        "n": int(counts.shape[1] if n is None else n),
    }


@dataclass(frozen=True)
class Share:
    """A share of images: ``hits`` and ``among``, float64 ``(images,)``, 0 or 1."""

    hits: np.ndarray
    among: np.ndarray

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """The share in every resample."""
        shares: np.ndarray = (counts @ self.hits) / (counts @ self.among)
        return shares

    @property
    def images(self) -> int:
        """The images it rests on."""
        return int(self.among.sum())


def share_measure(hits: np.ndarray, among: np.ndarray | None = None) -> Share:
    """The share of ``hits`` ``(images,)`` among the images ``among`` (all if None)."""
    chosen = np.ones(len(hits)) if among is None else among.astype(np.float64)
    return Share(hits.astype(np.float64) * chosen, chosen)


def difference_of_shares(hits: np.ndarray, other: np.ndarray) -> Measure:
    """Share of ``hits`` less share of ``other``, on the same images in every resample (paired)."""
    gained = hits.astype(np.float64) - other.astype(np.float64)
    return lambda counts: (counts @ gained) / counts.sum(axis=1)
