from __future__ import annotations

import signal
import threading

import pytest

from benchmarks.rig.laboratory import Laboratory, python, wait_until
from tests.worker.reconcile_rig import QUICK, InlineEngine
from worker import feed as module
from worker import keys, runs
from worker.feed import Feeder, feed
from worker.records import RunRecord


def with_run(laboratory: Laboratory, patient: str, images: int) -> RunRecord:
    """A further run, of a further archive."""
    other = Laboratory(laboratory.folder / patient, f"../{laboratory.out_name}")
    other.bundle.parent.mkdir(exist_ok=True)
    if not other.bundle.exists():
        other.bundle.symlink_to(laboratory.bundle)
    for number in range(images):
        other.add(f"{patient}/{number:03}.jpg", f"image {patient} {number}")
    return other.freeze()


def undisturbed(laboratory: Laboratory, patient: str) -> dict[str, bytes]:
    """What a run of its own makes of the patient."""
    alone = Laboratory(laboratory.folder / patient, "alone")
    alone.screen()
    return {name: data for name, data in alone.reports().items() if patient in name}


def test_all_runs_are_brought_to_their_end_and_reported(laboratory: Laboratory) -> None:
    for patient, images in (("A", 12), ("B", 3)):
        with_run(laboratory, patient, images)
    settings = laboratory.settings(**QUICK)
    feed([laboratory.out], settings, stop=threading.Event(), until_done=True)
    found = laboratory.reports()
    for patient in "AB":
        expected = undisturbed(laboratory, patient)
        assert {name: found[name] for name in expected} == expected
    assert list(laboratory.store.list("lease/")) == []


def test_a_small_run_is_not_stuck_behind_a_large_one(laboratory: Laboratory) -> None:
    large = with_run(laboratory, "A", 120)
    engine = InlineEngine(laboratory, window=8, **QUICK)
    feeder = Feeder([laboratory.out], engine, settings=engine.settings)
    for _ in range(3):
        feeder.step()
    small = with_run(laboratory, "B", 4)
    store = laboratory.store
    wait_until(lambda: feeder.step() or runs.progress(store, small).finished, 20, "the small run")
    assert runs.progress(store, large).remaining > 60
    feeder.close()


def test_urgent_runs_get_more_of_the_window(laboratory: Laboratory) -> None:
    ordinary, urgent = with_run(laboratory, "A", 60), with_run(laboratory, "B", 60)
    runs.set_priority(laboratory.store, urgent, "high")
    engine = InlineEngine(laboratory, window=20, **QUICK)
    feeder = Feeder([laboratory.out], engine, settings=engine.settings)
    store = laboratory.store
    wait_until(lambda: feeder.step() or runs.progress(store, urgent).finished, 20, "the urgent run")
    assert runs.progress(store, ordinary).ok < 40
    feeder.close()


def test_a_run_that_cannot_go_on_keeps_no_other_back(
    laboratory: Laboratory, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = with_run(laboratory, "A", 3)
    (laboratory.bundle / "digest").write_text("e" * 64)
    good = with_run(laboratory, "B", 3)
    settings = laboratory.settings(**QUICK)
    stop = threading.Event()
    thread = threading.Thread(target=feed, args=([laboratory.out], settings), kwargs={"stop": stop})
    thread.start()
    try:
        store = laboratory.store
        wait_until(lambda: store.exists(keys.reported(good.run_id)), 30, "the good run")
        wait_until(lambda: "start it with the same bundle" in caplog.text, 30, "the reason")
    finally:
        stop.set()
        thread.join()
    assert runs.progress(store, stuck).remaining == 3


def test_what_failed_and_is_tried_again_is_reported_again(laboratory: Laboratory) -> None:
    laboratory.add("P/bad.jpg", "bad 1")
    laboratory.screen()
    run, store = laboratory.freeze(), laboratory.store
    assert store.exists(keys.reported(run.run_id))
    assert runs.retry_failed(store, run) == 1
    assert not store.exists(keys.reported(run.run_id))
    feed([laboratory.out], laboratory.settings(**QUICK), stop=threading.Event(), until_done=True)
    assert store.exists(keys.reported(run.run_id))


def test_a_stopped_run_is_left_alone(laboratory: Laboratory) -> None:
    run = with_run(laboratory, "A", 3)
    runs.cancel(laboratory.store, run)
    feed([laboratory.out], laboratory.settings(**QUICK), stop=threading.Event(), until_done=True)
    assert runs.progress(laboratory.store, run).remaining == 3


FEED = """
import sys, threading
from pathlib import Path
from benchmarks.rig.laboratory import Laboratory
from worker.feed import feed
laboratory = Laboratory(Path(sys.argv[1]))
feed([laboratory.out], laboratory.settings(), stop=threading.Event())
"""


def test_a_feeder_takes_over_from_one_that_was_killed(laboratory: Laboratory) -> None:
    run = with_run(laboratory, "A", 30)
    laboratory.slow_down(0.05)
    feeders = [python(FEED, str(laboratory.folder)) for _ in range(2)]
    store = laboratory.store
    try:
        wait_until(lambda: runs.progress(store, run).ok >= 3, 60, "progress")
        feeders[0].kill()
        feeders[0].wait()
        wait_until(lambda: store.exists(keys.reported(run.run_id)), 60, "the end")
    finally:
        for feeder in feeders:
            feeder.kill()
            feeder.wait()
    assert sum(laboratory.twice().values()) <= 2 * len(laboratory.twice()) <= 4


def test_the_service_stops_when_it_is_told_to(laboratory: Laboratory) -> None:
    run = with_run(laboratory, "A", 30)
    laboratory.slow_down(0.1)
    code = "import sys; from cli.main import main; sys.argv[0] = 'screen'; main()"
    service = python(
        code,
        *("feed", "--out", str(laboratory.out), "--processes", "1"),
        SCREEN_ANALYSER="benchmarks.rig.stubs:open_analyser",
    )
    store = laboratory.store
    wait_until(lambda: runs.progress(store, run).ok >= 2, 60, "progress")
    service.send_signal(signal.SIGTERM)
    assert service.wait(20) == 0
    assert list(store.list("lease/")) == []
    assert list(store.list("attempts/")) == []
    assert 0 < runs.progress(store, run).remaining < 30


def test_an_unexpected_fault_of_one_run_keeps_no_other_back(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd, good = with_run(laboratory, "A", 2), with_run(laboratory, "B", 2)
    real = module.write_reports

    def write(store: object, run: RunRecord, *given: object, **more: object) -> object:
        if run.run_id == odd.run_id:
            raise ZeroDivisionError
        return real(store, run, *given, **more)

    monkeypatch.setattr(module, "write_reports", write)
    engine = InlineEngine(laboratory, **QUICK)
    feeder = Feeder([laboratory.out], engine, settings=engine.settings)
    store = laboratory.store
    wait_until(lambda: feeder.step() or store.exists(keys.reported(good.run_id)), 20, "the other")
    assert not store.exists(keys.reported(odd.run_id))
    feeder.close()
