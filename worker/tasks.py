"""What a Celery worker does with a message."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, lru_cache
from typing import Annotated

from celery import shared_task
from celery.exceptions import Reject, SoftTimeLimitExceeded
from pydantic import Field, ValidationError, field_validator

from pipeline.errors import ConfigurationError, RetryableError
from pipeline.results import ModelRecord, Record
from worker import keys, logs, telemetry
from worker.attempts import Marks, TimedOutError, under_way
from worker.manifest import read_run
from worker.place import parse_place
from worker.process import Analyser, Analysis, open_analyser, process_row
from worker.records import RunRecord
from worker.runs import is_cancelled
from worker.settings import Settings, load_settings
from worker.store import Store, open_store

logger = logging.getLogger(__name__)

PROCESS = "screen.process"

#: Before a message that could not be worked at goes back: so that a fault does not make workers
#: and broker spin.
RETURN_SECONDS = 5.0


#: Why a message goes back before all of its rows are done: to the front of the queue, or behind all
#: others where only rows are left that took too much.
REST_OF_ROWS, BLAMED_ROWS = "the rest of the rows", "rows that took too much"

#: A message that has taken this part of its time limit goes back: what is left of its rows starts
#: with a fresh limit, so that each has most of one.
_PART_OF_LIMIT = 0.25


class _FreshStartError(Exception):
    """Some rows of a message were begun; the others are better begun with a fresh limit.

    ``reason``: one of the two above.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _NotAllowedError(Exception):
    """A message leads to a place that this worker was not given."""


class _NoRunError(Exception):
    """The run of a message was removed, or never was."""


class RowsMessage(Record):
    """Rows of one shard to work at. No names: ids and numbers only."""

    store: str = Field(pattern=r"^[a-z0-9]+://", max_length=4096)
    run_id: str = Field(pattern=r"^[0-9a-f]{20}$")
    shard: int = Field(ge=0, lt=10**6)
    rows: list[Annotated[int, Field(ge=0, lt=keys.SHARD_ROWS)]] = Field(
        min_length=1, max_length=keys.SHARD_ROWS
    )

    @field_validator("store")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        try:
            parse_place(value)
        except ConfigurationError as error:
            raise ValueError("not a place") from error
        return value


#: Share of the soft limit that an image must have had for itself before it is blamed for the rest.
_BLAMED_SHARE = 0.5


class _Limited:
    """An analyser whose interruption by the soft time limit is told apart from other faults.

    The limit counts from the arrival of the message. Where most of it went into loading the model,
    the image is not to blame, and the next try finds the model loaded.
    """

    def __init__(self, analyser: Analyser, soft_limit: float) -> None:
        self._analyser = analyser
        self._blamed_after = _BLAMED_SHARE * soft_limit

    @property
    def model(self) -> ModelRecord:
        return self._analyser.model

    def __call__(self, data: bytes) -> Analysis:
        started = time.monotonic()
        try:
            return self._analyser(data)
        except SoftTimeLimitExceeded as error:
            if time.monotonic() - started < self._blamed_after:
                raise RetryableError(
                    "the time limit passed before the image had its share"
                ) from error
            raise TimedOutError("the image took longer than allowed") from error


@shared_task(name=PROCESS, Request="worker.lost_processes:FrontRequest")  # type: ignore[untyped-decorator]  # Celery has no types
def process(**content: object) -> None:
    """Bring the rows of a message to their outcomes."""
    try:
        message = RowsMessage.model_validate(content)
    except ValidationError as error:
        # Never returned to the queue: it would not become valid there.
        logger.error("a message that is not ours is dropped (%d problems)", error.error_count())
        return
    try:
        _work(message)
    except TimedOutError as error:
        telemetry.fault(error)
        # Attempts are counted in the store: after a few the image has failed.
        raise Reject("time limit", requeue=True) from None
    except _NotAllowedError:
        # Nor returned: other workers, and the reconciler, know what is still to be done.
        logger.error("a message of run %s leads out of SCREEN_ALLOWED_ROOTS", message.run_id)
    except _NoRunError:
        logger.warning("a message of run %s is dropped: there is no such run", message.run_id)
    except _FreshStartError as error:
        if isinstance(error.__cause__, MemoryError):
            _pause()
        raise Reject(error.reason, requeue=True) from None
    except (RetryableError, ConfigurationError, MemoryError, SoftTimeLimitExceeded) as error:
        telemetry.fault(error)
        reason = logs.cause(error)
        logger.error("run %s cannot be worked at now: %s", message.run_id, reason)
        _pause()
        raise Reject(reason, requeue=True) from None


def _pause() -> None:
    """Wait before a message goes back, also where its time limit passes meanwhile."""
    # The limit has nothing left to interrupt; let through, it would end in the loss of the message.
    with suppress(SoftTimeLimitExceeded):
        time.sleep(RETURN_SECONDS)


def _work(message: RowsMessage) -> None:
    started = time.monotonic()
    settings = _settings()
    place = settings.place(message.store)
    if not settings.allows(place):
        raise _NotAllowedError
    store = _store(place)
    if not store.exists(keys.run(message.run_id)):
        raise _NoRunError
    run = _run(store, message.run_id)
    if not settings.allows(settings.place(run.root)):
        raise _NotAllowedError
    if is_cancelled(store, run):
        return
    analyser = _Limited(open_analyser(run, settings), settings.soft_limit_seconds)
    to_do = [
        message.shard * keys.SHARD_ROWS + row
        for row in message.rows
        if message.shard * keys.SHARD_ROWS + row < run.images
    ]
    marks: dict[int, Marks] = {}
    if len(to_do) > 1:
        to_do = [one for one in to_do if not store.exists(keys.done(run.run_id, one))]
        marks = under_way(store, run, message.shard, hard_limit=settings.hard_limit_seconds)
    # Rows at which workers left markers come last, and each with a limit of its own, so that no
    # companion suffers with them.
    to_do.sort(key=lambda one: (one in marks, marks.get(one, Marks()).blamed))
    for number, position in enumerate(to_do):
        late = time.monotonic() - started > _PART_OF_LIMIT * settings.soft_limit_seconds
        if number and (late or position in marks):
            raise _fresh_start(marks, position)
        try:
            process_row(store, run, position, analyser, settings=settings)
        except (TimedOutError, MemoryError) as error:
            if number + 1 == len(to_do):
                raise
            telemetry.fault(error)
            raise _fresh_start(marks, to_do[number + 1]) from error


def _fresh_start(marks: Mapping[int, Marks], following: int) -> _FreshStartError:
    """For the rest of a message, by the first of its rows: those that took too much are last."""
    blamed = marks.get(following, Marks()).blamed
    return _FreshStartError(BLAMED_ROWS if blamed else REST_OF_ROWS)


@cache
def _settings() -> Settings:
    return load_settings()


@lru_cache(maxsize=8)
def _store(uri: str) -> Store:
    return open_store(uri)


@lru_cache(maxsize=8)
def _run(store: Store, run_id: str) -> RunRecord:
    return read_run(store, run_id)
