"""Class scores of many perturbed versions of one image, exactly and each patch once."""

from __future__ import annotations

from pipeline.explain.exact.evaluate import pooled_values, scores_by_maps, scores_of
from pipeline.explain.exact.graph import LocalNetwork
from pipeline.explain.exact.layers import UnsupportedNetworkError
from pipeline.explain.exact.samples import MaskedSamples, Samples, SuperpixelSamples

__all__ = [
    "LocalNetwork",
    "MaskedSamples",
    "Samples",
    "SuperpixelSamples",
    "UnsupportedNetworkError",
    "pooled_values",
    "scores_by_maps",
    "scores_of",
]
