"""LIME for images (Ribeiro, Singh, Guestrin 2016), as its reference package defines it.

Superpixels by quickshift or SLIC, samples of superpixels switched on and off (off: their mean
colour, or a fixed one), cosine distance to the unperturbed image, exponential kernel of width 0.25,
weighted ridge regression. The five superpixels that speak most for the label are the explanation
shown by Thiriveedhi et al. 2025.
Samples cost little here, so that four times the usual thousand are drawn; how far explanations of
a thousand each would agree is reported with them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from pipeline.explain.exact import SuperpixelSamples
from pipeline.explain.maps import enlarged, grey_png
from pipeline.explain.perturbed import PerturbedScores
from pipeline.explain.relevance import share_inside
from pipeline.explain.superpixels import hidden_colours, superpixels_of
from pipeline.explain.surrogate import Surrogate, fit_surrogates
from pipeline.labels import LABELS, Label
from pipeline.preprocess import Preprocessing
from pipeline.results import Box, Hidden, LimeExplanation, Region, Superpixels
from pipeline.results import Surrogate as SurrogateRecord
from pipeline.types import FieldTile

TOP_REGIONS = 5

#: Samples of the reference package.
USUAL_SAMPLES = 1000

_BENIGN = LABELS.index("benign")


@dataclass(frozen=True, eq=False)
class ShownImage:
    """A network input that superpixels are switched off in.

    ``image``, ``hidden``: float32 ``(size, size, 3)``, with all of them on and off.
    ``superpixels``: int ``(size, size)``, from 0.
    """

    image: np.ndarray
    superpixels: np.ndarray
    hidden: np.ndarray

    @classmethod
    def of(
        cls,
        image: np.ndarray,
        preprocessing: Preprocessing,
        method: Superpixels = "quickshift",
        hidden: Hidden = "mean",
    ) -> ShownImage:
        """Cut a network input into superpixels."""
        superpixels = superpixels_of(image, preprocessing, method)
        return cls(image, superpixels, hidden_colours(image, superpixels, preprocessing, hidden))

    def samples(self, patterns: np.ndarray) -> SuperpixelSamples:
        """The image with superpixels switched off; bool ``(samples, superpixels)``."""
        return SuperpixelSamples(self.image, self.hidden, self.superpixels, patterns)

    @cached_property
    def idle(self) -> np.ndarray:
        """Superpixels that look the same on and off, bool ``(superpixels,)``."""
        changes = (self.image != self.hidden).any(axis=2)
        return np.bincount(self.superpixels.ravel(), weights=changes.ravel()) == 0

    @property
    def count(self) -> int:
        """How many superpixels there are."""
        return int(self.superpixels.max()) + 1


def explain_with_lime(
    tile: FieldTile,
    shown: ShownImage,
    label: Label,
    scores_of: PerturbedScores,
    *,
    samples: int,
    seed: int,
) -> LimeExplanation:
    """Explain ``label`` on what the network is shown of ``tile``."""
    patterns = draw_patterns(shown.count, samples, seed)
    scores = scores_of(shown.samples(patterns))
    targets = np.column_stack([scores[:, LABELS.index(label)], 1 - scores[:, _BENIGN]])
    # Samples are too few to give what changes nothing a weight of exactly zero.
    whole, malignancy = (
        without(surrogate, shown.idle) for surrogate in fit_surrogates(patterns, targets)
    )
    relevance = enlarged(np.abs(whole.weights)[shown.superpixels], len(tile.pixels))
    dtype = np.uint8 if shown.count <= 256 else np.uint16
    return LimeExplanation(
        label=label,
        samples=samples,
        seed=seed,
        superpixels=grey_png(shown.superpixels.astype(dtype)),
        malignancy=_record(malignancy, shown.superpixels),
        stability=_stability(patterns, targets[:, :1], shown.idle),
        **_record(whole, shown.superpixels).model_dump(),
        inside_white_cells=share_inside(relevance, tile.white_cells),
        inside_nuclei=share_inside(relevance, tile.nuclei),
    )


def draw_patterns(superpixels: int, samples: int, seed: int) -> np.ndarray:
    """Which superpixels are on, bool ``(samples, superpixels)``: all of them in the first sample.

    The reference package draws the same from the same seed.
    """
    drawn = np.random.RandomState(seed).randint(0, 2, samples * superpixels)
    patterns = drawn.reshape(samples, superpixels).astype(bool)
    patterns[0] = True
    return patterns


def top_regions(weights: np.ndarray) -> list[int]:
    """Superpixels that speak most for the score, the strongest first."""
    order = np.argsort(-weights, kind="stable")[:TOP_REGIONS]
    return [int(number) for number in order if weights[number] > 0]


def without(surrogate: Surrogate, idle: np.ndarray) -> Surrogate:
    """The surrogate with no weight on idle superpixels."""
    return replace(surrogate, weights=np.where(idle, 0.0, surrogate.weights))


def _stability(patterns: np.ndarray, targets: np.ndarray, idle: np.ndarray) -> float | None:
    """How far explanations of a thousand samples each have top regions in common, 0 to 1."""
    tops = [
        set(top_regions(without(fit_surrogates(patterns[part], targets[part])[0], idle).weights))
        for part in (slice(start, start + USUAL_SAMPLES) for start in _starts(len(patterns)))
    ]
    pairs = list(combinations(tops, 2))
    if not pairs:
        return None
    shares = [len(a & b) / max(len(a), len(b), 1) if a or b else 1.0 for a, b in pairs]
    return float(np.mean(shares))


def _starts(samples: int) -> range:
    return range(0, samples - USUAL_SAMPLES + 1, USUAL_SAMPLES)


def _record(surrogate: Surrogate, superpixels: np.ndarray) -> SurrogateRecord:
    weights = surrogate.weights
    return SurrogateRecord(
        top_regions=[
            _region(number, superpixels, float(weights[number])) for number in top_regions(weights)
        ],
        weights=weights.tolist(),
        intercept=surrogate.intercept,
        fit=surrogate.fit,
    )


def _region(number: int, superpixels: np.ndarray, weight: float) -> Region:
    rows, columns = np.nonzero(superpixels == number)
    box = Box(
        x=int(columns.min()),
        y=int(rows.min()),
        width=int(columns.max() - columns.min()) + 1,
        height=int(rows.max() - rows.min()) + 1,
    )
    return Region(number=number, weight=weight, area=len(rows) / superpixels.size, box=box)
