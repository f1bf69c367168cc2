"""Perturbed versions of an image, and which of them look alike at a place.

A place of a feature map sees a patch of the image. What the versions differ in there is written as
a set of bits: for superpixels switched on and off, the superpixels in the patch; for masks, the
masks that leave something in it. Versions that agree in those bits agree at the place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from pipeline.explain.exact.operations import Pair

#: Bits in a word of a set.
WORD = 64


@dataclass(frozen=True, eq=False)
class Partition:
    """Which samples are alike.

    ``kinds``: int32 ``(samples,)``, from 0. ``examples``: int32 ``(kinds,)``, a sample of each.
    """

    kinds: np.ndarray
    examples: np.ndarray


class Samples(Protocol):
    """Perturbed versions of one image."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def shape(self) -> Pair:
        """Rows and columns."""

    def part(self, start: int, stop: int) -> Samples:
        """The versions from ``start`` to before ``stop``."""

    def images(self) -> np.ndarray:
        """All of them whole, float32 ``(count, rows, columns, channels)``."""

    def sets(self) -> np.ndarray:
        """What the versions differ in at each pixel, uint64 ``(rows, columns, words)``."""

    def partition(self, bits: np.ndarray) -> Partition:
        """Samples that agree in ``bits``, bool ``(bits,)``."""

    def values(self, pixels: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Colours of pixels (numbered row by row) in samples, float32 ``(n, channels)``."""


@dataclass(frozen=True, eq=False)
class SuperpixelSamples:
    """Superpixels shown or hidden.

    ``image``, ``hidden``: float32 ``(rows, columns, channels)``, what a superpixel shows switched
    on and off. ``superpixels``: int ``(rows, columns)`` from 0. ``patterns``: bool ``(samples,
    superpixels)``, True where it is on.
    """

    image: np.ndarray
    hidden: np.ndarray
    superpixels: np.ndarray
    patterns: np.ndarray

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.patterns)

    @property
    def shape(self) -> Pair:
        """Rows and columns."""
        rows, columns = self.superpixels.shape
        return rows, columns

    def part(self, start: int, stop: int) -> SuperpixelSamples:
        """The samples from ``start`` to before ``stop``."""
        return replace(self, patterns=self.patterns[start:stop])

    def images(self) -> np.ndarray:
        """All samples whole."""
        on = self.patterns[:, self.superpixels][..., None]
        return np.where(on, self.image, self.hidden)

    def sets(self) -> np.ndarray:
        """One bit per superpixel; none where hiding it changes nothing."""
        changes = (self.image != self.hidden).any(axis=2)
        return _one_bit(self.superpixels, changes, self.patterns.shape[1])

    def partition(self, bits: np.ndarray) -> Partition:
        """Samples with the same superpixels on."""
        (members,) = np.nonzero(bits)
        codes = self._codes(members)
        _, examples, kinds = np.unique(codes, return_index=True, return_inverse=True)
        return Partition(kinds.astype(np.int32), examples.astype(np.int32))

    def values(self, pixels: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Colours of pixels in samples."""
        on = self.patterns[samples, self.superpixels.ravel()[pixels]]
        channels = self.image.shape[-1]
        shown, hidden = self.image.reshape(-1, channels), self.hidden.reshape(-1, channels)
        return np.where(on[:, None], shown[pixels], hidden[pixels])

    def _codes(self, members: np.ndarray) -> np.ndarray:
        """A number per sample, equal where the members are; 31 of them at a time."""
        codes = np.zeros(self.count, np.int64)
        for start in range(0, len(members), 31):
            some = members[start : start + 31]
            if start:
                codes = np.unique(codes, return_inverse=True)[1] << 31
            codes |= self._columns[some].T @ (1 << np.arange(len(some)))
        return codes

    @cached_property
    def _columns(self) -> np.ndarray:
        return np.ascontiguousarray(self.patterns.T).astype(np.int64)


@dataclass(frozen=True, eq=False)
class MaskedSamples:
    """The image times each of several masks.

    ``image``: float32 ``(rows, columns, channels)``. ``masks``: float32 ``(samples, rows,
    columns)``.
    """

    image: np.ndarray
    masks: np.ndarray

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.masks)

    @property
    def shape(self) -> Pair:
        """Rows and columns."""
        rows, columns = self.masks.shape[1:]
        return rows, columns

    def part(self, start: int, stop: int) -> MaskedSamples:
        """The samples from ``start`` to before ``stop``."""
        return replace(self, masks=self.masks[start:stop])

    def images(self) -> np.ndarray:
        """All samples whole."""
        masked: np.ndarray = self.image * self.masks[..., None]
        return masked

    def sets(self) -> np.ndarray:
        """One bit per mask, where it leaves something of the image."""
        left = (self.masks != 0) & self.image.any(axis=2)
        words = -(-self.count // WORD)
        padded = np.zeros((words * WORD, *self.shape), bool)
        padded[: self.count] = left
        packed = np.packbits(np.moveaxis(padded, 0, -1), axis=-1, bitorder="little")
        return packed.view("<u8").astype(np.uint64)

    def partition(self, bits: np.ndarray) -> Partition:
        """Each sample that shows something by itself, all others alike."""
        shows = np.zeros(self.count, bool)
        shows[: len(bits)] = bits[: self.count]
        (own,) = np.nonzero(shows)
        (blank,) = np.nonzero(~shows)
        kinds = np.zeros(self.count, np.int32)
        kinds[own] = np.arange(len(own)) + (len(blank) > 0)
        return Partition(kinds, np.concatenate([blank[:1], own]).astype(np.int32))

    def values(self, pixels: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Colours of pixels in samples."""
        colours = self.image.reshape(-1, self.image.shape[-1])[pixels]
        masked: np.ndarray = colours * self.masks.reshape(self.count, -1)[samples, pixels][:, None]
        return masked


def _one_bit(numbers: np.ndarray, where: np.ndarray, count: int) -> np.ndarray:
    """Sets of one member each, or none; uint64 ``(rows, columns, words)``."""
    sets = np.zeros((*numbers.shape, -(-count // WORD)), np.uint64)
    rows, columns = np.nonzero(where)
    members = numbers[rows, columns]
    sets[rows, columns, members // WORD] = np.uint64(1) << (members % WORD).astype(np.uint64)
    return sets


def members_of(sets: np.ndarray) -> np.ndarray:
    """Sets, uint64 ``(n, words)``, as bits, bool ``(n, words * WORD)``."""
    return np.unpackbits(
        np.ascontiguousarray(sets.astype("<u8")).view(np.uint8), axis=-1, bitorder="little"
    ).astype(bool)
