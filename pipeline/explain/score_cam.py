"""Score-CAM (Wang et al. 2020, arXiv:1910.01279, definitions 2 and 3), over all channels.

Each channel of the last feature map, enlarged and scaled to 0..1, masks the image, and the label's
probability for the masked image is the channel's weight. The paper subtracts the probability for a
blank image from all weights; its authors' program and tf-keras-vis do not, and neither does this:
where a network calls a blank image by the label, nothing would be left. Where a mask is zero the
image is blank, so that patches there are the same for all channels and are computed once. Channels
that are the same everywhere mask nothing and do not count.
"""

from __future__ import annotations

import numpy as np

from pipeline.explain.exact import MaskedSamples
from pipeline.explain.maps import enlarged, scaled_to_one
from pipeline.explain.perturbed import PerturbedScores
from pipeline.labels import LABELS, Label


def score_cam(
    image: np.ndarray, features: np.ndarray, label: Label, scores_of: PerturbedScores
) -> np.ndarray:
    """Where the last feature map speaks for ``label``.

    ``image``: float32 ``(size, size, 3)``. ``features``: its last feature map, ``(rows, columns,
    channels)``. Returns float64 ``(rows, columns)`` in 0..1, all zero where nothing speaks for it.
    """
    varied = np.ptp(features, axis=(0, 1)) > 0
    if not varied.any():
        return np.zeros(features.shape[:2])
    seen = features[..., varied].astype(np.float64)
    masks = channel_masks(seen, len(image))
    weights = scores_of(MaskedSamples(image, masks))[:, LABELS.index(label)]
    return scaled_to_one(np.maximum(seen @ weights, 0.0))


def channel_masks(features: np.ndarray, size: int) -> np.ndarray:
    """Channels as masks of the image, float32 ``(channels, size, size)`` in 0..1.

    ``features``: float64 ``(rows, columns, channels)``, none the same everywhere.
    """
    lowest, highest = features.min(axis=(0, 1)), features.max(axis=(0, 1))
    scaled = ((features - lowest) / (highest - lowest)).astype(np.float32)
    masks = [enlarged(scaled[..., channel], size) for channel in range(scaled.shape[-1])]
    return np.stack(masks)
