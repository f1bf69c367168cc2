"""Reference embeddings and thresholds of a freshly trained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipeline.calibration_part import CalibrationPart, measure_image
from pipeline.classify import Network
from pipeline.labels import LABELS
from pipeline.neighbours import References
from pipeline.preprocess import network_input
from pipeline.training.data import LabelledImage


def embed_references(
    images: Sequence[LabelledImage],
    load: Callable[[Path], np.ndarray],
    network: Network,
    root: Path,
) -> References:
    """Embed labelled images one by one, as queries will be."""
    embeddings = [network.embed_and_score(network_input(load(image.path)))[0] for image in images]
    return References(
        embeddings=np.concatenate(embeddings),
        labels=np.array([LABELS.index(image.label) for image in images], dtype=np.int8),
        ids=tuple(image.path.relative_to(root).as_posix() for image in images),
    )


def measure_calibration_part(images: Sequence[LabelledImage], network: Network) -> CalibrationPart:
    """What the network says of images kept out of training, to be stored in the bundle."""
    measured = [measure_image(image.path, network) for image in images]
    return CalibrationPart.of(measured, [image.label for image in images])
