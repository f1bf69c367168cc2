"""Noticing a worker that is alive and takes nothing.

A process that only answers "I am here" can be deaf: its consumer was cancelled, or its connection
leads nowhere. So each worker and feeder compares what it took and finished with what there was to
take, each watcher whether it looks when it should, and leaves word in a file of its machine:
``screen health`` reads that, and notices those that stopped writing as well. A broker that is away
makes nobody ill: restarting workers does not mend it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, FiniteFloat, ValidationError

from pipeline.errors import ConfigurationError
from pipeline.results import Record
from worker.machine import ProcessMark
from worker.settings import Settings

logger = logging.getLogger(__name__)

#: Between two heartbeats.
BEAT_SECONDS = 5.0

#: Without a heartbeat for so long a process is stopped, or hangs as a whole.
SILENT_SECONDS = 30.0

#: Beyond the longest time an image may take, before a busy worker counts as stuck.
_GRACE_SECONDS = 60.0

#: A feeder's loop goes round every few seconds; listing a large run on a slow share takes longer.
_FEEDER_SECONDS = 600.0

#: A watcher lists all there is in one go: a million files on a slow share.
_WATCHER_SECONDS = 1800.0

Role = Literal["worker", "feeder", "watcher"]

#: ``silent`` is said by readers only: the process itself could not.
State = Literal["starting", "idle", "busy", "deaf", "stuck", "silent"]

_ILL = frozenset({"deaf", "stuck", "silent"})


class Sample(NamedTuple):
    """What is seen of a process at one moment.

    ``moves``: a number that changes whenever it takes something. ``busy``: at how much it works.
    ``waiting``: messages it could take; None: that is not known.
    """

    moves: int
    busy: int
    waiting: int | None = None
    ready: bool = True


class Limits(NamedTuple):
    """Seconds without a move: with messages waiting, at work, and while starting."""

    deaf: float
    stuck: float
    start: float

    @classmethod
    def of(cls, role: Role, settings: Settings) -> Limits:
        """What the settings allow."""
        stuck = {
            "worker": settings.hard_limit_seconds + _GRACE_SECONDS,
            "feeder": _FEEDER_SECONDS,
            "watcher": _WATCHER_SECONDS,
        }
        return cls(
            deaf=settings.deaf_seconds,
            stuck=stuck[role],
            start=settings.worker_start_seconds + settings.deaf_seconds,
        )


class Heartbeat(ProcessMark):
    """What a process says of itself, for this machine in a file, for others in Redis."""

    role: Role
    host: str
    state: State
    processes: int = Field(description="how many may work at once")
    busy: int = Field(description="how many do")
    waiting: int | None = Field(description="messages nobody has taken; null: not known")
    idle_seconds: FiniteFloat = Field(description="since something was last taken or finished")
    clock: FiniteFloat = Field(
        description="when it was said: seconds since its machine was started"
    )

    @property
    def healthy(self) -> bool:
        """Whether it does what it is there for."""
        return self.state not in _ILL


class Watch:
    """Judges a process by what is seen of it from time to time."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._last: tuple[int, int] | None = None
        self._moved = now
        self._waiting_since: float | None = None

    def look(self, sample: Sample, now: float) -> tuple[State, float]:
        """Its state, and for how long it has not moved."""
        seen = (sample.moves, sample.busy)
        if self._last is not None and seen != self._last:
            self._moved = now
        self._last = seen
        if not sample.waiting:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        return self._state(sample, now), now - self._moved

    def _state(self, sample: Sample, now: float) -> State:
        still = now - self._moved
        if not sample.ready:
            return "stuck" if still > self._limits.start else "starting"
        if sample.busy:
            return "stuck" if still > self._limits.stuck else "busy"
        if self._waiting_since is None:
            return "idle"
        waited = now - max(self._waiting_since, self._moved)
        return "deaf" if waited > self._limits.deaf else "idle"


class Rounds:
    """What a watcher says of itself: that it looks, and how long it rests before it looks again."""

    def __init__(self) -> None:
        self._looks = 0
        self._rests_until = 0.0

    def look(self) -> None:
        """A look begins."""
        self._rests_until = 0.0
        self._looks += 1

    def rest(self, seconds: float) -> None:
        """It ended; the next one is due."""
        self._rests_until = time.monotonic() + seconds + _GRACE_SECONDS

    def sample(self) -> Sample:
        """At work unless it rests; whoever rests for too long is at something that hangs."""
        return Sample(moves=self._looks, busy=int(time.monotonic() >= self._rests_until))


class Pulse:
    """Looks at this process when asked, and keeps its heartbeat file."""

    def __init__(self, settings: Settings, role: Role, sample: Callable[[], Sample]) -> None:
        self._settings = settings
        self._role = role
        self._sample = sample
        self._watch = Watch(Limits.of(role, settings), time.monotonic())
        self._mark = ProcessMark.mine()
        self._file = _own_file(settings, role)
        self._last = self.beat()

    @property
    def last(self) -> Heartbeat:
        """The last heartbeat, for those who ask this process itself."""
        return _unless_silent(self._last)

    def beat(self) -> Heartbeat:
        """Look, and write down what is seen."""
        sample = self._sample()
        state, still = self._watch.look(sample, time.monotonic())
        self._last = Heartbeat(
            **dict(self._mark),
            role=self._role,
            host=os.uname().nodename,
            state=state,
            processes=self._settings.processes if self._role == "worker" else 1,
            busy=sample.busy,
            waiting=sample.waiting,
            idle_seconds=round(still, 1),
            clock=round(time.monotonic(), 1),
        )
        if self._file is not None:
            # A full disk must not end the beating; readers then see a silent process.
            with suppress(OSError):
                temporary = self._file.with_suffix(".tmp")
                temporary.write_text(self._last.model_dump_json())
                temporary.replace(self._file)
        return self._last

    def leave(self) -> None:
        """The process goes, as it should."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)


class Health(Record):
    """What ``screen health`` answers."""

    healthy: bool
    processes: list[Heartbeat]


def read_health(settings: Settings) -> Health:
    """What the living processes of this user on this machine say; none at all is ill."""
    found = sorted(_heartbeats(settings), key=lambda beat: (beat.role, beat.process))
    return Health(healthy=bool(found) and all(beat.healthy for beat in found), processes=found)


def _heartbeats(settings: Settings) -> Iterator[Heartbeat]:
    for file in _folder(settings).glob("*.json"):
        try:
            beat = Heartbeat.model_validate_json(file.read_bytes())
        except (FileNotFoundError, ValidationError):
            continue
        if not beat.is_here or beat.is_gone:
            # It was killed and could not say goodbye.
            with suppress(OSError):
                file.unlink(missing_ok=True)
        else:
            yield _unless_silent(beat)


def _unless_silent(beat: Heartbeat) -> Heartbeat:
    """By a clock that nobody sets, and that is the same for all processes of a machine."""
    silent = time.monotonic() - beat.clock > SILENT_SECONDS
    return beat.model_copy(update={"state": "silent"}) if silent else beat


def _own_file(settings: Settings, role: Role) -> Path | None:
    """Where this process leaves its heartbeat; without a place for it, work goes on."""
    try:
        return _folder(settings) / f"{role}-{os.getpid()}.json"
    except ConfigurationError as error:
        logger.warning("`screen health` will not see this process: %s", error)
        return None


def _folder(settings: Settings) -> Path:
    """The folder of the heartbeats, which nobody else may write to."""
    folder = settings.health_folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be made ({error.strerror}); name another SCREEN_HEALTH_FOLDER"
        ) from error
    if owner != os.geteuid():
        raise ConfigurationError(
            f"{folder} belongs to another user; name another SCREEN_HEALTH_FOLDER"
        )
    return folder
