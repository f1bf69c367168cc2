"""The linear model that stands for the network around one image (Ribeiro, Singh, Guestrin 2016).

Ridge regression of a score on which superpixels are switched on, each sample weighed by how near
it is to the whole image: cosine distance, exponential kernel of width 0.25, as in the authors'
package.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

KERNEL_WIDTH = 0.25
RIDGE = 1.0


@dataclass(frozen=True, eq=False)
class Surrogate:
    """``weights``: float64 ``(superpixels,)``. ``fit``: weighted R^2, at most 1."""

    weights: np.ndarray
    intercept: float
    fit: float


def nearness(patterns: np.ndarray) -> np.ndarray:
    """How much each sample counts, float64 ``(samples,)``; 1 with every superpixel on.

    ``patterns``: bool ``(samples, superpixels)``.
    """
    # Cosine of the angle to a vector of ones, 0 for a vector of zeros.
    cosine = np.sqrt(patterns.mean(axis=1))
    kernel: np.ndarray = np.sqrt(np.exp(-(((1 - cosine) / KERNEL_WIDTH) ** 2)))
    return kernel


def fit_surrogates(patterns: np.ndarray, scores: np.ndarray) -> list[Surrogate]:
    """A linear model of each column of ``scores``, float64 ``(samples, columns)``."""
    weights = nearness(patterns)
    total = weights.sum()
    shares = weights / total
    on = patterns.astype(np.float64)
    middle, level = shares @ on, shares @ scores
    centred, targets = on - middle, scores - level
    weighted = centred.T * weights
    gram = weighted @ centred + RIDGE * np.eye(on.shape[1])
    found = linalg.solve(gram, weighted @ targets, assume_a="pos")
    residuals = shares @ (targets - centred @ found) ** 2
    spread = shares @ targets**2
    # As in scikit-learn, a score that never changes is fitted perfectly.
    fits = np.where(spread > 0, 1 - residuals / np.where(spread > 0, spread, 1), 1.0)
    return [
        Surrogate(found[:, column], float(level[column] - middle @ found[:, column]), float(fit))
        for column, fit in enumerate(fits)
    ]
