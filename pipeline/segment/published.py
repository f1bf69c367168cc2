"""Two published segmentations, to be compared with.

Both threshold one colour rule and clean it by morphology; neither tells nucleus from cytoplasm, so
what they find counts as nucleus and as cell alike.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

#: Sampathila et al. 2022: pixels whose HSI saturation, scaled to 0..255, lies in this range.
HSI_SATURATION_RANGE = (180, 255)

#: OpenCV's HSV (hue 0..179, saturation and value 0..255): the blue-violet to magenta of stained
#: white cells. The paper on the Taleqani set names the colour space, not the bounds.
HSV_LOWER = (115, 50, 40)
HSV_UPPER = (175, 255, 255)

#: Objects below this share of the image are noise to both methods.
MIN_AREA_SHARE = 0.001


def hsi_saturation_masks(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """HSI saturation 180 to 255 (Sampathila et al. 2022, Healthcare 10(10):1812).

    ``pixels``: uint8 ``(height, width, 3)``, RGB. Saturation is ``1 - min(R, G, B) / I`` with ``I``
    the mean of the channels, stretched over the image to 0..255.
    Returns labels, int32, and nuclei, bool, both ``(height, width)``.
    """
    channels = pixels.astype(np.float32)
    intensity = channels.mean(axis=2)
    saturation = 1 - channels.min(axis=2) / np.maximum(intensity, 1)
    saturation[intensity < 1] = 0
    spread = float(np.ptp(saturation))
    if spread > 0:
        saturation = (saturation - saturation.min()) / spread
    low, high = HSI_SATURATION_RANGE
    scaled = np.rint(saturation * 255)
    return _cleaned((scaled >= low) & (scaled <= high))


def hsv_threshold_masks(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """HSV colour threshold with morphology, as used for the Taleqani set.

    After Aria et al. 2021 (DOI 10.34740/KAGGLE/DSV/2175623) and Ghaderzadeh et al. 2022
    (doi:10.1002/int.22753). ``pixels``: uint8 ``(height, width, 3)``, RGB.
    Returns labels, int32, and nuclei, bool, both ``(height, width)``.
    """
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    return _cleaned(cv2.inRange(hsv, HSV_LOWER, HSV_UPPER) > 0)


def _cleaned(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Opening, closing, holes filled, small objects dropped; connected components as cells."""
    side = max(3, round(min(mask.shape) / 75) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    cleaned = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    cleaned = cv2.morphologyEx(cleaned, cv2.MORPH_CLOSE, kernel)
    filled = ndimage.binary_fill_holes(cleaned)
    labels, _ = ndimage.label(filled, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel())
    labels[(areas < MIN_AREA_SHARE * mask.size)[labels]] = 0
    return labels.astype(np.int32), labels > 0
