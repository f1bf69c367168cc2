"""The latent map: all references of a bundle in a plane, similar ones near each other.

t-SNE (van der Maaten, Hinton 2008) through openTSNE (Policar, Strazar, Zupan 2024), fitted once per
bundle and stored in it. A new image is placed without fitting anything: at the median of its
nearest references, coordinate by coordinate, which is where openTSNE starts from when it places
new points. openTSNE then moves them for 0.15 s each; the median costs nothing, hangs on no order of
sums, and two stray neighbours of five do not move it out of a cluster.

Nearness means something in such a map; distances between clusters, sizes and directions do not.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.neighbours import Neighbours, References
from pipeline.results import MapPosition
from pipeline.threads import one_thread

#: Neighbours that each reference is drawn to, as a rule of thumb; fewer in a small set.
PERPLEXITY = 30
SEED = 2025

#: Of fewer references there is no map to be made.
LEAST_REFERENCES = 10


@dataclass(frozen=True, eq=False)
class LatentMap:
    """Where the references lie.

    ``points``: float32 ``(references, 2)``, x to the right and y down, both within 0 to 1.
    ``labels``: int8 ``(references,)``, index into REFERENCE_LABELS.
    """

    points: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if self.points.shape != (len(self.labels), 2):
            raise ConfigurationError("a latent map needs two coordinates for every reference")
        if not ((self.points >= 0) & (self.points <= 1)).all():
            raise ConfigurationError("a latent map has coordinates outside of 0 to 1, or NaN")

    @classmethod
    def fit(cls, references: References) -> LatentMap | None:
        """Map the references, normalised as for the search of neighbours; 2 s per thousand.

        The same references give the same bytes, whatever the number of threads. None where there is
        nothing to map: fewer than LEAST_REFERENCES, all alike, or a single dimension.
        """
        count = len(references.ids)
        scaled = references.normalise(references.embeddings)
        if count < LEAST_REFERENCES or np.count_nonzero(np.ptp(scaled, axis=0)) < 2:
            return None
        # Imported first: threads can be kept only from libraries that are loaded.
        from openTSNE import TSNE

        with one_thread():
            # A point has three times as many neighbours as its perplexity, itself not among them.
            perplexity = min(PERPLEXITY, (count - 1) // 3)
            found = TSNE(perplexity=perplexity, neighbors="exact", random_state=SEED, n_jobs=1)
            return cls(_within_one(np.asarray(found.fit(scaled))), references.labels)

    def place(self, neighbours: Neighbours, references: References) -> MapPosition:
        """Where an image lies by its nearest references."""
        nearest = self.points[references.rows([one.id for one in neighbours.nearest])]
        x, y = np.median(nearest, axis=0).tolist()
        return MapPosition(x=x, y=y, neighbours=[(left, down) for left, down in nearest.tolist()])

    def save(self, path: Path) -> None:
        """Write as ``.npz`` without pickled objects."""
        np.savez_compressed(path, points=self.points, labels=self.labels)

    @classmethod
    def load(cls, path: Path | BinaryIO) -> LatentMap:
        """Read what ``save`` wrote; raises ConfigurationError if it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(arrays["points"], arrays["labels"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ConfigurationError(f"{path} holds no latent map: {error}") from error


def _within_one(points: np.ndarray) -> np.ndarray:
    """Points moved and scaled, both coordinates alike, so that the longer side spans 0 to 1."""
    lowest, highest = points.min(axis=0), points.max(axis=0)
    middle, side = (lowest + highest) / 2, (highest - lowest).max()
    return np.clip((points - middle) / side + 0.5, 0, 1).astype(np.float32)
