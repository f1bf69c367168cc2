"""Reference embeddings and thresholds of a freshly trained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipeline.classify import Network, classify
from pipeline.confidence import N_CLOSE, CalibrationCase, Thresholds, calibrate
from pipeline.decode import decode
from pipeline.geometry import fit_field
from pipeline.labels import LABELS
from pipeline.neighbours import References
from pipeline.preprocess import network_input
from pipeline.quality import QualityLimits, quality_limits, quality_numbers
from pipeline.segment import segment
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


def choose_thresholds(
    images: Sequence[LabelledImage], network: Network, references: References
) -> tuple[QualityLimits, Thresholds]:
    """Quality limits and confidence thresholds from images kept out of training."""
    measured, cases = [], []
    for image in images:
        field = decode(image.path.read_bytes())
        cells = segment(field.pixels)
        geometry = fit_field(field, cells, network.preprocessing.tile_size)
        measured.append(quality_numbers(geometry, cells))
        scores = classify(geometry, network)
        neighbours = references.nearest(scores.embedding, N_CLOSE)
        cases.append(CalibrationCase(image.label, scores, neighbours))
    return quality_limits(measured), calibrate(cases)
