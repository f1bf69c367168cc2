"""Several feeders of one run, and what others left behind."""

from __future__ import annotations

import time

import pytest

from benchmarks.rig.laboratory import Laboratory, submit_process
from tests.worker.reconcile_rig import QUICK, InlineEngine, complete
from worker import keys, reconcile, runs
from worker.lease import Lease
from worker.reconcile import run_to_completion
from worker.records import Progress

pytestmark = pytest.mark.usefixtures("short_waits")


def test_a_backlog_that_others_left_is_not_heaped_up(laboratory: Laboratory) -> None:
    """A feeder that is killed and started again finds its messages still waiting."""
    laboratory.fill(1, 40)
    run = laboratory.freeze()
    engine = InlineEngine(laboratory, window=10)
    for _ in range(10):
        engine.wait = lambda _: _interrupt()
        with pytest.raises(KeyboardInterrupt):
            complete(laboratory, engine, run)
    assert engine.most <= 20
    del engine.wait
    assert complete(laboratory, engine, run).ok == 40


def _interrupt() -> list[int]:
    raise KeyboardInterrupt


def test_two_feeders_at_once_disturb_nothing(laboratory: Laboratory) -> None:
    laboratory.fill(2, 15)
    undisturbed = Laboratory(laboratory.folder, "undisturbed")
    undisturbed.screen()
    laboratory.slow_down(0.02)
    feeders = [submit_process(laboratory) for _ in range(2)]
    assert [feeder.wait(60) for feeder in feeders] == [0, 0]
    assert laboratory.reports() == undisturbed.reports()
    assert runs.progress(laboratory.store, laboratory.freeze()).ok == 30


def test_a_run_that_another_feeds_is_looked_on_at_and_taken_over(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "_LOOK_ON_SECONDS", 0.05)
    laboratory.fill(1, 10)
    run, store = laboratory.freeze(), laboratory.store
    other = Lease(store, keys.lease(run.run_id), renew_seconds=0.001)
    assert other.hold()
    engine = InlineEngine(laboratory, **QUICK)
    seen: list[Progress] = []

    def watch(state: Progress) -> None:
        seen.append(state)
        if len(seen) <= 3:
            assert engine.handed == []
            time.sleep(0.002)
            assert other.hold()

    progress = run_to_completion(store, run, engine, settings=engine.settings, on_progress=watch)
    assert len(seen) > 3
    assert progress.ok == 10
    assert list(store.list("lease/")) == []
