"""Which places of each map have to be computed, and in how many versions: before any value is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.explain.exact.graph import IMAGE, LocalNetwork
from pipeline.explain.exact.operations import (
    FIRST_ROW,
    OUTSIDE,
    OUTSIDE_ROW,
    ZERO_ROW,
    Pair,
    Pointwise,
)
from pipeline.explain.exact.partitions import EMPTY, Partitions
from pipeline.explain.exact.samples import Samples


@dataclass(frozen=True, eq=False)
class Layout:
    """Where a map's values lie in its table of rows.

    ``partition``: int32 ``(places + 1,)``, ``start``: int64 ``(places + 1,)``, the first row of a
    place; the last element stands for OUTSIDE. ``place`` and ``example``: int32 ``(rows,)``, which
    place and which sample each row from FIRST_ROW on is computed for.
    """

    shape: Pair
    partition: np.ndarray
    start: np.ndarray
    place: np.ndarray
    example: np.ndarray

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return FIRST_ROW + len(self.place)

    def index(self, places: np.ndarray, examples: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """Rows that hold the values of places in samples; arrays of one shape, or broadcast.

        ``kinds``: those of ``Partitions``.
        """
        return self.start[places] + kinds[self.partition[places], examples]


def sets_of_steps(network: LocalNetwork, samples: Samples) -> list[np.ndarray]:
    """What the samples differ in at each place of each map, uint64 ``(places, words)``."""
    image = samples.sets()
    found = [image.reshape(-1, image.shape[-1])]
    for step in network.steps:
        before = [found[number] for number in step.inputs]
        if isinstance(step.operation, Pointwise):
            found.append(_union(before))
        else:
            # Nothing differs beyond the edge; OUTSIDE is the last of these.
            with_edge = np.vstack([before[0], np.zeros_like(before[0][:1])])
            places = step.operation.window.places(network.shape_of(step.inputs[0]))
            found.append(np.bitwise_or.reduce(with_edge[places], axis=1))
    return found


def _union(sets: list[np.ndarray]) -> np.ndarray:
    """The union place by place; one of ``sets`` itself where that is all."""
    if len(sets) == 1:
        return sets[0]
    union = np.bitwise_or.reduce(sets)
    return next((one for one in sets if np.array_equal(one, union)), union)


def wanted_places(network: LocalNetwork, zeros: Mapping[int, np.ndarray]) -> list[np.ndarray]:
    """Places of each map that the poolings depend on, bool ``(places,)``.

    ``zeros``: bool ``(places,)`` of steps that are known to be zero there in all samples. What is
    multiplied by zero is not asked for.
    """
    zero = _products_of_zeros(network, zeros)
    wanted = [np.zeros(_places(network, number), bool) for number in range(len(network.steps) + 1)]
    for pooling in network.poolings:
        wanted[pooling.step][:] = True
    for number in range(len(network.steps), IMAGE, -1):
        step = network.steps[number - 1]
        wanted[number] &= ~zero[number]
        for source in step.inputs:
            if isinstance(step.operation, Pointwise):
                wanted[source] |= wanted[number]
            else:
                places = step.operation.window.places(network.shape_of(source))[wanted[number]]
                wanted[source][places[places != OUTSIDE]] = True
    return wanted


def _products_of_zeros(network: LocalNetwork, zeros: Mapping[int, np.ndarray]) -> list[np.ndarray]:
    """Where each map is known to be zero, bool ``(places,)``."""
    found = [np.zeros(_places(network, IMAGE), bool)]
    for number, step in enumerate(network.steps, start=1):
        known = zeros.get(number, np.zeros(_places(network, number), bool))
        if isinstance(step.operation, Pointwise) and step.operation.product:
            known = np.logical_or.reduce([known, *(found[source] for source in step.inputs)])
        found.append(known)
    return found


def _places(network: LocalNetwork, number: int) -> int:
    rows, columns = network.shape_of(number)
    return rows * columns


def lay_out(shape: Pair, numbers: np.ndarray, wanted: np.ndarray, partitions: Partitions) -> Layout:
    """The table of a map: rows for every wanted place, as many as its partition has kinds.

    ``numbers``: partition of every place, int32 ``(places,)``.
    """
    (places,) = np.nonzero(wanted)
    counts = partitions.counts[numbers[places]]
    first = np.cumsum(counts) - counts
    partition = np.full(len(wanted) + 1, EMPTY, np.int32)
    partition[places] = numbers[places]
    start = np.full(len(wanted) + 1, ZERO_ROW, np.int64)
    start[places] = FIRST_ROW + first
    start[OUTSIDE] = OUTSIDE_ROW
    place = np.repeat(places, counts).astype(np.int32)
    kind = np.arange(len(place)) - np.repeat(first, counts)
    example = partitions.examples[partitions.first_examples[partition[place]] + kind]
    return Layout(shape, partition, start, place, example)
