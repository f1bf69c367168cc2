"""The most similar reference images: nearest neighbours in the embedding.

After Genovese, Piuri, Scotti 2025: features min-max normalised with the range of the reference
set, Euclidean distance, majority vote of the nearest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS, Label
from pipeline.results import Neighbour


@dataclass(frozen=True)
class Neighbours:
    """The nearest references of one query, nearest first."""

    nearest: tuple[Neighbour, ...]

    @property
    def distance(self) -> float:
        """Mean distance to the neighbours."""
        return float(np.mean([neighbour.distance for neighbour in self.nearest]))

    @property
    def vote(self) -> Label:
        """Majority label; of equally frequent labels the one with the nearest neighbour."""
        counts = Counter(neighbour.label for neighbour in self.nearest)
        most = max(counts.values())
        return next(item.label for item in self.nearest if counts[item.label] == most)

    @property
    def agreement(self) -> float:
        """Share of the neighbours that have the majority label."""
        vote = self.vote
        return sum(item.label == vote for item in self.nearest) / len(self.nearest)


@dataclass(frozen=True)
class References:
    """Embeddings of labelled images.

    ``embeddings``: float32 ``(references, dimensions)`` as the network gives them.
    ``labels``: int8 ``(references,)``, index into LABELS. ``ids``: one name per reference.
    """

    embeddings: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.embeddings) == len(self.labels) == len(self.ids) > 0:
            raise ConfigurationError("references need as many embeddings as labels and ids")
        minimum = self.embeddings.min(axis=0)
        extent = self.embeddings.max(axis=0) - minimum
        # A unit that never fires in the references carries no scale; its value counts as it is.
        extent[extent == 0] = 1.0
        object.__setattr__(self, "_minimum", minimum)
        object.__setattr__(self, "_extent", extent)
        object.__setattr__(self, "_normalised", self.normalise(self.embeddings))

    def normalise(self, embeddings: np.ndarray) -> np.ndarray:
        """Scale embeddings ``(..., dimensions)`` so that the references span 0 to 1; float64."""
        return (embeddings.astype(np.float64) - self._minimum) / self._extent  # type: ignore[attr-defined]

    def nearest(self, embedding: np.ndarray, n_close: int) -> Neighbours:
        """Find the ``n_close`` nearest references of ``embedding`` ``(dimensions,)``.

        References at equal distance come in their stored order.
        """
        difference = self._normalised - self.normalise(embedding)  # type: ignore[attr-defined]
        distances = np.sqrt((difference**2).sum(axis=1))
        order = np.argsort(distances, kind="stable")[:n_close]
        return Neighbours(
            tuple(
                Neighbour(
                    id=self.ids[index],
                    label=LABELS[self.labels[index]],
                    distance=float(distances[index]),
                )
                for index in order
            )
        )

    def save(self, path: Path) -> None:
        """Write as ``.npz`` without pickled objects."""
        np.savez_compressed(
            path, embeddings=self.embeddings, labels=self.labels, ids=np.array(self.ids)
        )

    @classmethod
    def load(cls, path: Path) -> References:
        """Read what ``save`` wrote; raises ConfigurationError if it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                ids = tuple(str(name) for name in arrays["ids"])
                return cls(arrays["embeddings"], arrays["labels"], ids)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"{path} holds no reference embeddings: {error}") from error
