"""Grad-CAM (Selvaraju et al. 2017, equations 1 and 2), of a class or of a similarity.

With the gradients of an image's similarity to a reference instead of a class's logit, the map shows
what makes the two similar (Zhu, Yang, Chen 2021, arXiv:1909.12977), as Genovese et al. 2025 use it.
"""

from __future__ import annotations

import numpy as np

from pipeline.explain.maps import scaled_to_one


def grad_cam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Where the last feature map speaks for a score.

    ``features`` and the ``gradients`` of the score with respect to them: ``(rows, columns,
    channels)``. Returns float64 ``(rows, columns)`` in 0..1, all zero where nothing speaks for it.
    """
    importance = gradients.mean(axis=(0, 1))
    return scaled_to_one(np.maximum((features * importance).sum(axis=-1), 0.0))
