"""A 3x3 convolution and the 2x2 max-pooling behind it in one step.

The four places that are pooled see 4x4 places between them. These are gathered once, instead of 3x3
for each of the four, and what is not the largest of the four is never written to a table. With many
channels the four are computed by the minimal filtering algorithm F(2x2, 3x3) of Winograd, in the
form of Lavin, Gray 2016 (arXiv:1509.09308, section 4.1): 16 products per channel instead of 36. It
adds and subtracts and halves, so that its rounding is that of the plain sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.explain.exact.operations import Convolution, MaxPooling, Window

_KERNEL, _POOL, _SEEN = 3, 2, 4

#: With fewer channels the additions before and after cost more than the products they save.
_FEWEST_CHANNELS = 16

#: G of Lavin, Gray: what kernels are transformed by.
_KERNEL_TRANSFORM = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


@dataclass(frozen=True, eq=False)
class PooledConvolution:
    """``kernel``: float32 ``(9 * channels in, channels out)``; ``bias``: ``(channels out,)``.

    ``window``: over the 4x4 places that the four pooled ones see. ``relu``: whether negative
    results become zero.
    """

    window: Window
    kernel: np.ndarray
    bias: np.ndarray
    relu: bool

    @classmethod
    def of(cls, convolution: Convolution, pooling: MaxPooling) -> PooledConvolution | None:
        """Both in one; None where they are of other sizes, or pooled beyond the edge."""
        first, second = convolution.window, pooling.window
        plain = Window((_KERNEL, _KERNEL), padding=first.padding)
        if first != plain or second != Window((_POOL, _POOL), stride=(_POOL, _POOL)):
            return None
        window = Window((_SEEN, _SEEN), stride=(_POOL, _POOL), padding=first.padding)
        return cls(window, convolution.kernel, convolution.bias, convolution.relu)

    @property
    def channels(self) -> int:
        """Channels of the result."""
        return int(self.kernel.shape[1])

    def held(self, channels: int) -> int:
        """As in ``Windowed``."""
        if channels < _FEWEST_CHANNELS:
            return max(_SEEN**2 * channels, _POOL**2 * self.channels)
        return _SEEN**2 * max(channels, self.channels)

    def __call__(self, rows: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
        """As in ``Windowed``; the largest of the four before bias and ReLU, which keep order."""
        if rows.shape[1] < _FEWEST_CHANNELS:
            self._at_once(rows, index, out)
        else:
            self._filtered(rows, index, out)
        out += self.bias
        if self.relu:
            np.maximum(out, 0, out=out)

    def _at_once(self, rows: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
        gathered = rows.take(index, axis=0, mode="clip").reshape(len(index), -1)
        four = (gathered @ self._spread).reshape(len(index), _POOL * _POOL, -1)
        np.max(four, axis=1, out=out)

    def _filtered(self, rows: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
        gathered = rows.take(index.T, axis=0, mode="clip").reshape(_SEEN, _SEEN, -1)
        seen = _differences(_differences(gathered).swapaxes(0, 1))
        products = np.matmul(seen.reshape(_SEEN * _SEEN, len(index), -1), self._transformed)
        half = _sums(products.reshape(_SEEN, _SEEN, *out.shape))
        upper, lower = (_sums(one) for one in half)
        np.maximum(np.maximum(*upper), np.maximum(*lower), out=out)

    @cached_property
    def _taps(self) -> np.ndarray:
        return self.kernel.reshape(_KERNEL, _KERNEL, -1, self.channels)

    @cached_property
    def _spread(self) -> np.ndarray:
        """The kernel at each of the four places, float32 ``(16 * in, 4 * out)``."""
        found = np.zeros((_SEEN, _SEEN, self._taps.shape[2], _POOL, _POOL, self.channels), "f4")
        for down in range(_POOL):
            for across in range(_POOL):
                rows, columns = slice(down, down + _KERNEL), slice(across, across + _KERNEL)
                found[rows, columns, :, down, across] = self._taps
        return found.reshape(-1, _POOL * _POOL * self.channels)

    @cached_property
    def _transformed(self) -> np.ndarray:
        """The kernel as it meets ``_differences``, across before down: ``(16, in, out)``."""
        taps = self._taps.astype(np.float64)
        found = np.einsum("xc,yr,rcio->xyio", _KERNEL_TRANSFORM, _KERNEL_TRANSFORM, taps)
        return found.reshape(_SEEN * _SEEN, *self._taps.shape[2:]).astype(np.float32)


def _differences(values: np.ndarray) -> np.ndarray:
    """The transpose of B of Lavin, Gray along the first axis, of length 4."""
    found = np.empty(values.shape, values.dtype)
    np.subtract(values[0], values[2], out=found[0])
    np.add(values[1], values[2], out=found[1])
    np.subtract(values[2], values[1], out=found[2])
    np.subtract(values[1], values[3], out=found[3])
    return found


def _sums(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The transpose of A of Lavin, Gray along the first axis: two results of four products."""
    return products[0] + products[1] + products[2], products[1] - products[2] - products[3]
