"""What the layers before a global pooling do, on tables of values instead of on images.

A table holds, for every place of a feature map, one row per value the place takes among the
perturbed images. Operations here turn rows into rows: a window gathers the rows it lies on, a
pointwise operation keeps them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np

Pair = tuple[int, int]

#: In ``Window.places``: beyond the edge.
OUTSIDE = -1

#: Rows that every table begins with, both zeros: what lies beyond the edge, and values that are
#: known to be zero or that nothing asks for.
OUTSIDE_ROW, ZERO_ROW, FIRST_ROW = 0, 1, 2


@dataclass(frozen=True)
class Window:
    """Where a sliding window looks; lengths are (rows, columns).

    ``padding``: places added before and after the rows and the columns; negative ones are cut off.
    """

    size: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))

    def shape(self, shape: Pair) -> Pair:
        """Rows and columns of the result on a map of ``shape``."""
        rows, columns = (
            (shape[axis] + sum(self.padding[axis]) - self._reach(axis)) // self.stride[axis] + 1
            for axis in (0, 1)
        )
        return rows, columns

    @property
    def places_count(self) -> int:
        """Places under the window."""
        return self.size[0] * self.size[1]

    def _reach(self, axis: int) -> int:
        return self.dilation[axis] * (self.size[axis] - 1) + 1

    @cache  # noqa: B019 - windows live as long as the network they belong to
    def places(self, shape: Pair) -> np.ndarray:
        """Places under the window, int32 ``(places of the result, places_count)``, row by row.

        Places are numbered row by row on the map of ``shape``; OUTSIDE lies beyond its edge.
        """
        down, across = (self._along(axis, shape) for axis in (0, 1))
        rows = down[:, None, :, None]
        columns = across[None, :, None, :]
        inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
        found = np.where(inside, rows * shape[1] + columns, OUTSIDE)
        return found.reshape(-1, self.places_count).astype(np.int32)

    def _along(self, axis: int, shape: Pair) -> np.ndarray:
        """Row (or column) numbers under the window, int ``(results, size)``."""
        first = np.arange(self.shape(shape)[axis]) * self.stride[axis] - self.padding[axis][0]
        return first[:, None] + np.arange(self.size[axis]) * self.dilation[axis]


def same_padding(shape: Pair, size: Pair, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """The padding Keras calls ``same``: as many results as strides fit, the larger half after."""

    def along(axis: int) -> Pair:
        results = -(-shape[axis] // stride[axis])
        reach = dilation[axis] * (size[axis] - 1) + 1
        total = max((results - 1) * stride[axis] + reach - shape[axis], 0)
        return total // 2, total - total // 2

    return along(0), along(1)


class Windowed(Protocol):
    """An operation whose result at a place follows from what lies under a window."""

    @property
    def window(self) -> Window:
        """Where it looks."""

    def held(self, channels: int) -> int:
        """Values that are held for each result while it is computed from so many ``channels``."""
        ...

    def __call__(self, rows: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
        """Fill ``out``, float32 ``(results, channels)``.

        From the rows that ``index``, int ``(results, places)``, points to.
        """


@dataclass(frozen=True, eq=False)
class Convolution:
    """``kernel``: float32 ``(places * channels in, channels out)``; ``bias``: ``(channels out,)``.

    ``relu``: whether negative results become zero.
    """

    window: Window
    kernel: np.ndarray
    bias: np.ndarray
    relu: bool = False

    @property
    def channels(self) -> int:
        """Channels of the result."""
        return int(self.kernel.shape[1])

    def held(self, channels: int) -> int:
        """As in ``Windowed``."""
        return self.window.places_count * channels

    def __call__(self, rows: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
        """As in ``Windowed``."""
        gathered = rows.take(index, axis=0, mode="clip").reshape(len(index), -1)
        np.matmul(gathered, self.kernel, out=out)
        out += self.bias
        if self.relu:
            np.maximum(out, 0, out=out)


@dataclass(frozen=True, eq=False)
class Depthwise:
    """``kernel``: float32 ``(places, channels in, multiplier)``; ``bias``: ``(channels out,)``."""

    window: Window
    kernel: np.ndarray
    bias: np.ndarray
    relu: bool = False

    @property
    def channels(self) -> int:
        """Channels of the result."""
        return int(self.kernel.shape[1] * self.kernel.shape[2])

    def held(self, channels: int) -> int:
        """As in ``Windowed``."""
        return max(channels, self.channels)

    def __call__(self, rows: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
        """As in ``Windowed``, each channel by itself."""
        out[:] = self.bias
        for place, kernel in enumerate(self.kernel):
            found = rows.take(index[:, place], axis=0, mode="clip")
            out += (found[:, :, None] * kernel).reshape(out.shape)
        if self.relu:
            np.maximum(out, 0, out=out)


@dataclass(frozen=True, eq=False)
class MaxPooling:
    """The largest value under the window and within the edge."""

    window: Window

    def held(self, channels: int) -> int:
        """As in ``Windowed``."""
        return channels

    def __call__(self, rows: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
        """As in ``Windowed``."""
        out[:] = -np.inf
        for column in index.T:
            found = rows.take(column, axis=0, mode="clip")
            found[column == OUTSIDE_ROW] = -np.inf
            np.maximum(out, found, out=out)


@dataclass(frozen=True, eq=False)
class AveragePooling:
    """The mean of what lies under the window and within the edge."""

    window: Window

    def held(self, channels: int) -> int:
        """As in ``Windowed``."""
        return channels

    def __call__(self, rows: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
        """As in ``Windowed``."""
        out[:] = rows.take(index[:, 0], axis=0, mode="clip")
        for place in range(1, index.shape[1]):
            out += rows.take(index[:, place], axis=0, mode="clip")
        out /= (index != OUTSIDE_ROW).sum(axis=1, keepdims=True, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Shift:
    """Rows and columns added with zeros, or cut off."""

    window: Window

    def held(self, channels: int) -> int:
        """As in ``Windowed``."""
        return channels

    def __call__(self, rows: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
        """As in ``Windowed``."""
        rows.take(index[:, 0], axis=0, mode="clip", out=out)


@dataclass(frozen=True, eq=False)
class Pointwise:
    """A function of the values at one place: arrays ``(rows, channels)`` in, one out.

    ``product``: whether it is the product of its inputs, and so zero where one of them is.
    """

    function: Callable[[Sequence[np.ndarray]], np.ndarray]
    product: bool = False


Operation = Windowed | Pointwise
