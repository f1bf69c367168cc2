"""Bringing a run to its end, from the store alone, with whatever engine there is.

The reconciler hands out rows that have no outcome and keeps a bounded number of them outstanding.
Whether a row is finished it learns from the store, never from the engine, which may lose rows and
do some twice. Any number of reconcilers may work at a run; killing one leaves a run that continues.
While another holds the run's lease, a reconciler only looks on.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from pipeline.errors import RetryableError
from worker import attempts, keys, logs, telemetry
from worker.allowance import Allowance
from worker.attempts import Marks
from worker.breaker import Breaker
from worker.engines import Engine, Settled
from worker.lease import Lease
from worker.manifest import read_row
from worker.process import finish_without_reading
from worker.records import Progress, RunRecord
from worker.results import error_of
from worker.runs import (
    cancel,
    is_cancelled,
    missing_positions,
    progress,
    read_outcome,
    shard_state,
)
from worker.settings import Settings
from worker.store import Store

logger = logging.getLogger(__name__)

#: How often the outcomes of outstanding rows are looked for where the engine does not tell: seldom
#: while little happens, often while much does.
_POLL_SECONDS = 1.0
_SHORTEST_POLL_SECONDS = 0.02

#: Looking on goes through the whole run: it is done this seldom, and for no more than this part of
#: the time.
_LOOK_ON_SECONDS = 5.0
_LOOK_ON_PART = 0.1

#: Between two calls of ``on_progress``, at least.
_REPORT_SECONDS = 0.2

#: Rows handed to the engine in one call.
_BATCH = 64

#: Waits while store, archive or broker cannot be used: short at first, never more than the last,
#: so that work goes on well within a minute of the fault's end.
_PAUSES_SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)


def run_to_completion(
    store: Store,
    run: RunRecord,
    engine: Engine,
    *,
    settings: Settings,
    on_progress: Callable[[Progress], None] | None = None,
    on_pause: Callable[[str, float], None] | None = None,
) -> Progress:
    """Hand out rows until every row has an outcome, or the run is cancelled.

    ``on_pause`` is told why nothing goes on for how many seconds. KeyboardInterrupt passes through
    and leaves a run that continues when this is called again. Raises ConfigurationError where a
    person has to change something.
    """
    reconciler = Reconciler(store, run, engine, settings=settings, on_progress=on_progress)
    patience = Patience()
    try:
        while True:
            try:
                if reconciler.step(min(settings.window, engine.capacity)):
                    return reconciler.final()
                for one in engine.wait(reconciler.patience_seconds):
                    reconciler.hear(one)
            except RetryableError as error:
                patience.wait(error, reconciler.settled, on_pause=on_pause)
                reconciler.take_back()
    finally:
        with suppress(RetryableError):
            reconciler.close()


class Patience:
    """How long to wait after a fault that passes: longer each time, anew after any progress."""

    def __init__(self) -> None:
        self._faults = 0
        self._settled = 0

    def after(self, error: RetryableError, settled: int) -> float:
        """Seconds to wait; ``settled`` counts what was achieved until now."""
        if settled > self._settled:
            self._faults, self._settled = 0, settled
        pause = _PAUSES_SECONDS[min(self._faults, len(_PAUSES_SECONDS) - 1)]
        self._faults += 1
        telemetry.fault(error)
        logger.warning("the run pauses for %.0f s: %s", pause, logs.cause(error))
        return pause

    def wait(
        self,
        error: RetryableError,
        settled: int = 0,
        *,
        on_pause: Callable[[str, float], None] | None = None,
    ) -> None:
        """Wait so long; ``on_pause`` is told why, and for how many seconds."""
        pause = self.after(error, settled)
        if on_pause is not None:
            on_pause(str(error), pause)
        time.sleep(pause)


class _Handed(NamedTuple):
    """A row that was handed out.

    ``time``: when; ``again``: how often before; ``marks``: markers that workers had left at it by
    then; ``ahead``: how many were outstanding then; ``settled``: how many were finished then.
    """

    time: float
    again: int
    marks: int
    ahead: int
    settled: int

    def overtaken(self, settled: int) -> int:
        """How many later rows were finished first, at least; ``settled``: finished until now."""
        return max(0, settled - self.settled - self.ahead)


class Reconciler:
    """One run, and what is known of it."""

    def __init__(
        self,
        store: Store,
        run: RunRecord,
        engine: Engine,
        *,
        settings: Settings,
        on_progress: Callable[[Progress], None] | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        """``allowance``: what runs that are fed together may read together."""
        self._store = store
        self._run = run
        self._engine = engine
        self._settings = settings
        self._on_progress = on_progress
        seconds = settings.reconcile_seconds
        self._lease = Lease(store, keys.lease(run.run_id), renew_seconds=seconds)
        self._breaker = Breaker(settings.failed_share)
        self._allowance = allowance or Allowance(settings.megabytes_per_second)
        self._pending: deque[int] = deque()
        self._outstanding: dict[int, _Handed] = {}
        self._window = settings.window
        self._next_shard = 0
        self._missing_share = 1.0
        self._done = 0
        self._failed = 0
        now = time.monotonic()
        self._sweep_started = now
        self._next_sweep: float | None = None
        self._reported = 0.0
        self._polled = self._reconciled = self._last_settled = now
        self._poll_seconds = _SHORTEST_POLL_SECONDS
        self._look_on_again = now
        #: Rows this reconciler saw become finished.
        self.settled = 0

    @property
    def patience_seconds(self) -> float:
        """How long the engine may be waited for before the next step."""
        return min(self._poll_seconds, self._settings.reconcile_seconds)

    def step(self, window: int) -> bool:
        """Hand out rows until ``window`` are outstanding, see what became of them; is all over?

        The engine is to be waited for between two steps. Raises RetryableError where store or
        engine cannot be used at the moment.
        """
        self._window = window
        telemetry.turn(self._run.run_id, len(self._outstanding))
        if is_cancelled(self._store, self._run):
            return True
        if not self._lease.hold():
            return self._look_on()
        self._poll()
        self._reconcile()
        verdict = self._breaker.verdict
        if verdict is not None:
            cancel(self._store, self._run, verdict)
            return True
        self._fill()
        self._report()
        if self._outstanding or not self._all_is_handed_out():
            return False
        return self._finish_sweep()

    def hear(self, settled: Settled) -> None:
        """What the engine says of a row; a trouble of this run is raised."""
        if settled.run_id != self._run.run_id:
            return
        if settled.trouble is not None:
            raise settled.trouble
        # Finished, or left to others, who are asked later.
        if settled.position in self._outstanding and not self._count(settled.position):
            del self._outstanding[settled.position]

    def final(self) -> Progress:
        """Where the run stands, counted afresh."""
        state = progress(self._store, self._run)
        if self._on_progress is not None:
            self._on_progress(state)
        return state

    def take_back(self) -> None:
        """After a fault: regard nothing as handed out."""
        self._pending.extendleft(reversed(self._outstanding))
        self._outstanding.clear()

    def close(self) -> None:
        """Leave the run to others."""
        telemetry.turn(self._run.run_id, 0)
        self._lease.release()

    def _look_on(self) -> bool:
        """Another feeds the run: see how far it is, and start afresh if it becomes ours."""
        self._pending.clear()
        self._outstanding.clear()
        self._start_sweep()
        now = time.monotonic()
        if now < self._look_on_again:
            return False
        state = progress(self._store, self._run)
        taken = time.monotonic() - now
        self._look_on_again = now + max(_LOOK_ON_SECONDS, taken / _LOOK_ON_PART)
        if self._on_progress is not None:
            self._on_progress(state)
        return state.finished

    # --- handing out ------------------------------------------------------------------------

    def _fill(self) -> None:
        """Hand out rows while there is room, and finish what needs no work."""
        while room := self._room():
            batch: list[int] = []
            while len(batch) < min(room, _BATCH) and self._load_pending():
                position = self._pending[0]
                row = read_row(self._store, self._run, position)
                if finish_without_reading(self._store, self._run, position, row):
                    self._count(position)
                elif self._allowance.spend(row.size):
                    batch.append(position)
                else:
                    break
                self._pending.popleft()
                self._report()
            if not batch:
                return
            try:
                self._engine.hand_out(self._store, self._run, batch, more=self._more())
            except RetryableError:
                self._pending.extendleft(reversed(batch))
                raise
            telemetry.handed_out(len(batch))
            for position in batch:
                self._note_handed(position)
            if is_cancelled(self._store, self._run):
                return

    def _room(self) -> int:
        """Rows that may be handed out now.

        What others, or an earlier reconciler that was killed, left with the engine counts as well,
        so that restarting again and again does not heap up messages.
        """
        room = self._window - len(self._outstanding)
        most = 2 * self._settings.window
        return max(0, min(room, most - self._engine.holds()) if room > 0 else 0)

    def _more(self) -> int:
        """Rows still to be handed out, if shards not looked into are like the last one."""
        rest = max(0, self._run.images - self._next_shard * keys.SHARD_ROWS)
        return len(self._pending) + round(rest * self._missing_share)

    def _all_is_handed_out(self) -> bool:
        return not self._pending and self._next_shard == self._run.shards

    def _load_pending(self) -> bool:
        """Look for rows without outcome, shard by shard; whether there are any."""
        while not self._pending and self._next_shard < self._run.shards:
            state = shard_state(self._store, self._run, self._next_shard)
            self._done += len(state.done)
            self._failed += len(state.failed)
            missing = missing_positions(self._run, self._next_shard, state.done)
            self._missing_share = len(missing) / (len(missing) + len(state.done))
            self._pending.extend(missing)
            self._next_shard += 1
        return bool(self._pending)

    def _note_handed(self, position: int, again: int = 0, marks: int = 0) -> None:
        self._outstanding[position] = _Handed(
            time.monotonic(), again, marks, len(self._outstanding), self.settled
        )

    # --- finding out ------------------------------------------------------------------------

    def _poll(self) -> None:
        """Look for outcomes of outstanding rows, now and then."""
        now = time.monotonic()
        if now - self._polled < self._poll_seconds:
            return
        before = self.settled
        self._look()
        settled, passed = self.settled - before, now - self._polled
        self._polled = now
        part = settled / self._window
        changed = self._poll_seconds * (2 if part < 1 / 4 else 1 / 2 if part < 1 / 2 else 1 / 8)
        if settled and self._all_is_handed_out():
            # Nobody waits for the last rows longer than they take.
            changed = min(changed, len(self._outstanding) * passed / settled / 2)
        self._poll_seconds = min(max(changed, _SHORTEST_POLL_SECONDS), _POLL_SECONDS)

    def _look(self) -> None:
        for shard in {position // keys.SHARD_ROWS for position in self._outstanding}:
            for key in self._store.list(keys.done_shard(self._run.run_id, shard)):
                position = keys.position(shard, key)
                if position in self._outstanding:
                    self._count(position)

    def _count(self, position: int) -> bool:
        """Count the row if it has an outcome."""
        outcome = read_outcome(self._store, self._run, position)
        if outcome is None:
            return False
        self._done += 1
        self._failed += outcome.status == "failed"
        self.settled += 1
        self._last_settled = time.monotonic()
        if self._outstanding.pop(position, None) is not None:
            failed = outcome.status == "failed"
            self._breaker.note(error_of(self._store, outcome).reason if failed else None)
        return True

    def _reconcile(self) -> None:
        """Hand out again what was lost."""
        now = time.monotonic()
        if now - self._reconciled < self._settings.reconcile_seconds:
            return
        self._reconciled = now
        # In this order: what the engine was rid of by then has its outcome by now.
        empty = self._engine.holds() == 0
        self._look()
        markers = self._markers()
        lost = [
            position
            for position, handed in self._outstanding.items()
            if self._is_lost(handed, markers.get(position, Marks()), now=now, engine_empty=empty)
        ]
        if not lost:
            return
        logger.warning("%d images are handed out again", len(lost))
        self._engine.hand_out(self._store, self._run, lost)
        telemetry.handed_out(len(lost), again=True)
        for position in lost:
            marks = markers.get(position, Marks()).number
            self._note_handed(position, self._outstanding[position].again + 1, marks)

    def _markers(self) -> dict[int, Marks]:
        """The outstanding rows at which workers left markers."""
        found: dict[int, Marks] = {}
        for shard in {position // keys.SHARD_ROWS for position in self._outstanding}:
            limit = self._settings.hard_limit_seconds
            found |= attempts.under_way(self._store, self._run, shard, hard_limit=limit)
        return found

    def _is_lost(self, handed: _Handed, marks: Marks, *, now: float, engine_empty: bool) -> bool:
        """Whether nobody is going to work at the row any more, as far as can be known.

        A mistake costs a second execution without effect, and each makes the next wait longer; not
        so where the engine holds nothing, as then no copies heap up.
        A row is lost if whoever took it is dead; or if nobody took it although the engine claims
        to hold nothing, or although many later rows are finished (rows are worked at in the order
        in which they were handed out). Else it has until the lease ends. Workers that were dead
        when it was handed out say nothing: while no worker is left, copies would heap up.
        """
        age, overtaken = now - handed.time, handed.overtaken(self.settled)
        longer = 1 if engine_empty else 2**handed.again
        if age < self._settings.reconcile_seconds * longer:
            return False
        lease = self._settings.lease_seconds
        if age > lease and (overtaken or now - self._last_settled > lease):
            return True
        if marks.alive or marks.number > handed.marks:
            return not marks.alive
        return engine_empty or overtaken > max(16, self._settings.window // 4)

    def _finish_sweep(self) -> bool:
        """All rows were looked at: over, unless some were left to others or taken back."""
        if self._next_sweep is None:
            if progress(self._store, self._run).finished:
                return True
            self._next_sweep = self._sweep_started + self._settings.reconcile_seconds
        if time.monotonic() >= self._next_sweep:
            self._start_sweep()
        return False

    def _start_sweep(self) -> None:
        """Go through the run from its beginning."""
        self._sweep_started, self._next_sweep = time.monotonic(), None
        self._next_shard = 0
        self._done = self._failed = 0

    def _report(self) -> None:
        now = time.monotonic()
        if self._on_progress is None or now - self._reported < _REPORT_SECONDS:
            return
        self._reported = now
        self._on_progress(
            Progress(
                run_id=self._run.run_id,
                images=self._run.images,
                ok=self._done - self._failed,
                failed=self._failed,
            )
        )
