"""Reading no faster than an archive's disk and network are to be used."""

from __future__ import annotations

import time

#: What was not used is not saved up for longer.
_SECONDS = 1.0


class Allowance:
    """Bytes that may be spent, so many a second; without a limit, as many as there are."""

    def __init__(self, megabytes_per_second: float | None) -> None:
        self._rate = None if megabytes_per_second is None else megabytes_per_second * 1e6
        self._left = 0.0
        self._time = time.monotonic() - _SECONDS

    def spend(self, size: int) -> bool:
        """Spend so many bytes; False if they have to wait.

        One that is larger than what is left may overdraw it, so that every size comes through.
        """
        if self._rate is None:
            return True
        now = time.monotonic()
        self._left = min(self._left + (now - self._time) * self._rate, _SECONDS * self._rate)
        self._time = now
        if self._left <= 0:
            return False
        self._left -= size
        return True
