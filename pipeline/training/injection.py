"""Classes that a labelled folder does not have: nothing at all, and the halves of a mixed one.

After Genovese, Piuri, Scotti 2024, who add patches without cells and split a class that is two. How
that is decided and done here is this project's choice.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from pipeline.types import WhiteCells

#: A square without cells is worth cutting out from this side on, in pixels.
SMALLEST_PATCH = 64

#: A class is two where two normal distributions fit so much better than one (difference of the
#: Bayesian information criterion; "very strong" evidence in Kass, Raftery 1995), are so far apart
#: (Ashman, Bird, Zepf 1994: "clean separation" above 2), and each holds such a share of the class.
SMALLEST_GAIN, SMALLEST_SEPARATION, SMALLEST_SHARE = 10.0, 2.0, 0.2

#: With fewer images nothing is said about a class.
FEWEST = 20


def nothing_of(pixels: np.ndarray, cells: WhiteCells) -> np.ndarray | None:
    """The largest square of an image without white cells, reflected until it fills the image.

    ``pixels``: uint8 ``(height, width, 3)``; so is the result, at the same scale. None where the
    square would be smaller than SMALLEST_PATCH, or where no cell was found: the image shows one,
    and it could be anywhere.
    """
    if not cells.cells:
        return None
    free = np.pad(cells.labels == 0, 1).astype(np.uint8)
    distances = cv2.distanceTransform(free, cv2.DIST_C, 3)[1:-1, 1:-1]
    reach = int(distances.max()) - 1
    if 2 * reach + 1 < SMALLEST_PATCH:
        return None
    y, x = np.unravel_index(int(distances.argmax()), distances.shape)
    patch = pixels[y - reach : y + reach + 1, x - reach : x + reach + 1]
    height, width = pixels.shape[:2]
    more = ((0, height - len(patch)), (0, width - len(patch)), (0, 0))
    return np.pad(patch, more, mode="symmetric")


def measures_of(cells: WhiteCells) -> np.ndarray | None:
    """Size, shape and colour of the largest white cell, float64 ``(6,)``; None without any."""
    if not cells.cells:
        return None
    cell = max(cells.cells, key=lambda one: one.area)
    share = cell.nucleus_area / cell.area
    return np.array([math.log(cell.area), share, cell.roundness, *cell.mean_colour], np.float64)


def second_half(measures: np.ndarray, seed: int) -> np.ndarray | None:
    """Which rows of ``measures`` ``(images, numbers)`` are the smaller of two kinds, bool.

    The rows are standardised and laid on their longest axis. None where they are not bimodal there
    (SMALLEST_GAIN and the others), or are fewer than FEWEST; else 2-means on the axis divides them.
    """
    from sklearn.cluster import KMeans
    from sklearn.mixture import GaussianMixture

    if len(measures) < FEWEST:
        return None
    deviation = measures.std(axis=0)
    scaled = (measures - measures.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    _, _, axes = np.linalg.svd(scaled, full_matrices=False)
    along = scaled @ axes[:1].T
    one = GaussianMixture(1, random_state=seed).fit(along)
    two = GaussianMixture(2, random_state=seed, n_init=5).fit(along)
    first, second = two.means_.ravel()
    # Ashman's D: distance of the means in units of the root mean square deviation.
    separation = abs(first - second) * math.sqrt(2 / two.covariances_.sum())
    if one.bic(along) - two.bic(along) < SMALLEST_GAIN or separation <= SMALLEST_SEPARATION:
        return None
    parts = KMeans(2, random_state=seed, n_init=10).fit_predict(along)
    smaller = parts == int(np.bincount(parts, minlength=2).argmin())
    return smaller if smaller.mean() >= SMALLEST_SHARE else None
