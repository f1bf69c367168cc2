"""A size at which a network is explained in moments, and LIME of it."""

from __future__ import annotations

from pipeline.explain.lime import (
    explain_with_lime,
)
from pipeline.explain.perturbed import PerturbedScores

SIZE = 48


def lime(network, tile, shown, *, label="pre_b", samples=100, seed=5):
    return explain_with_lime(
        tile, shown, label, PerturbedScores(network), samples=samples, seed=seed
    )
