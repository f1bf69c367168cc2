"""Class scores of many perturbed versions of one image, each different patch computed once.

A place of a feature map sees a small patch of the image. A thousand versions with superpixels
switched on and off show that patch in as many ways as there are patterns of the few superpixels in
it: a handful. So every layer is computed once for each place and each way its patch looks, the
versions look their values up, and only what follows the global pooling is computed for each of
them. The numbers are those of a plain evaluation, up to the rounding of single precision.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from scipy import sparse

from pipeline.explain.exact.graph import IMAGE, LocalNetwork
from pipeline.explain.exact.layout import Layout, lay_out, sets_of_steps, wanted_places
from pipeline.explain.exact.operations import (
    FIRST_ROW,
    Convolution,
    Depthwise,
    Operation,
    Pointwise,
    Windowed,
)
from pipeline.explain.exact.partitions import Partitions
from pipeline.explain.exact.pooled_convolution import PooledConvolution
from pipeline.explain.exact.samples import Samples

#: Bytes that the tables of two steps may take; more samples are evaluated in parts.
TABLE_BYTES = 200 << 20

#: Bytes that are worked on at a time: what a processor's caches hold. Always the same, so that the
#: same sums are made however many threads there are.
HELD_BYTES = 2 << 20


def scores_of(network: LocalNetwork, samples: Samples, threads: int = 1) -> np.ndarray:
    """Class scores of every sample, float32 ``(samples, classes)``."""
    return network.head(pooled_values(network, samples, threads))


def pooled_values(network: LocalNetwork, samples: Samples, threads: int = 1) -> list[np.ndarray]:
    """What each global pooling gives for every sample, float32 ``(samples, channels)``.

    Takes about TABLE_BYTES of memory. ``threads`` changes nothing but the time.
    """
    with ThreadPoolExecutor(threads) as pool:
        parts = [part.pooled() for part in _Evaluation(network, samples, pool).in_parts()]
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def scores_by_maps(
    network: LocalNetwork,
    samples: Samples,
    batch: int,
    threads: int = 1,
    *,
    most_distinct: float = 1.0,
) -> np.ndarray | None:
    """Class scores from ``LocalNetwork.before``, float32 ``(samples, classes)``.

    What follows gets ``batch`` maps at a time; the last are filled up with the last sample. Takes
    about TABLE_BYTES of memory besides. None where more than this part of the maps would have to be
    computed, 0..1.
    """
    with ThreadPoolExecutor(threads) as pool:
        whole = _Evaluation(network, samples, pool)
        if whole.distinct_share > most_distinct:
            return None
        parts = [
            np.concatenate([network.head([maps]) for maps in part.maps(batch)])[: part.count]
            for part in whole.in_parts()
        ]
    return np.concatenate(parts)


class _Evaluation:
    """The tables of one image's samples."""

    def __init__(self, network: LocalNetwork, samples: Samples, pool: ThreadPoolExecutor) -> None:
        self._network, self._samples, self._pool = network, samples, pool
        self._partitions = Partitions(samples)
        self._layouts: dict[int, Layout] = {}
        self._tables: dict[int, np.ndarray] = {}
        sets = sets_of_steps(network, samples)
        wanted = wanted_places(network, self._zeros_of_gates(sets))
        self._lay_out(sets, wanted, [n for n in range(len(wanted)) if n not in self._layouts])

    @property
    def count(self) -> int:
        """Samples."""
        return self._samples.count

    def in_parts(self) -> Iterator[_Evaluation]:
        """As many evaluations of some samples each, in order, as the memory asks for."""
        needed = self.table_bytes
        if needed <= TABLE_BYTES or self.count == 1:
            yield self
            return
        some = max(1, int(self.count * TABLE_BYTES / needed))
        for start in range(0, self.count, some):
            part = self._samples.part(start, min(start + some, self.count))
            yield from _Evaluation(self._network, part, self._pool).in_parts()

    @property
    def table_bytes(self) -> int:
        """Most bytes of a step's table and of those it is made from."""
        network, itemsize = self._network, np.dtype(np.float32).itemsize

        def size(number: int) -> int:
            return self._layouts[number].rows * network.channels_of(number) * itemsize

        return max(
            size(number) + sum(size(source) for source in self._sources_of(number))
            for number in self._layouts
        )

    def _sources_of(self, number: int) -> Sequence[int]:
        return self._network.steps[number - 1].inputs if number != IMAGE else ()

    @property
    def distinct_share(self) -> float:
        """Rows of the map before the first pooling against places of it in all samples."""
        layout = self._layouts[self._network.poolings[0].step]
        return len(layout.place) / (len(layout.partition) - 1) / self._samples.count

    def pooled(self) -> list[np.ndarray]:
        """What each global pooling gives for every sample."""
        self._compute()
        return [
            self._sums(pooling.step) / np.float32(pooling.divisor)
            for pooling in self._network.poolings
        ]

    def maps(self, batch: int) -> Iterator[np.ndarray]:
        """The map before the first pooling, so many samples at a time."""
        self._compute()
        number = self._network.poolings[0].step
        layout, rows = self._layouts[number], self._tables[number]
        places = np.arange(len(layout.partition) - 1)
        for start in range(0, self._samples.count, batch):
            these = np.minimum(np.arange(start, start + batch), self._samples.count - 1)
            index = layout.index(places, these[:, None], self._partitions.kinds)
            yield rows.take(index, axis=0).reshape(batch, *layout.shape, -1)

    def _compute(self) -> None:
        """Fill the tables; only those of what is pooled stay."""
        last_use = _last_uses(self._network)
        for number in range(len(self._network.steps) + 1):
            if number not in self._tables:
                self._tables[number] = self._table(number)
            for done in last_use.get(number, ()):
                del self._tables[done]

    def _zeros_of_gates(self, sets: list[np.ndarray]) -> dict[int, np.ndarray]:
        """Where factors that cost nothing to compute are zero in all samples."""
        gates = _gates(self._network)
        if not gates:
            return {}
        everywhere = [np.ones(len(places), bool) for places in sets]
        self._lay_out(sets, everywhere, gates)
        for number in gates:
            self._tables[number] = self._table(number)
        return {number: self._is_zero(number) for number in gates if number != IMAGE}

    def _is_zero(self, number: int) -> np.ndarray:
        layout = self._layouts[number]
        used = self._tables[number][FIRST_ROW:].any(axis=1)
        rows, columns = layout.shape
        return np.bincount(layout.place, weights=used, minlength=rows * columns) == 0

    def _lay_out(
        self, sets: list[np.ndarray], wanted: Sequence[np.ndarray], steps: Sequence[int]
    ) -> None:
        # What looks at one place alone mostly has the layout of what it looks at.
        alike: dict[tuple[int, bytes], list[int]] = defaultdict(list)
        for number in steps:
            alike[id(sets[number]), wanted[number].tobytes()].append(number)
        numbers = {}
        for first, *_ in alike.values():
            numbers[first] = np.zeros(len(sets[first]), np.int32)
            chosen = wanted[first]
            numbers[first][chosen] = self._partitions.numbers_of(sets[first][chosen])
        self._partitions.close()
        for first, *others in alike.values():
            shape = self._network.shape_of(first)
            layout = lay_out(shape, numbers[first], wanted[first], self._partitions)
            self._layouts.update(dict.fromkeys([first, *others], layout))

    def _table(self, number: int) -> np.ndarray:
        """All rows of a step's result, float32 ``(rows, channels)``."""
        result = np.zeros(
            (self._layouts[number].rows, self._network.channels_of(number)), np.float32
        )
        rows = result[FIRST_ROW:]
        fill = self._filler(number)
        some = max(1, HELD_BYTES // (self._held(number) * result.itemsize))

        def compute(start: int) -> None:
            these = slice(start, start + some)
            fill(these, rows[these])

        for _ in self._pool.map(compute, range(0, len(rows), some)):
            pass
        return result

    def _held(self, number: int) -> int:
        """Values that are held for each row of a step while it is computed."""
        inputs = [self._network.channels_of(source) for source in self._sources_of(number)]
        operation = self._operation_of(number)
        if operation is None or isinstance(operation, Pointwise):
            return self._network.channels_of(number) + sum(inputs)
        return operation.held(inputs[0])

    def _filler(self, number: int) -> Callable[[slice, np.ndarray], None]:
        """What computes some rows of a step into the array it is given."""
        layout, operation = self._layouts[number], self._operation_of(number)
        if operation is None:
            return partial(self._fill_image, layout)
        if isinstance(operation, Pointwise):
            beside = [self._rows_beside(source, layout) for source in self._sources_of(number)]
            return partial(_fill_pointwise, operation, beside)
        (source,) = self._sources_of(number)
        return partial(self._fill_windowed, layout, operation, source)

    def _operation_of(self, number: int) -> Operation | None:
        """None for the image."""
        return self._network.steps[number - 1].operation if number != IMAGE else None

    def _fill_image(self, layout: Layout, these: slice, out: np.ndarray) -> None:
        out[:] = self._samples.values(layout.place[these], layout.example[these])

    def _fill_windowed(
        self, layout: Layout, operation: Windowed, source: int, these: slice, out: np.ndarray
    ) -> None:
        before = self._layouts[source]
        places = operation.window.places(before.shape)
        place, example = places[layout.place[these]], layout.example[these, None]
        operation(self._tables[source], before.index(place, example, self._partitions.kinds), out)

    def _rows_beside(self, source: int, layout: Layout) -> Callable[[slice], np.ndarray]:
        """From rows of a step, without the first ones, to the rows of an input that are theirs."""
        before, rows = self._layouts[source], self._tables[source]
        if before is layout or np.array_equal(before.start, layout.start):
            return rows[FIRST_ROW:].__getitem__

        def looked_up(these: slice) -> np.ndarray:
            place, example = layout.place[these], layout.example[these]
            return rows.take(before.index(place, example, self._partitions.kinds), axis=0)

        return looked_up

    def _sums(self, number: int) -> np.ndarray:
        """Sum over all places for every sample, float32 ``(samples, channels)``.

        Places with the same partition are added first: all samples look them up together.
        """
        layout, rows = self._layouts[number], self._tables[number][FIRST_ROW:]
        partitions = self._partitions
        numbers = layout.partition[layout.place]
        present = np.unique(numbers)
        counts = partitions.counts[present]
        first = np.zeros(len(partitions.counts), np.int64)
        first[present] = np.cumsum(counts) - counts
        kind = partitions.kinds[numbers, layout.example]
        together = _selection(first[numbers] + kind, int(counts.sum())).T @ rows
        index = first[present] + partitions.kinds[present].T
        looked_up = sparse.csr_array(
            (
                np.ones(index.size, np.float32),
                index.ravel(),
                np.arange(len(index) + 1) * len(present),
            ),
            shape=(len(index), int(counts.sum())),
        )
        return np.asarray(looked_up @ together)


def _selection(columns: np.ndarray, width: int) -> sparse.csr_array:
    """One 1 per row, in these columns."""
    ones = np.ones(len(columns), np.float32)
    return sparse.csr_array((ones, columns, np.arange(len(columns) + 1)), (len(columns), width))


def _fill_pointwise(
    operation: Pointwise,
    beside: Sequence[Callable[[slice], np.ndarray]],
    these: slice,
    out: np.ndarray,
) -> None:
    out[:] = operation.function([rows(these) for rows in beside])


def _gates(network: LocalNetwork) -> list[int]:
    """Steps without a convolution before them that end up as a factor, and what they need."""
    cheap = {IMAGE}
    for number, step in enumerate(network.steps, start=1):
        costly = isinstance(step.operation, (Convolution, Depthwise, PooledConvolution))
        if not costly and cheap.issuperset(step.inputs):
            cheap.add(number)
    needed = {
        source
        for step in network.steps
        if isinstance(step.operation, Pointwise) and step.operation.product
        for source in step.inputs
        if source in cheap
    }
    for number in range(len(network.steps), IMAGE, -1):
        if number in needed:
            needed.update(network.steps[number - 1].inputs)
    return sorted(needed)


def _last_uses(network: LocalNetwork) -> Mapping[int, list[int]]:
    """Steps whose tables can go after a step is computed."""
    last: dict[int, int] = {}
    for number, step in enumerate(network.steps, start=1):
        last.update(dict.fromkeys(step.inputs, number))
    for pooling in network.poolings:
        last.pop(pooling.step, None)
    found: dict[int, list[int]] = {}
    for source, number in last.items():
        found.setdefault(number, []).append(source)
    return found
