"""Superpixels of what a network is shown, and what they show when they are switched off."""

from __future__ import annotations

import numpy as np
from skimage.segmentation import quickshift, slic

from pipeline.preprocess import Preprocessing
from pipeline.results import Hidden, Superpixels

#: Of the reference package, ``lime``: quickshift (Vedaldi, Soatto 2008) with these. Ties between
#: pixels are broken at random, by scikit-image's default seed, which the package leaves as it is.
KERNEL_SIZE, MAX_DISTANCE, RATIO, TIE_SEED = 4, 200, 0.2, 42

#: SLIC (Achanta et al. 2012) with scikit-image's defaults, which the package leaves as they are:
#: about so many superpixels, and how much nearness in place counts against nearness in colour.
SLIC_SUPERPIXELS, COMPACTNESS = 100, 10.0

#: Red, green and blue of what is hidden under one colour.
FIXED_COLOURS: dict[Hidden, float] = {"black": 0.0, "grey": 0.5, "white": 1.0}


def superpixels_of(
    image: np.ndarray, preprocessing: Preprocessing, method: Superpixels = "quickshift"
) -> np.ndarray:
    """Superpixels of a network input, float32 ``(size, size, 3)``; int ``(size, size)`` from 0.

    Where the network is shown white cells alone, everything else is one superpixel: it is blank
    whether switched on or off, and must not share a superpixel with a cell.
    """
    found = _quickshift(image) if method == "quickshift" else _slic(image)
    if preprocessing.needs_cells:
        found = np.where(image.any(axis=2), found + 1, 0)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape)


def _quickshift(image: np.ndarray) -> np.ndarray:
    return np.asarray(
        quickshift(image, kernel_size=KERNEL_SIZE, max_dist=MAX_DISTANCE, ratio=RATIO, rng=TIE_SEED)
    )


def _slic(image: np.ndarray) -> np.ndarray:
    return np.asarray(
        slic(image, n_segments=SLIC_SUPERPIXELS, compactness=COMPACTNESS, start_label=0)
    )


def hidden_colours(
    image: np.ndarray,
    superpixels: np.ndarray,
    preprocessing: Preprocessing,
    hidden: Hidden = "mean",
) -> np.ndarray:
    """The image with every superpixel switched off, float32 ``(size, size, 3)``.

    Where the network is shown white cells alone, the blank ground stays blank.
    """
    if hidden == "mean":
        return _mean_colours(image, superpixels)
    colours = np.full_like(image, FIXED_COLOURS[hidden])
    if preprocessing.needs_cells:
        colours[~image.any(axis=2)] = 0
    return colours


def _mean_colours(image: np.ndarray, superpixels: np.ndarray) -> np.ndarray:
    numbers = superpixels.ravel()
    counts = np.bincount(numbers)
    means = np.stack(
        [np.bincount(numbers, weights=image[..., c].ravel()) / counts for c in range(3)], axis=-1
    )
    return means.astype(np.float32)[superpixels]
