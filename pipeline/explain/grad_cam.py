"""Grad-CAM (Selvaraju et al. 2017, equations 1 and 2)."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.classify import Network
from pipeline.explain.lime import share_inside
from pipeline.labels import LABELS, Label
from pipeline.types import FieldTile


def grad_cam(tile: FieldTile, label: Label, network: Network) -> tuple[np.ndarray, float | None]:
    """Map where the last feature map speaks for ``label``.

    Returns the map, float64 ``(rows, columns)`` scaled to 0..1 (all zero where nothing speaks for
    the label), and the share of its relevance that lies inside white cells.
    """
    features, gradients = network.feature_gradients(network.input_of(tile), LABELS.index(label))
    importance = gradients.mean(axis=(0, 1))
    cam = np.maximum((features * importance).sum(axis=-1), 0.0)
    if cam.max() > 0:
        cam /= cam.max()
    size = tile.pixels.shape[0]
    upsampled = cv2.resize(cam, (size, size), interpolation=cv2.INTER_LINEAR)
    return cam, share_inside(upsampled, tile.white_cells)
