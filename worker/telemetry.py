"""What processes say about their work while they do it, for logs and metrics.

A process that computes tells its parent, a line of JSON per image through a pipe; the parent writes
it to the log and counts it. No identity is ever told: an image is a run's id and a position. What
is told may be lost with a process, or where nobody listens: nothing is computed from it, and
telling never holds up the work.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from pipeline.errors import ConfigurationError, StoreUnavailableError
from pipeline.results import Record

#: Path under which descendants open the pipe; there is no file that a killed process would leave.
_PIPE = "_SCREEN_TELEMETRY"

#: Lines that wait while the parent is busy: a few thousand. What does not fit is dropped.
_PIPE_BYTES = 1024 * 1024

#: Ends the listening; everything written before it has been heard then.
_END = b"\n"
_END_SECONDS = 2.0

_REASON = re.compile(r"[a-z_]{1,40}")

Stage = Literal["read", "judge", "save"]
Cause = Literal["archive_or_machine", "store", "broker", "time_limit", "memory", "configuration"]


class ImageTold(Record):
    """An image has its outcome. ``first``: this process gave it, not another one before."""

    kind: Literal["image"] = "image"
    run_id: str
    position: int
    outcome: Literal["ok", "failed"]
    reason: str | None
    first: bool
    seconds: dict[Stage, float]
    process: int


class FaultTold(Record):
    """Work that could not be done now and will be tried again."""

    kind: Literal["fault"] = "fault"
    cause: Cause


class ModelTold(Record):
    """A process has loaded a model."""

    kind: Literal["model"] = "model"
    seconds: float


class HandedTold(Record):
    """Rows were handed to an engine; ``again``: because they seemed to be lost."""

    kind: Literal["handed"] = "handed"
    images: int
    again: bool


class TurnTold(Record):
    """The feeder looked at a run; none if it has none to look at."""

    kind: Literal["turn"] = "turn"
    run_id: str | None
    outstanding: int


Told = ImageTold | FaultTold | ModelTold | HandedTold | TurnTold

_TOLD: TypeAdapter[Told] = TypeAdapter(Annotated[Told, Field(discriminator="kind")])

_sinks: list[Callable[[Told], None]] = []
_stages: ContextVar[dict[Stage, float] | None] = ContextVar("stages", default=None)


# --- telling ------------------------------------------------------------------------------------


@contextmanager
def stage(name: Stage) -> Iterator[None]:
    """Time a stage of the image that is being processed."""
    started = time.perf_counter()
    try:
        yield
    finally:
        spent = _stages.get() or {}
        seconds = spent.get(name, 0.0) + time.perf_counter() - started
        _stages.set({**spent, name: seconds})


def begin_image() -> None:
    """Begin an account: stages of an earlier image that came to nothing do not count."""
    _stages.set(None)


def finished(
    run_id: str, position: int, outcome: Literal["ok", "failed"], reason: str | None, *, first: bool
) -> None:
    """An image has its outcome."""
    if reason is not None and not _REASON.fullmatch(reason):
        reason = "other"
    spent = _stages.get() or {}
    _tell(
        ImageTold(
            run_id=run_id,
            position=position,
            outcome=outcome,
            reason=reason,
            first=first,
            seconds={name: round(seconds, 4) for name, seconds in spent.items()},
            process=os.getpid(),
        )
    )
    begin_image()


def fault(error: BaseException, cause: Cause | None = None) -> None:
    """Work has to be tried again, for this error."""
    _tell(FaultTold(cause=cause or _cause(error)))


@contextmanager
def model_load() -> Iterator[None]:
    """Time the loading of a model."""
    started = time.perf_counter()
    yield
    _tell(ModelTold(seconds=round(time.perf_counter() - started, 4)))


def handed_out(images: int, *, again: bool = False) -> None:
    """The feeder handed out so many rows."""
    _tell(HandedTold(images=images, again=again))


def turn(run_id: str | None = None, outstanding: int = 0) -> None:
    """The feeder looked at a run, of which so many rows are handed out and not finished."""
    _tell(TurnTold(run_id=run_id, outstanding=outstanding))


def _cause(error: BaseException) -> Cause:
    if isinstance(error, StoreUnavailableError):
        return "store"
    if isinstance(error, ConfigurationError):
        return "configuration"
    if isinstance(error, MemoryError):
        return "memory"
    # Celery's and our own error of this kind; naming them would import Celery.
    if type(error).__name__ in {"TimedOutError", "SoftTimeLimitExceeded"}:
        return "time_limit"
    below = type(error.__cause__).__module__.partition(".")[0]
    if below in {"redis", "kombu"}:
        return "broker"
    return "archive_or_machine"


def _tell(told: Told) -> None:
    if _sinks:
        _hear(told)
        return
    descriptor = _descriptor(os.environ.get(_PIPE, ""))
    if descriptor is not None:
        # Short enough to be written whole or not at all, whoever else writes.
        with suppress(OSError):
            os.write(descriptor, told.model_dump_json().encode() + b"\n")


@lru_cache(maxsize=1)
def _descriptor(path: str) -> int | None:
    """The writing end of an ancestor's pipe; None where nobody listens."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC) if path else None
    except OSError:
        return None


# --- listening ----------------------------------------------------------------------------------


@contextmanager
def listening(*sinks: Callable[[Told], None]) -> Iterator[None]:
    """Have ``sinks`` called with what this process and its descendants tell.

    Descendants must be started meanwhile, with this process's environment. Sinks are called from
    several threads and must not raise.
    """
    reader, writer = os.pipe()
    with ExitStack() as cleanup:
        cleanup.callback(os.close, writer)
        with suppress(PermissionError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        thread = threading.Thread(target=_listen, args=(reader,), name="telemetry", daemon=True)
        _sinks.extend(sinks)
        os.environ[_PIPE] = f"/proc/{os.getpid()}/fd/{writer}"
        thread.start()
        try:
            yield
        finally:
            os.environ.pop(_PIPE, None)
            os.write(writer, _END)
            thread.join(_END_SECONDS)
            for sink in sinks:
                _sinks.remove(sink)


def _listen(reader: int) -> None:
    with os.fdopen(reader, "rb") as lines:
        for line in lines:
            if line == _END:
                return
            _hear(_TOLD.validate_json(line))


def _hear(told: Told) -> None:
    for sink in list(_sinks):
        sink(told)
