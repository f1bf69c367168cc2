"""How a run goes, from the store alone: how far, how fast, who is at what, what was slow.

A run may have a million images. Counting lists the outcomes; everything else looks at the images
finished last, never at all of them, unless that is asked for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from worker import attempts, keys
from worker.manifest import positions, read_row
from worker.records import Progress, RunRecord
from worker.runs import ShardState, shard_state
from worker.store import Store

#: The rate is measured on the images at the front of the run, of which some are looked at.
RECENT_IMAGES = 1000
_SAMPLED = 200

#: Nothing finished for longer is an interruption, and for longer than so many usual gaps.
_PAUSE_SECONDS = 120.0
_PAUSE_GAPS = 20

#: The side log has whole seconds.
_SHORTEST_SPAN = 1.0


class Timing(NamedTuple):
    """What the side log says of an image."""

    position: int
    host: str
    process: int
    started: int
    seconds: float

    @property
    def finished(self) -> float:
        """By the clock of its host."""
        return self.started + self.seconds


class InFlight(NamedTuple):
    """An image somebody is at: since when, by the clock of the host."""

    position: int
    host: str
    process: int
    seconds: float


@dataclass(frozen=True)
class Overview:
    """How a run goes now.

    ``rate`` (images per second) is None while nothing is known or nothing goes on; ``idle``: since
    an image was last finished, as far as is known; ``recent``: timings that were looked at.
    """

    progress: Progress
    in_flight: list[InFlight]
    rate: float | None
    idle: float | None
    recent: list[Timing]

    @property
    def seconds_left(self) -> float | None:
        """Until the run is finished, at this rate."""
        return self.progress.remaining / self.rate if self.rate else None


class Follower:
    """Looks at a run again and again; what was counted in full is not counted anew."""

    def __init__(self, store: Store, run: RunRecord, *, hard_limit: float) -> None:
        self._store = store
        self._run = run
        self._hard_limit = hard_limit
        self._full: dict[int, int] = {}

    def look(self) -> Overview:
        """How the run goes now."""
        progress, recent = self._count()
        sample = recent[:: max(1, len(recent) // _SAMPLED)]
        timings = list(_timings(self._store, self._run, sample))
        now = time.time()
        rate, idle = pace(timings, share=len(recent) / max(1, len(sample)), now=now)
        return Overview(
            progress=progress,
            in_flight=[] if progress.finished else self._in_flight(now),
            rate=None if progress.finished else rate,
            idle=idle,
            recent=timings,
        )

    def forget(self) -> None:
        """Count everything anew: finished images may have been taken back to be tried again."""
        self._full.clear()

    def _count(self) -> tuple[Progress, list[int]]:
        """How far the run is, and the last finished positions in order."""
        done = failed = 0
        recent: list[int] = []
        for shard in range(self._run.shards):
            rows = positions(self._run, shard)
            if shard in self._full:
                state = ShardState(frozenset(rows), frozenset())
                failed += self._full[shard]
            else:
                state = shard_state(self._store, self._run, shard)
                failed += len(state.failed)
                if len(state.done) == len(rows):
                    self._full[shard] = len(state.failed)
            done += len(state.done)
            recent = [*recent, *sorted(state.done)][-RECENT_IMAGES:]
        run = self._run
        counted = Progress(run_id=run.run_id, images=run.images, ok=done - failed, failed=failed)
        return counted, recent

    def _in_flight(self, now: float) -> list[InFlight]:
        found = attempts.at_work(self._store, self._run, hard_limit=self._hard_limit)
        return sorted(
            InFlight(
                position, _host(marker.machine), marker.process, round(max(0.0, now - marker.time))
            )
            for position, marker in found
        )


def slowest(store: Store, run: RunRecord, number: int) -> list[Timing]:
    """The slowest of all images; the side log of every image is opened."""
    every = _timings(store, run, range(run.images))
    return slowest_of(every, number)


def slowest_of(timings: Iterable[Timing], number: int) -> list[Timing]:
    """The slowest of these, slowest first."""
    return nlargest(number, timings, key=lambda one: (one.seconds, -one.position))


def source(store: Store, run: RunRecord, position: int) -> str:
    """Path of an image below the archive's root; for the user's eyes, never for a log."""
    return read_row(store, run, position).source


def pace(
    timings: Sequence[Timing], *, share: float, now: float
) -> tuple[float | None, float | None]:
    """Images per second, and how long ago the last one was finished; None: not known.

    Each of the ``timings`` stands for ``share`` images. Hosts are measured by their own clocks and
    added up; one that finished nothing lately counts no more. What lies before an interruption does
    not count.
    """
    if not timings:
        return None, None
    idle = max(0.0, now - max(one.finished for one in timings))
    rate = 0.0
    measured = present = 0
    for host in {one.host for one in timings}:
        finished = sorted(one.finished for one in timings if one.host == host)
        gaps = [later - earlier for earlier, later in pairwise(finished)]
        pause = max(_PAUSE_SECONDS, _PAUSE_GAPS * median(gaps)) if gaps else _PAUSE_SECONDS
        if now - finished[-1] > pause:
            continue
        breaks = [number + 1 for number, gap in enumerate(gaps) if gap > pause]
        stretch = finished[max(breaks, default=0) :]
        present += len(stretch)
        if len(stretch) > 1:
            measured += len(stretch)
            span = max(stretch[-1] - stretch[0], _SHORTEST_SPAN)
            rate += (len(stretch) - 1) * share / span
    # Hosts of which a single image was looked at work as fast as the others.
    return (rate * present / measured if measured else None), idle


def _timings(store: Store, run: RunRecord, wanted: Iterable[int]) -> Iterator[Timing]:
    for position in wanted:
        data = store.read(keys.row_log(run.run_id, position))
        # Nothing depends on the side log: an entry that is missing or broken is passed over.
        try:
            entry = json.loads(data or b"")
            yield Timing(
                position,
                str(entry["host"]),
                int(entry["process"]),
                int(entry["started"]),
                float(entry["seconds"]),
            )
        except (ValueError, KeyError, TypeError):
            continue


def _host(machine: str) -> str:
    """The name of a machine as markers have it: name, boot, namespace."""
    return machine.partition(" ")[0]
