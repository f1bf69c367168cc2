"""The most similar reference images: nearest neighbours in the embedding.

After Genovese, Piuri, Scotti 2025: features min-max normalised with the range of the reference
set, Euclidean distance, majority vote of the nearest.

The search is exact. A single-precision matrix product finds every reference that could be among the
nearest, with a bound on its rounding error; the distances of those few are then computed in double
precision from the stored embeddings. ``benchmarks/neighbours.py`` compares it with other software.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS, MALIGNANT_LABELS, REFERENCE_LABELS, Label, ReferenceLabel
from pipeline.results import Neighbour

#: Rows that are converted to double precision at a time.
BLOCK = 8192

#: Approximate distances held at a time, in numbers: queries times references.
HELD = 2**25

#: Unit round-off of single and of double precision.
ROUND_OFF, DOUBLE_ROUND_OFF = 2.0**-24, 2.0**-53


@dataclass(frozen=True)
class Neighbours:
    """The nearest references of one query, nearest first."""

    nearest: tuple[Neighbour, ...]

    @property
    def distance(self) -> float:
        """Mean distance to the neighbours."""
        return float(np.mean([neighbour.distance for neighbour in self.nearest]))

    @property
    def vote(self) -> ReferenceLabel:
        """The label that most neighbours support; of equally supported the nearest neighbour's.

        ``malignant`` if the neighbours say no more than that: they are leukaemia without a known
        subtype.
        """
        support = {label: self.support(label) for label in LABELS}
        winners = {label for label in LABELS if support[label] == max(support.values())}
        if len(winners) == 1:
            return winners.pop()
        first = next(item.label for item in self.nearest if _consistent(item.label, winners))
        malignant = winners & MALIGNANT_LABELS
        return malignant.pop() if first == "malignant" and len(malignant) == 1 else first

    def support(self, label: Label) -> float:
        """Share of the neighbours that have the label, or are malignant like it.

        A reference without a subtype supports every malignant label alike.
        """
        return sum(_consistent(item.label, {label}) for item in self.nearest) / len(self.nearest)

    @property
    def agreement(self) -> float:
        """Share of the neighbours that support the vote."""
        return max(self.support(label) for label in LABELS)

    def agrees(self, label: Label) -> bool:
        """Whether the vote is the label, or is malignant without a subtype as the label is."""
        return _consistent(self.vote, {label})


def _consistent(reference: ReferenceLabel, labels: set[Label]) -> bool:
    if reference == "malignant":
        return not MALIGNANT_LABELS.isdisjoint(labels)
    return reference in labels


@dataclass(frozen=True)
class References:
    """Embeddings of labelled images.

    ``embeddings``: float32 ``(references, dimensions)`` as the network gives them, finite.
    ``labels``: int8 ``(references,)``, index into REFERENCE_LABELS. ``ids``: one name per
    reference.
    """

    embeddings: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.embeddings) == len(self.labels) == len(self.ids) > 0:
            raise ConfigurationError("references need as many embeddings as labels and ids")
        if self.labels.min() < 0 or self.labels.max() >= len(REFERENCE_LABELS):
            raise ConfigurationError(f"labels of references are numbers of {REFERENCE_LABELS}")
        if not all(np.isfinite(self.embeddings[rows]).all() for rows in _blocks(len(self.ids))):
            raise ConfigurationError(
                "reference embeddings hold NaN or infinity: the network diverged; train it again"
            )
        minimum = self.embeddings.min(axis=0)
        extent = self.embeddings.max(axis=0) - minimum
        # A unit that never fires in the references carries no scale; its value counts as it is.
        extent[extent == 0] = 1.0
        object.__setattr__(self, "_minimum", minimum)
        object.__setattr__(self, "_extent", extent)
        self._prepare_search()

    def normalise(self, embeddings: np.ndarray) -> np.ndarray:
        """Scale embeddings ``(..., dimensions)`` so that the references span 0 to 1; float64."""
        return (embeddings.astype(np.float64) - self._minimum) / self._extent  # type: ignore[attr-defined]

    def similarity_gradients(self, ids: Sequence[str]) -> np.ndarray:
        """How an embedding's similarity to references changes with it, ``(ids, dimensions)``.

        The similarity is the scalar product of both, scaled so that the references span 0 to 1.
        """
        return self.slopes_towards(self.embeddings[self.rows(ids)])

    def slopes_towards(self, embeddings: np.ndarray) -> np.ndarray:
        """The same for any ``embeddings`` ``(n, dimensions)``."""
        return self.normalise(embeddings) / self._extent  # type: ignore[attr-defined]

    def rows(self, ids: Sequence[str]) -> list[int]:
        """Where references are stored, by name."""
        return [self.ids.index(name) for name in ids]

    def nearest(self, embedding: np.ndarray, n_close: int) -> Neighbours:
        """Find the ``n_close`` nearest references of ``embedding`` ``(dimensions,)``.

        References at equal distance come in their stored order. Raises ConfigurationError if the
        embedding is not finite.
        """
        return self.nearest_of_all(embedding[None], n_close)[0]

    def nearest_of_all(self, embeddings: np.ndarray, n_close: int) -> list[Neighbours]:
        """The same for every row of ``embeddings`` ``(queries, dimensions)``, faster together."""
        found = []
        for indices, distances in self.search(embeddings, n_close):
            found.append(
                Neighbours(
                    tuple(
                        Neighbour(
                            id=self.ids[index],
                            label=REFERENCE_LABELS[self.labels[index]],
                            distance=float(distance),
                        )
                        for index, distance in zip(indices, distances, strict=True)
                    )
                )
            )
        return found

    def search(
        self, embeddings: np.ndarray, n_close: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Stored positions and distances (float64) of the nearest, for each query in turn."""
        if not np.isfinite(embeddings).all():
            raise ConfigurationError(
                "the network gives embeddings with NaN or infinity: its bundle is unusable"
            )
        count = min(n_close, len(self.ids))
        queries = self.normalise(embeddings)
        step = max(1, HELD // len(self.ids))
        for start in range(0, len(queries), step):
            some = queries[start : start + step]
            for query, candidates in zip(some, self._candidates(some, count), strict=True):
                distances = np.concatenate(
                    [
                        np.sqrt(((self.normalise(self.embeddings[rows]) - query) ** 2).sum(axis=1))
                        for rows in np.array_split(candidates, -(-len(candidates) // BLOCK))
                    ]
                )
                order = np.argsort(distances, kind="stable")[:count]
                yield candidates[order], distances[order]

    def _prepare_search(self) -> None:
        """Normalised references about their centre, float32, and half their squared lengths."""
        total = np.zeros(self.embeddings.shape[1])
        for rows in _blocks(len(self.ids)):
            total += self.normalise(self.embeddings[rows]).sum(axis=0)
        centre = total / len(self.ids)
        centred = np.empty(self.embeddings.shape, np.float32)
        halves = np.empty(len(self.ids))
        for rows in _blocks(len(self.ids)):
            block = self.normalise(self.embeddings[rows]) - centre
            centred[rows] = block
            halves[rows] = (block**2).sum(axis=1) / 2
        object.__setattr__(self, "_centre", centre)
        object.__setattr__(self, "_centred", centred)
        object.__setattr__(self, "_halves", halves.astype(np.float32))
        object.__setattr__(self, "_longest", float(np.sqrt(2 * halves.max())))

    def _candidates(self, queries: np.ndarray, count: int) -> Iterator[np.ndarray]:
        """Positions of all references that may be among the ``count`` nearest, ascending.

        Half the squared distance is ``|x|^2/2 - x.q + |q|^2/2``; the last term is the same for all
        references and left out. In single precision the rest is wrong by at most ``slack``: the
        product of ``d`` terms by ``(d + 3) u |x| |q|``, roundings of ``x`` and ``q`` included, and
        ``|x|^2/2`` and the difference by ``3 u`` of their own size (Higham, Accuracy and Stability
        of Numerical Algorithms, section 3.1; doubled here). The distances themselves are rounded
        in double precision, which orders references anew where the query is very far from all.
        """
        centred = queries - self._centre  # type: ignore[attr-defined]
        lengths = np.sqrt((centred**2).sum(axis=1))
        longest: float = self._longest  # type: ignore[attr-defined]
        unit = 2 * ROUND_OFF * (centred.shape[1] + 8)
        slack = unit * (longest * lengths + longest**2) + 1e-30
        slack += unit * DOUBLE_ROUND_OFF / ROUND_OFF * (lengths + longest) ** 2
        with np.errstate(over="ignore", invalid="ignore"):
            # A query beyond the range of single precision is compared with every reference below.
            approximate = _products(centred.astype(np.float32), self._centred)  # type: ignore[attr-defined]
            np.subtract(self._halves, approximate, out=approximate)  # type: ignore[attr-defined]
            for row, allowance in zip(approximate, slack, strict=True):
                limit = float(np.partition(row, count - 1)[count - 1]) + 2 * allowance
                yield np.flatnonzero(~(row > limit))

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
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ConfigurationError(f"{path} holds no reference embeddings: {error}") from error

    def extended(
        self, embeddings: np.ndarray, labels: Sequence[ReferenceLabel], ids: Sequence[str]
    ) -> References:
        """These references and more, in that order."""
        numbers = np.array([REFERENCE_LABELS.index(label) for label in labels], dtype=np.int8)
        return References(
            np.concatenate([self.embeddings, embeddings.astype(np.float32)]),
            np.concatenate([self.labels, numbers]),
            (*self.ids, *ids),
        )


def _products(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """``queries @ references.T``; a query alone by a product with a vector, three times as fast."""
    if len(queries) == 1:
        return (references @ queries[0])[None]
    return queries @ references.T


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))
