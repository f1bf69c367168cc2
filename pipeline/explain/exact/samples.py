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
class Alike:
    """Which samples are alike, in several ways of looking at them.

    ``kinds``: int32 ``(ways, samples)``, from 0 in each. ``counts``: int64 ``(ways,)``, how many
    kinds there are. ``examples``: int32 ``(sum of counts,)``, a sample of each kind, way by way.
    """

    kinds: np.ndarray
    counts: np.ndarray
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

    def alike(self, bits: np.ndarray) -> Alike:
        """Samples that agree in each row of ``bits``, bool ``(ways, bits)``."""

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

    def alike(self, bits: np.ndarray) -> Alike:
        """Samples with the same superpixels on."""
        kinds = np.zeros((len(bits), self.count), np.int32)
        examples = []
        for way, members in enumerate(bits):
            codes = self._codes(np.flatnonzero(members))
            _, found, kinds[way] = np.unique(codes, return_index=True, return_inverse=True)
            examples.append(found.astype(np.int32))
        counts = np.array([len(found) for found in examples], np.int64)
        return Alike(kinds, counts, np.concatenate(examples))

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
        octets = np.packbits(left, axis=0, bitorder="little")
        packed = np.zeros((*self.shape, -(-self.count // WORD) * WORD // 8), np.uint8)
        packed[..., : len(octets)] = np.moveaxis(octets, 0, -1)
        return packed.view("<u8").astype(np.uint64)

    def alike(self, bits: np.ndarray) -> Alike:
        """Each sample that shows something by itself, all others alike and first."""
        shows = bits[:, : self.count]
        blank = np.logical_not(shows)
        first_blank, some_blank = np.argmax(blank, axis=1), np.any(blank, axis=1)
        kinds = np.where(shows, shows.cumsum(axis=1) - 1 + some_blank[:, None], 0)
        stands_for_one = shows.copy()
        stands_for_one[some_blank, first_blank[some_blank]] = True
        ways, examples = np.nonzero(stands_for_one)
        order = np.lexsort((kinds[ways, examples], ways))
        return Alike(
            kinds.astype(np.int32), stands_for_one.sum(axis=1), examples[order].astype(np.int32)
        )

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
