"""Stopping a run in which so many images fail that something else must be wrong."""

from __future__ import annotations

from collections import Counter, deque

#: The last so many images are looked at, and no fewer.
LOOKED_AT = 200


class Breaker:
    """Counts the failures among the images that were processed last."""

    def __init__(self, largest_share: float) -> None:
        self._most = largest_share * LOOKED_AT
        self._last: deque[str | None] = deque(maxlen=LOOKED_AT)

    def note(self, reason: str | None) -> None:
        """An image was processed; the reason if it failed."""
        self._last.append(reason)

    @property
    def verdict(self) -> str | None:
        """Why the run should stop; None while it should not."""
        failures = Counter(reason for reason in self._last if reason is not None)
        if len(self._last) < LOOKED_AT or failures.total() <= self._most:
            return None
        reasons = ", ".join(f"{reason} {count}" for reason, count in failures.most_common())
        return (
            f"{failures.total()} of the last {LOOKED_AT} images failed ({reasons}); find out why, "
            "then `screen resume`, or allow more with SCREEN_FAILED_SHARE"
        )
