"""Small-sample statistics of shares."""

from __future__ import annotations

import math

#: 97.5th percentile of the standard normal distribution: two-sided 95 % intervals.
Z_95 = 1.959963984540054


def wilson_interval(successes: int, trials: int) -> tuple[float, float] | None:
    """Two-sided 95 % interval of a share (Wilson 1927); None without trials."""
    if trials == 0:
        return None
    share = successes / trials
    scale = 1 + Z_95**2 / trials
    centre = (share + Z_95**2 / (2 * trials)) / scale
    spread = Z_95 / scale * math.sqrt(share * (1 - share) / trials + Z_95**2 / (4 * trials**2))
    # At the ends the formula is exact only up to rounding.
    low = 0.0 if successes == 0 else max(0.0, centre - spread)
    high = 1.0 if successes == trials else min(1.0, centre + spread)
    return low, high
