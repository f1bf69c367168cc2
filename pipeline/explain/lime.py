"""LIME for images (Ribeiro, Singh, Guestrin 2016), with the settings of its reference package.

Superpixels by quickshift, 1,000 samples of superpixels switched on and off (off: its mean
colour), cosine distance to the unperturbed image, exponential kernel of width 0.25, weighted ridge
regression. The five superpixels that speak most for the label are the explanation shown by
Thiriveedhi et al. 2025.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from lime.lime_image import LimeImageExplainer
from lime.wrappers.scikit_image import SegmentationAlgorithm

from pipeline.classify import Network
from pipeline.labels import LABELS, Label
from pipeline.results import Box, LimeExplanation, Region
from pipeline.types import FieldTile

TOP_REGIONS = 5

#: Perturbed images per forward pass. Always full, so that the network sees one batch shape.
BATCH_SIZE = 50


class BatchedExplainer(LimeImageExplainer):
    """The reference explainer with its sampling loop vectorised; it gives the same samples."""

    def data_labels(  # type: ignore[no-untyped-def]
        self, image, fudged_image, segments, classifier_fn, num_samples, batch_size=BATCH_SIZE
    ):
        """Sample on/off patterns and score them: the base class's draws, no progress bar."""
        numbers, index = np.unique(segments, return_inverse=True)
        index = index.reshape(segments.shape)
        data = self.random_state.randint(0, 2, num_samples * len(numbers))
        data = data.reshape((num_samples, len(numbers)))
        data[0, :] = 1
        scores = []
        for start in range(0, num_samples, batch_size):
            patterns = data[start : start + batch_size].astype(bool)
            missing = batch_size - len(patterns)
            padded = np.pad(patterns, ((0, missing), (0, 0)), constant_values=True)
            shown = padded[:, index][..., None]
            batch = np.where(shown, image, fudged_image).astype(np.float32)
            scores.append(classifier_fn(batch)[: len(patterns)])
        return data, np.concatenate(scores)


def explain_with_lime(
    tile: FieldTile, label: Label, network: Network, *, samples: int, seed: int
) -> tuple[LimeExplanation, np.ndarray]:
    """Explain ``label`` on ``tile``.

    Returns the explanation and the superpixels, int ``(size, size)`` numbered from 0.
    """
    number = LABELS.index(label)
    explainer = BatchedExplainer(random_state=np.random.RandomState(seed))
    found = explainer.explain_instance(
        network.input_of(tile)[0],
        network.probabilities,
        labels=(number,),
        top_labels=None,
        num_samples=samples,
        batch_size=BATCH_SIZE,
        random_seed=seed,
        segmentation_fn=partial(_superpixels, tile=tile, network=network, seed=seed),
    )
    superpixels = np.asarray(found.segments)
    weights = np.zeros(int(superpixels.max()) + 1)
    for region, weight in found.local_exp[number]:
        weights[region] = weight
    top = [region for region in np.argsort(-weights, kind="stable") if weights[region] > 0]
    explanation = LimeExplanation(
        label=label,
        samples=samples,
        seed=seed,
        top_regions=[
            _region(int(region), superpixels, float(weights[region]))
            for region in top[:TOP_REGIONS]
        ],
        weights=weights.tolist(),
        intercept=float(found.intercept[number]),
        fit=float(found.score),
        inside_white_cells=share_inside(np.abs(weights)[superpixels], tile.white_cells),
    )
    return explanation, superpixels


def _superpixels(image: np.ndarray, *, tile: FieldTile, network: Network, seed: int) -> np.ndarray:
    """Quickshift with the package's defaults; int ``(size, size)`` numbered from 0.

    Where the network is shown white cells alone, everything else is one superpixel: it is blank
    whether switched on or off, and must not share a superpixel with a cell.
    """
    quickshift = SegmentationAlgorithm(
        "quickshift", kernel_size=4, max_dist=200, ratio=0.2, random_seed=seed
    )
    found = np.asarray(quickshift(image))
    if network.preprocessing.needs_cells:
        found = np.where(image.any(axis=2), found + 1, 0)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape)


def share_inside(relevance: np.ndarray, mask: np.ndarray) -> float | None:
    """Share of a non-negative relevance map ``(size, size)`` that lies in ``mask``.

    None where there is no relevance at all, or no mask to lie in.
    """
    total = float(relevance.sum())
    if total <= 0 or not mask.any():
        return None
    return float(relevance[mask].sum()) / total


def _region(number: int, superpixels: np.ndarray, weight: float) -> Region:
    rows, columns = np.nonzero(superpixels == number)
    box = Box(
        x=int(columns.min()),
        y=int(rows.min()),
        width=int(columns.max() - columns.min()) + 1,
        height=int(rows.max() - rows.min()) + 1,
    )
    return Region(number=number, weight=weight, area=len(rows) / superpixels.size, box=box)
