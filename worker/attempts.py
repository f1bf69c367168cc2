"""Attempt markers: how often a worker died at an image, known from the store alone.

A marker is written before an image is processed and removed afterwards, whatever came of it. One
that is left belongs to a worker that is still at it, or to one that died: killed, out of memory, or
past the time limit. Whose worker certainly died is counted. An image that outlived three workers,
which somebody may have killed, is tried alone (``worker.isolation``); only what ends that process
too, twice, is given up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Literal, NamedTuple
from uuid import uuid4

from pydantic import Field, ValidationError

from pipeline.canonical import canonical_bytes
from pipeline.errors import RetryableError
from pipeline.results import ImageError
from worker import keys
from worker.machine import ProcessMark
from worker.records import RunRecord
from worker.store import Store

#: Workers that may die at an image before it is tried alone, and processes of its own that may.
AMONG_OTHERS, ALONE = 3, 2

#: Executions that an image can cost at most.
ATTEMPTS = AMONG_OTHERS + ALONE

#: A marker of another machine is a dead worker's once it is this much older than the longest time
#: an image may take.
_GRACE_SECONDS = 60.0

Ending = Literal["crashed_worker", "timed_out", "out_of_memory"]
_OUTLIVED: frozenset[Ending | None] = frozenset({"timed_out", "out_of_memory"})

_MESSAGES: dict[Ending, str] = {
    "crashed_worker": f"{ATTEMPTS} worker processes died while they processed this image",
    "timed_out": f"processing this image took longer than allowed, {ATTEMPTS} times",
    "out_of_memory": f"processing this image needed more memory than there is, {ATTEMPTS} times",
}


class Marker(ProcessMark):
    """One attempt at an image: whose it is, and how it ended if that is known."""

    time: int = Field(description="start, seconds since the epoch")
    alone: bool = Field(default=False, description="in a process of its own, with bounded memory")
    ending: Ending | None = None


class TimedOutError(RetryableError):
    """An image took longer than allowed; it may be tried again, a few times."""


class Standing(Enum):
    """Whether an image may be tried."""

    FREE = "free"
    #: Workers died at it: it may be tried in a process of its own.
    ALONE = "alone"
    #: As many workers as may ever die at the image are still at it, or may be.
    BUSY = "busy"
    GIVEN_UP = "given up"


class Attempt:
    """An attempt of this process at one row."""

    def __init__(self, store: Store, run: RunRecord, position: int, *, alone: bool) -> None:
        self._store = store
        self._key = f"{keys.attempts(run.run_id, position)}{uuid4().hex}.json"
        mine = ProcessMark.mine()
        self._marker = Marker(**dict(mine), time=int(time.time()), alone=alone)
        store.create(self._key, canonical_bytes(self._marker))

    def end(self) -> None:
        """The attempt came to an end that is not the image's fault, or to a result."""
        self._store.delete(self._key)

    def condemn(self, ending: Ending) -> None:
        """The attempt ended in a way that counts against the image."""
        marker = self._marker.model_copy(update={"ending": ending})
        self._store.replace(self._key, canonical_bytes(marker))


#: Attempts of this process that are under way, for a process that is told to stop at once.
_under_way: set[Attempt] = set()


@contextmanager
def attempt(
    store: Store, run: RunRecord, position: int, *, alone: bool = False
) -> Iterator[Attempt]:
    """Mark that this process is at the row.

    The marker stays if the process dies, and after MemoryError and TimedOutError; every other way
    out removes it.
    """
    current = Attempt(store, run, position, alone=alone)
    _under_way.add(current)
    try:
        yield current
    except MemoryError:
        current.condemn("out_of_memory")
        raise
    except TimedOutError:
        current.condemn("timed_out")
        raise
    except BaseException:
        current.end()
        raise
    else:
        current.end()
    finally:
        _under_way.discard(current)


def end_all() -> None:
    """End what this process is at, because somebody stops it: that is no image's fault."""
    for current in list(_under_way):
        current.end()


def standing(
    store: Store, run: RunRecord, position: int, *, hard_limit: float
) -> tuple[Standing, ImageError | None]:
    """Whether the row may be tried; the reason if it is given up.

    Workers that are certainly dead count. While others may still be at it, no more try at once than
    may die, so that an image never costs more executions, and a good one that was merely delivered
    often is never given up.
    """
    markers = _markers(store, run, position)
    dead = [marker for marker in markers if _is_dead(marker, hard_limit)]
    alone = [marker for marker in markers if marker.alone]
    watched = [marker for marker in dead if marker.alone]
    if len(watched) >= ALONE:
        # Of the others it is not known whether the image or a person ended them.
        return Standing.GIVEN_UP, _reason(watched)
    if len(dead) >= AMONG_OTHERS:
        # Whoever tried it among others before may still be at it.
        busy = len(markers) >= ATTEMPTS or any(marker not in dead for marker in alone)
        return (Standing.BUSY if busy else Standing.ALONE), None
    return (Standing.BUSY if len(markers) >= AMONG_OTHERS else Standing.FREE), None


class Marks(NamedTuple):
    """How many workers left markers at a row.

    ``alive``: one may still be at it. ``blamed``: one outlived it, out of time or memory, which is
    nobody's ``kill -9``.
    """

    number: int = 0
    alive: bool = False
    blamed: bool = False


def under_way(store: Store, run: RunRecord, shard: int, *, hard_limit: float) -> dict[int, Marks]:
    """The rows of a shard at which workers have left markers, by position."""
    found: dict[int, Marks] = {}
    for key in store.list(keys.attempts_shard(run.run_id, shard)):
        marker = _read(store, key)
        if marker is not None:
            position = keys.position(shard, key)
            marks = found.get(position, Marks())
            found[position] = Marks(
                number=marks.number + 1,
                alive=marks.alive or not _is_dead(marker, hard_limit),
                blamed=marks.blamed or marker.ending in _OUTLIVED,
            )
    return found


def at_work(store: Store, run: RunRecord, *, hard_limit: float) -> Iterator[tuple[int, Marker]]:
    """Positions that workers may be at now, with the markers they left."""
    for key in store.list(keys.attempts_run(run.run_id)):
        marker = _read(store, key)
        if marker is not None and not _is_dead(marker, hard_limit):
            yield keys.position(int(key.split("/")[-2]), key), marker


def clear(store: Store, run: RunRecord, position: int) -> None:
    """Forget what was left behind at a row that is finished or starts afresh."""
    for key in _marker_keys(store, run, position):
        store.delete(key)


def close_process(
    store: Store, run: RunRecord, position: int, *, process: int, ending: Ending | None
) -> None:
    """Write down how a process of this machine ended that died at the row, unless it did so itself.

    None: it was stopped for reasons that have nothing to do with the image.
    """
    for key in _marker_keys(store, run, position):
        marker = _read(store, key)
        if marker is None or not marker.is_here or marker.process != process:
            continue
        if marker.ending is not None:
            continue
        if ending is None:
            store.delete(key)
        else:
            store.replace(key, canonical_bytes(marker.model_copy(update={"ending": ending})))


def _marker_keys(store: Store, run: RunRecord, position: int) -> list[str]:
    folder = keys.attempts_shard(run.run_id, position // keys.SHARD_ROWS)
    start = keys.attempts(run.run_id, position)
    return [key for key in store.list(folder) if key.startswith(start)]


def _markers(store: Store, run: RunRecord, position: int) -> list[Marker]:
    found = (_read(store, key) for key in _marker_keys(store, run, position))
    return [marker for marker in found if marker is not None]


def _read(store: Store, key: str) -> Marker | None:
    data = store.read(key)
    if data is None:
        return None
    try:
        return Marker.model_validate_json(data)
    except ValidationError:
        # Half a marker: the power failed while it was written, and with it the worker.
        return Marker(machine="", process=0, started="", time=0, ending="crashed_worker")


def _is_dead(marker: Marker, hard_limit: float) -> bool:
    if marker.ending is not None:
        return True
    if marker.is_here:
        mine = marker.process == os.getpid() and not _under_way
        return mine or marker.is_gone
    return time.time() - marker.time > hard_limit + _GRACE_SECONDS


def _reason(dead: list[Marker]) -> ImageError:
    """What most of the attempts ended in; where several are equal, the first in a fixed order."""
    endings = [marker.ending or "crashed_worker" for marker in dead]
    commonest = max(_MESSAGES, key=endings.count)
    return ImageError(reason=commonest, message=_MESSAGES[commonest])
