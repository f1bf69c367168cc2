"""Superpixels of what a network is shown, and what they show when they are switched off."""

from __future__ import annotations

import numpy as np
from skimage.segmentation import quickshift

from pipeline.preprocess import Preprocessing

#: Of the reference package, ``lime``: quickshift (Vedaldi, Soatto 2008) with these. Ties between
#: pixels are broken at random, by scikit-image's default seed, which the package leaves as it is.
KERNEL_SIZE, MAX_DISTANCE, RATIO, TIE_SEED = 4, 200, 0.2, 42


def superpixels_of(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Superpixels of a network input, float32 ``(size, size, 3)``; int ``(size, size)`` from 0.

    Where the network is shown white cells alone, everything else is one superpixel: it is blank
    whether switched on or off, and must not share a superpixel with a cell.
    """
    found = np.asarray(
        quickshift(image, kernel_size=KERNEL_SIZE, max_dist=MAX_DISTANCE, ratio=RATIO, rng=TIE_SEED)
    )
    if preprocessing.needs_cells:
        found = np.where(image.any(axis=2), found + 1, 0)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape)


def hidden_colours(image: np.ndarray, superpixels: np.ndarray) -> np.ndarray:
    """The image with every superpixel in its mean colour, float32 ``(size, size, 3)``."""
    numbers = superpixels.ravel()
    counts = np.bincount(numbers)
    means = np.stack(
        [np.bincount(numbers, weights=image[..., c].ravel()) / counts for c in range(3)], axis=-1
    )
    return means.astype(np.float32)[superpixels]
