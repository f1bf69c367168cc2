"""The local engine: spawned processes on this machine, no server of any kind."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from pipeline.errors import ConfigurationError, RetryableError, ScreenError
from worker import attempts
from worker.engines import Settled
from worker.engines.child_process import Answer, ChildProcess, start_child
from worker.records import RunRecord
from worker.settings import Settings
from worker.store import Store

logger = logging.getLogger(__name__)

#: Children that may die one after the other before one of them has loaded the model.
_FAILED_STARTS = 3

#: The same where somebody kills them, or the system because memory runs out.
_KILLED_STARTS = 20

#: Rows in memory for each process: enough that none waits for the next.
_ROWS_PER_PROCESS = 8

#: A child that is told to stop removes its attempt marker and goes; one that hangs is killed.
_STOP_SECONDS = 3.0

_LAST_WORDS_BYTES = 2000


class _Row(NamedTuple):
    store: Store
    run: RunRecord
    position: int


@dataclass(eq=False)
class _Child:
    process: ChildProcess
    row: _Row | None = None
    run_id: str | None = None
    ready: bool = False
    deadline: float = 0.0


class LocalEngine:
    """A fixed number of processes with one row each; the other rows wait in memory.

    A process that dies is noticed at once, replaced, and its row handed to the next free one.
    """

    name = "local"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._waiting: deque[_Row] = deque()
        self._held: set[tuple[str, int]] = set()
        self._children: list[_Child] = []
        self._selector = selectors.DefaultSelector()
        self._settled: list[Settled] = []
        self._trouble: ScreenError | None = None
        self._failed_starts = 0
        self._errors = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.clear()
        for child in self._children:
            child.process.connection.close()
        until = time.monotonic() + _STOP_SECONDS
        for child in self._children:
            if not child.process.has_ended(until):
                child.process.kill()
                self._close_marker(child, ending=None)
        self._children.clear()
        self._selector.close()
        self._errors.close()

    @property
    def capacity(self) -> int:
        """A few rows for each process: what it is done with is known at once."""
        return _ROWS_PER_PROCESS * self._settings.processes

    def hand_out(
        self, store: Store, run: RunRecord, positions: Sequence[int], *, more: int = 0
    ) -> None:
        """Accept rows; one that is here already is not taken twice."""
        for position in positions:
            if (run.run_id, position) not in self._held:
                self._held.add((run.run_id, position))
                self._waiting.append(_Row(store, run, position))
        self._assign()

    def holds(self) -> int:
        """Rows that wait or are being processed."""
        return len(self._held)

    def processes(self) -> list[int]:
        """Process numbers of the children."""
        return [child.process.number for child in self._children]

    def wait(self, seconds: float) -> list[Settled]:
        """Wait for an answer, a death or a time limit; rows whose processing ended."""
        self._assign()
        now = time.monotonic()
        busy = [child.deadline for child in self._children if child.row is not None]
        timeout = max(0.0, min([seconds, *(deadline - now for deadline in busy)]))
        if self._children:
            for key, _ in self._selector.select(timeout):
                self._receive(key.data)
        else:
            time.sleep(timeout)
        self._kill_overdue()
        self._assign()
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble
        settled, self._settled = self._settled, []
        return settled

    # --- children ---------------------------------------------------------------------------

    def _assign(self) -> None:
        """Give waiting rows to idle children; start children while there are rows for them."""
        while self._waiting:
            child = next((child for child in self._children if child.row is None), None)
            if child is None:
                if len(self._children) >= self._settings.processes:
                    return
                child = self._start()
            self._give(child, self._waiting.popleft())

    def _give(self, child: _Child, row: _Row) -> None:
        if child.run_id != row.run.run_id:
            child.ready, child.run_id = False, row.run.run_id
        child.row = row
        limit = (
            self._settings.hard_limit_seconds
            if child.ready
            else self._settings.worker_start_seconds
        )
        child.deadline = time.monotonic() + limit
        child.process.give(*row)

    def _start(self) -> _Child:
        child = _Child(start_child(self._settings, self._errors))
        self._selector.register(child.process.connection, selectors.EVENT_READ, child)
        self._children.append(child)
        return child

    def _receive(self, child: _Child) -> None:
        answers = child.process.receive()
        if answers is None:
            self._bury(child)
            return
        for answer in answers:
            self._hear(child, answer)

    def _hear(self, child: _Child, answer: Answer) -> None:
        if answer.state == "ready":
            if not child.ready:
                child.ready = True
                child.deadline = time.monotonic() + self._settings.hard_limit_seconds
            self._failed_starts = 0
            return
        row, child.row = child.row, None
        if row is None:
            return
        self._held.discard((row.run.run_id, row.position))
        trouble: ScreenError | None = None
        if answer.state == "retry":
            trouble = RetryableError(answer.message)
        elif answer.state == "configuration":
            trouble = ConfigurationError(answer.message)
        self._settled.append(Settled(row.run.run_id, row.position, trouble))

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for child in list(self._children):
            if child.row is not None and now >= child.deadline:
                logger.warning("a worker process is past its time limit and is killed")
                child.process.kill()
                self._close_marker(child, ending="timed_out")
                self._bury(child)

    def _bury(self, child: _Child) -> None:
        """Remove a child that died or has to; its row goes to the next free one, at once."""
        self._children.remove(child)
        self._selector.unregister(child.process.connection)
        child.process.connection.close()
        child.process.kill()
        if child.row is not None:
            self._waiting.appendleft(child.row)
        if not child.ready:
            self._count_failed_start(child)

    def _close_marker(self, child: _Child, ending: attempts.Ending | None) -> None:
        if child.row is None:
            return
        store, run, position = child.row
        # If the store is away the attempt counts as a crash: what is lost is its reason.
        with suppress(RetryableError):
            attempts.close_process(
                store, run, position, process=child.process.number, ending=ending
            )

    def _count_failed_start(self, child: _Child) -> None:
        self._failed_starts += 1
        status = child.process.exit_status
        killed = status == -signal.SIGKILL
        if self._failed_starts >= (_KILLED_STARTS if killed else _FAILED_STARTS):
            self._failed_starts = 0
            self._trouble = ConfigurationError(
                f"worker processes die while they start (exit status {status}); "
                f"their last words: {self._last_words() or 'none'}"
            )

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _LAST_WORDS_BYTES))
        return self._errors.read().decode("utf-8", errors="replace").strip()
