"""Learning-rate schedules: what share of a recipe's rate holds at a point of the training.

A schedule is a function of the point (0 at the start, 1 after the first epoch, with fractions in
between) and of the number of epochs. Most of those here change between epochs only.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Schedule = Callable[[float, int], float]


def constant(point: float, epochs: int) -> float:
    """The same rate from first to last."""
    return 1.0


def constant_then_cosine(fraction: float) -> Schedule:
    """Constant for ``fraction`` of the epochs, then half a cosine towards zero, epoch by epoch."""

    def share(point: float, epochs: int) -> float:
        epoch, flat = int(point), round(fraction * epochs)
        if epoch < flat:
            return 1.0
        progress = (epoch - flat + 1) / (epochs - flat + 1)
        return 0.5 * (1 + math.cos(math.pi * progress))

    return share


def warm_up_then_cosine(warm_up_epochs: float) -> Schedule:
    """A straight line from zero, then half a cosine to zero at the end, changing with every step.

    Goyal et al. 2017 (arXiv:1706.02677) for the warm-up, Loshchilov, Hutter 2017
    (arXiv:1608.03983) for the cosine.
    """

    def share(point: float, epochs: int) -> float:
        # A short trial has no room for a long warm-up.
        rise = min(warm_up_epochs, epochs / 4)
        if point < rise:
            return (point + 1e-3) / (rise + 1e-3)
        return 0.5 * (1 + math.cos(math.pi * (point - rise) / (epochs - rise)))

    return share


def stepwise(every: int, factor: float) -> Schedule:
    """Multiplied by ``factor`` after every ``every`` epochs."""

    def share(point: float, epochs: int) -> float:
        return factor ** (int(point) // every)

    return share


def rates(schedule: Schedule, learning_rate: float, epochs: int, steps: int) -> np.ndarray:
    """The rate of every step of a training, float32 ``(epochs * steps,)``."""
    points = (epoch + step / steps for epoch in range(epochs) for step in range(steps))
    return np.array([learning_rate * schedule(point, epochs) for point in points], np.float32)
