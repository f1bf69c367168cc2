"""Who feeds a run, or watches a source: one at a time, because more is work for nothing.

Nothing depends on it being exact. Two that feed the same run at once hand rows out twice, and the
store ends up with one result of each; two that watch the same source submit the same runs.
"""

from __future__ import annotations

import time
from uuid import uuid4

from pydantic import Field, ValidationError

from pipeline.canonical import canonical_bytes
from worker.machine import ProcessMark
from worker.store import Store

#: A holder that has not renewed its lease for so many of its periods has lost it.
_PERIODS = 6


class _Holder(ProcessMark):
    """Who holds the lease; the number tells whether it is still being renewed."""

    token: str
    renewals: int = Field(ge=0)


class Lease:
    """This process's claim; ``key``: where it is written down.

    Whether another's is stale is judged by how long it stays the same while it is watched, so that
    no clock of another machine matters.
    """

    def __init__(self, store: Store, key: str, *, renew_seconds: float) -> None:
        self._store = store
        self._key = key
        self._renew_seconds = renew_seconds
        self._mine = _Holder(**dict(ProcessMark.mine()), token=uuid4().hex, renewals=0)
        self._held = False
        self._looked = 0.0
        self._other: bytes | None = None
        self._since = 0.0

    def hold(self) -> bool:
        """Take it or keep it; False while another has it. Asks the store now and then only."""
        now = time.monotonic()
        if self._looked and now - self._looked < self._renew_seconds:
            return self._held
        self._looked = now
        found = self._store.read(self._key)
        holder = _read(found)
        if holder is not None and holder.token != self._mine.token and not holder.is_gone:
            if found != self._other:
                self._other, self._since = found, now
            if now - self._since < _PERIODS * self._renew_seconds:
                self._held = False
                return False
        self._mine = self._mine.model_copy(update={"renewals": self._mine.renewals + 1})
        self._store.replace(self._key, canonical_bytes(self._mine))
        self._held = True
        return True

    def release(self) -> None:
        """Let others have it at once."""
        if self._held:
            holder = _read(self._store.read(self._key))
            if holder is not None and holder.token == self._mine.token:
                self._store.delete(self._key)
        self._held = False
        self._looked = 0.0


def _read(data: bytes | None) -> _Holder | None:
    """The holder; None where there is none, or half of one."""
    try:
        return _Holder.model_validate_json(data or b"")
    except ValidationError:
        return None
