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
        self._found = [samples.partition(np.zeros(0, bool))]

    def numbers_of(self, sets: np.ndarray) -> np.ndarray:
        """Number of the partition by each set, int32 ``(n,)``; sets are uint64 ``(n, words)``."""
        first, inverse = _distinct(sets)
        distinct = np.ascontiguousarray(sets[first])
        bits = members_of(distinct)
        numbers = np.zeros(len(distinct), np.int32)
        for row, (words, members) in enumerate(zip(distinct, bits, strict=True)):
            if not words.any():
                continue
            key = words.tobytes()
            if key not in self._numbers:
                self._numbers[key] = len(self._found)
                self._found.append(self._samples.partition(members))
            numbers[row] = self._numbers[key]
        return numbers[inverse]

    def close(self) -> None:
        """Lay all partitions found so far out as arrays."""
        self.counts = np.array([len(p.examples) for p in self._found], np.int64)
        self.kinds = np.stack([p.kinds for p in self._found])
        self.examples = np.concatenate([p.examples for p in self._found])
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
