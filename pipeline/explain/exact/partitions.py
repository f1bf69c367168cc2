"""Partitions of the samples by what they differ in, each made once for all places that have it."""

from __future__ import annotations

import numpy as np

from pipeline.explain.exact.samples import Samples, members_of

#: The partition of nothing: all samples are alike.
EMPTY = 0

_MIX = np.uint64(0x9E3779B97F4A7C15)


class Partitions:
    """Partitions by number.

    ``kinds``: int32 ``(partitions, samples)``. ``counts``: int64 ``(partitions,)``, how many kinds
    each has. ``examples``: int32, a sample of each kind, those of partition ``n`` from
    ``first_examples[n]`` on.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._numbers: dict[bytes, int] = {}
        self._found = [samples.alike(np.zeros((1, samples.count), bool))]

    def numbers_of(self, sets: np.ndarray) -> np.ndarray:
        """Number of the partition by each set, int32 ``(n,)``; sets are uint64 ``(n, words)``."""
        first, inverse = _distinct(sets)
        distinct = np.ascontiguousarray(sets[first])
        names = [words.tobytes() for words in distinct]
        numbers = self._numbers
        numbers.setdefault(bytes(distinct.itemsize * distinct.shape[1]), EMPTY)
        new = [row for row, name in enumerate(names) if name not in numbers]
        if new:
            self._found.append(self._samples.alike(members_of(distinct[new])))
            numbers |= {names[row]: len(numbers) + n for n, row in enumerate(new)}
        return np.array([numbers[name] for name in names], np.int32)[inverse]

    def close(self) -> None:
        """Lay all partitions found so far out as arrays."""
        self.counts = np.concatenate([found.counts for found in self._found])
        self.kinds = np.concatenate([found.kinds for found in self._found])
        self.examples = np.concatenate([found.examples for found in self._found])
        self.first_examples = np.cumsum(self.counts) - self.counts


def _distinct(sets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that stand for all, and which of them each row equals; int ``(distinct,)``, ``(n,)``."""
    mixed = np.zeros(len(sets), np.uint64)
    for column in sets.T:
        mixed = (mixed ^ column) * _MIX
        mixed ^= mixed >> np.uint64(29)
    _, first, inverse = np.unique(mixed, return_index=True, return_inverse=True)
    if (sets[first][inverse] != sets).any():
        # Two sets were mixed to the same number, which happens once in 2^64 pairs.
        _, first, inverse = np.unique(sets, axis=0, return_index=True, return_inverse=True)
    return first, inverse.reshape(-1)
