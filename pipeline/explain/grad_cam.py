"""Grad-CAM (Selvaraju et al. 2017, equations 1 and 2)."""

from __future__ import annotations

import numpy as np

from pipeline.explain.maps import scaled_to_one


def grad_cam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Where the last feature map speaks for a class.

    ``features`` and the ``gradients`` of the class's logit with respect to them: ``(rows, columns,
    channels)``. Returns float64 ``(rows, columns)`` in 0..1, all zero where nothing speaks for the
    class.
    """
    importance = gradients.mean(axis=(0, 1))
    return scaled_to_one(np.maximum((features * importance).sum(axis=-1), 0.0))
