"""What counts as lost, and is handed out again."""

from __future__ import annotations

import math
import time

import pytest

from benchmarks.rig.laboratory import Laboratory
from tests.worker.reconcile_rig import QUICK, InlineEngine, complete, run_for
from tests.worker.test_attempts import leave
from worker.engines import Settled
from worker.records import RunRecord
from worker.store import Store

pytestmark = pytest.mark.usefixtures("short_waits")


class ForgetfulEngine(InlineEngine):
    """Loses two of three rows, and says nothing of those that are done."""

    def accept(self, store: Store, run: RunRecord, position: int) -> None:
        if len(self.handed) % 3 == 0 or self.handed.count(position) > 3:
            super().accept(store, run, position)

    def wait(self, seconds: float) -> list[Settled]:
        super().wait(seconds)
        return []


def test_rows_that_the_engine_lost_are_handed_out_again(laboratory: Laboratory) -> None:
    laboratory.fill(2, 10)
    assert complete(laboratory, ForgetfulEngine(laboratory, **QUICK)).ok == 20
    assert not laboratory.twice()


class SieveEngine(InlineEngine):
    """Loses whatever it is given, and says so."""

    def accept(self, store: Store, run: RunRecord, position: int) -> None:
        pass


def test_rows_lost_again_and_again_wait_no_longer_each_time(laboratory: Laboratory) -> None:
    """Else a broker that forgets five times stalls the run for half a minute."""
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    engine = SieveEngine(laboratory, **QUICK)
    run_for(2, laboratory, run, engine)
    waits_that_double = math.log2(2 / engine.settings.reconcile_seconds)
    assert len(engine.handed) > waits_that_double + 2


class LyingEngine(ForgetfulEngine):
    """Claims to hold rows that it lost."""

    def holds(self) -> int:
        return 5


def test_the_engines_count_is_not_trusted(laboratory: Laboratory) -> None:
    laboratory.fill(1, 8)
    limits = {"soft_limit_seconds": 0.1, "hard_limit_seconds": 0.1, "lease_seconds": 0.2}
    assert complete(laboratory, LyingEngine(laboratory, **QUICK, **limits)).ok == 8


class OneLostEngine(LyingEngine):
    """Loses the first row, once; the others it does."""

    def accept(self, store: Store, run: RunRecord, position: int) -> None:
        if position != 0 or self.handed.count(0) > 1:
            InlineEngine.accept(self, store, run, position)


def test_a_row_that_many_later_ones_overtook_is_lost(laboratory: Laboratory) -> None:
    """It need not wait for the end of its lease."""
    laboratory.fill(2, 30)
    started = time.monotonic()
    assert complete(laboratory, OneLostEngine(laboratory, window=20, **QUICK)).ok == 60
    assert time.monotonic() - started < 20


def test_a_row_whose_worker_died_is_handed_out_again(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    leave(laboratory.store, run, 0)
    assert complete(laboratory, OneLostEngine(laboratory, **QUICK), run).ok == 1


class StandingEngine(InlineEngine):
    """Holds rows that nobody works at."""

    def wait(self, seconds: float) -> list[int]:
        time.sleep(min(seconds, 0.02))
        return []


def test_a_row_whose_worker_died_waits_once_while_there_is_no_other(
    laboratory: Laboratory,
) -> None:
    """Copies would all be worked at as soon as there are workers again."""
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    leave(laboratory.store, run, 0)
    engine = StandingEngine(laboratory, **QUICK)
    run_for(1, laboratory, run, engine)
    assert engine.handed == [0, 0]


def test_a_row_that_somebody_is_at_is_not_handed_out_again(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    leave(laboratory.store, run, 0, machine="elsewhere", time=int(time.time()))
    engine = OneLostEngine(laboratory, **QUICK)
    run_for(1, laboratory, run, engine)
    assert engine.handed == [0]
