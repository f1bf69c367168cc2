"""Bringing a run to its end, from the store alone, with whatever engine there is.

The reconciler hands out rows that have no outcome and keeps a bounded number of them outstanding.
Whether a row is finished it learns from the store, never from the engine, which may lose rows and
do some twice. Any number of reconcilers may work at a run; killing one leaves a run that continues.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import RetryableError
from worker import attempts, keys
from worker.engines import Engine
from worker.manifest import read_row
from worker.process import finish_without_reading
from worker.records import Progress, RunRecord
from worker.runs import (
    is_cancelled,
    missing_positions,
    progress,
    read_outcome,
    shard_state,
)
from worker.settings import Settings
from worker.store import Store

logger = logging.getLogger(__name__)

#: How often the outcomes of outstanding rows are looked for where the engine does not tell.
_POLL_SECONDS = 1.0

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
    reconciler = _Reconciler(store, run, engine, settings, on_progress)
    faults = 0
    while True:
        before = reconciler.settled
        try:
            if reconciler.step():
                return reconciler.final()
        except RetryableError as error:
            faults = 0 if reconciler.settled > before else faults
            pause = _PAUSES_SECONDS[min(faults, len(_PAUSES_SECONDS) - 1)]
            faults += 1
            logger.warning("the run pauses for %.0f s: %s", pause, error)
            if on_pause is not None:
                on_pause(str(error), pause)
            time.sleep(pause)
            reconciler.take_back()
        else:
            faults = 0 if reconciler.settled > before else faults


@dataclass
class _Handed:
    """A row that was handed out.

    ``time``: when; ``number``: as which; ``again``: how often before; ``overtaken``: how many
    later ones were finished first.
    """

    time: float
    number: int
    again: int
    overtaken: int = 0


class _Reconciler:
    def __init__(
        self,
        store: Store,
        run: RunRecord,
        engine: Engine,
        settings: Settings,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._store = store
        self._run = run
        self._engine = engine
        self._settings = settings
        self._on_progress = on_progress
        self._pending: deque[int] = deque()
        self._outstanding: dict[int, _Handed] = {}
        self._next_shard = 0
        self._done = 0
        self._failed = 0
        self._number = 0
        self._sweep_started = time.monotonic()
        self._reported = 0.0
        self._polled = time.monotonic()
        self._reconciled = time.monotonic()
        self._last_settled = time.monotonic()
        #: Rows this reconciler saw become finished.
        self.settled = 0

    def step(self) -> bool:
        """Hand out what there is room for and wait for something to happen; whether all is over."""
        if is_cancelled(self._store, self._run):
            return True
        self._fill()
        if not self._outstanding and not self._pending and self._next_shard == self._run.shards:
            return self._finish_sweep()
        for position in self._engine.wait(min(_POLL_SECONDS, self._settings.reconcile_seconds)):
            self._check(position)
        self._poll()
        self._reconcile()
        self._report()
        return False

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

    # --- handing out ------------------------------------------------------------------------

    def _fill(self) -> None:
        """Hand out rows while there is room, and finish what needs no work."""
        while room := self._room():
            batch: list[int] = []
            while len(batch) < min(room, _BATCH) and self._load_pending():
                position = self._pending[0]
                if not self._finish_here(position):
                    batch.append(position)
                self._pending.popleft()
                self._report()
            if not batch:
                return
            try:
                self._engine.hand_out(self._store, self._run, batch)
            except RetryableError:
                self._pending.extendleft(reversed(batch))
                raise
            for position in batch:
                self._note_handed(position)
            if is_cancelled(self._store, self._run):
                return

    def _room(self) -> int:
        """Rows that may be handed out now.

        What others, or an earlier reconciler that was killed, left with the engine counts as well,
        so that restarting again and again does not heap up messages.
        """
        window = self._settings.window
        room = window - len(self._outstanding)
        return max(0, min(room, 2 * window - self._engine.holds()) if room > 0 else 0)

    def _load_pending(self) -> bool:
        """Look for rows without outcome, shard by shard; whether there are any."""
        while not self._pending and self._next_shard < self._run.shards:
            state = shard_state(self._store, self._run, self._next_shard)
            self._done += len(state.done)
            self._failed += len(state.failed)
            self._pending.extend(missing_positions(self._run, self._next_shard, state.done))
            self._next_shard += 1
        return bool(self._pending)

    def _finish_here(self, position: int) -> bool:
        """Finish a row that must not be read or that was judged before."""
        row = read_row(self._store, self._run, position)
        if not finish_without_reading(self._store, self._run, position, row):
            return False
        self._count(position)
        return True

    def _note_handed(self, position: int, again: int = 0) -> None:
        self._number += 1
        self._outstanding[position] = _Handed(time.monotonic(), self._number, again)

    # --- finding out ------------------------------------------------------------------------

    def _check(self, position: int) -> None:
        """The engine is done with the row: finished, or left to others, who are asked later."""
        if position in self._outstanding and not self._count(position):
            del self._outstanding[position]

    def _poll(self) -> None:
        """Look for outcomes of outstanding rows, now and then."""
        now = time.monotonic()
        if now - self._polled >= _POLL_SECONDS:
            self._polled = now
            self._look()

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
        finished = self._outstanding.pop(position, None)
        if finished is not None:
            for handed in self._outstanding.values():
                handed.overtaken += handed.number < finished.number
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
            if self._is_lost(handed, markers.get(position), now=now, engine_empty=empty)
        ]
        if not lost:
            return
        logger.warning("%d images are handed out again", len(lost))
        self._engine.hand_out(self._store, self._run, lost)
        for position in lost:
            self._note_handed(position, again=self._outstanding[position].again + 1)

    def _markers(self) -> dict[int, bool]:
        """At which outstanding rows workers left markers, and whether one may still be at it."""
        found: dict[int, bool] = {}
        for shard in {position // keys.SHARD_ROWS for position in self._outstanding}:
            limit = self._settings.hard_limit_seconds
            found |= attempts.under_way(self._store, self._run, shard, hard_limit=limit)
        return found

    def _is_lost(
        self, handed: _Handed, under_way: bool | None, *, now: float, engine_empty: bool
    ) -> bool:
        """Whether nobody is going to work at the row any more, as far as can be known.

        A mistake costs a second execution without effect, and each makes the next wait longer.
        ``under_way``: whether a worker that left a marker may be at it; None: there is no marker.
        A row is lost if whoever was at it is dead; or if nobody took it although the engine claims
        to hold nothing, or although many later rows are finished (rows are worked at in the order
        in which they were handed out). Else it has until the lease ends.
        """
        age = now - handed.time
        if age < self._settings.reconcile_seconds * 2**handed.again:
            return False
        lease = self._settings.lease_seconds
        if age > lease and (handed.overtaken or now - self._last_settled > lease):
            return True
        if under_way is None:
            return engine_empty or handed.overtaken > max(16, self._settings.window // 4)
        return not under_way

    def _finish_sweep(self) -> bool:
        """All rows were looked at: over, unless some were left to others or taken back."""
        if progress(self._store, self._run).finished:
            return True
        pause = self._settings.reconcile_seconds - (time.monotonic() - self._sweep_started)
        time.sleep(max(0.0, pause))
        self._sweep_started = time.monotonic()
        self._next_shard = 0
        self._done = self._failed = 0
        return False

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
