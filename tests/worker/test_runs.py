from __future__ import annotations

import json
import os
import time

import pytest

from benchmarks.rig.laboratory import Laboratory
from pipeline.errors import ConfigurationError
from worker import keys, runs
from worker.process import open_analyser, process_row
from worker.records import RunRecord


def work(laboratory: Laboratory, run: RunRecord, positions: range | None = None) -> None:
    settings = laboratory.settings()
    analyser = open_analyser(run, settings)
    for position in positions or range(run.images):
        process_row(laboratory.store, run, position, analyser, settings=settings)


def test_progress_counts_outcomes(laboratory: Laboratory) -> None:
    laboratory.fill(2, 3)
    laboratory.add("P00/bad.jpg", "bad 1")
    run = laboratory.freeze()
    found = runs.progress(laboratory.store, run)
    assert (found.images, found.ok, found.failed, found.remaining) == (7, 0, 0, 7)
    work(laboratory, run, range(5))
    found = runs.progress(laboratory.store, run)
    assert (found.ok, found.failed, found.remaining, found.finished) == (4, 1, 2, False)
    work(laboratory, run)
    found = runs.progress(laboratory.store, run)
    assert (found.ok, found.failed, found.finished) == (6, 1, True)


def test_a_hint_without_failure_does_not_count(laboratory: Laboratory) -> None:
    """A worker that was killed between hint and outcome, or came second."""
    laboratory.fill(1, 2)
    run = laboratory.freeze()
    for position in range(2):
        laboratory.store.create(keys.failed(run.run_id, position), b"{}\n")
    assert runs.progress(laboratory.store, run).failed == 0
    work(laboratory, run)
    found = runs.progress(laboratory.store, run)
    assert (found.ok, found.failed) == (2, 0)


def test_what_failed_is_tried_again(laboratory: Laboratory) -> None:
    laboratory.fill(1, 2)
    laboratory.add("P00/bad.jpg", "bad 1")
    gone = laboratory.add("P00/gone.jpg", "image gone")
    kept = gone.stat()
    run = laboratory.freeze()
    gone.unlink()
    work(laboratory, run)
    assert runs.progress(laboratory.store, run).failed == 2
    assert runs.retry_failed(laboratory.store, run) == 2
    assert runs.progress(laboratory.store, run).remaining == 2
    gone.write_text("image gone")
    os.utime(gone, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    before = len(laboratory.computed())
    work(laboratory, run)
    assert len(laboratory.computed()) == before + 2
    found = runs.progress(laboratory.store, run)
    assert (found.ok, found.failed) == (3, 1)


def test_outcomes_are_in_the_order_of_the_manifest(laboratory: Laboratory) -> None:
    laboratory.fill(1, 3)
    run = laboratory.freeze()
    work(laboratory, run, range(1, 2))
    found = list(runs.outcomes(laboratory.store, run))
    assert [one.row.source for one in found] == ["P00/000.jpg", "P00/001.jpg", "P00/002.jpg"]
    assert [one.outcome is None for one in found] == [True, False, True]


def test_the_run_submitted_last_comes_first(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    first = laboratory.freeze()
    laboratory.fill(1, 2)
    second = laboratory.freeze()
    assert runs.load_run(laboratory.store) == second
    time.sleep(0.002)
    laboratory.store.replace(
        keys.submitted(first.run_id), json.dumps({"time": "2999-01-01T00:00:00+00:00"}).encode()
    )
    assert [one.run for one in runs.list_runs(laboratory.store)] == [first, second]
    assert runs.load_run(laboratory.store, second.run_id[:6]) == second


def test_without_its_side_log_a_run_is_still_found(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    laboratory.store.delete(keys.submitted(run.run_id))
    assert runs.list_runs(laboratory.store) == [(run, None)]
    laboratory.store.replace(keys.submitted(run.run_id), b"rubbish")
    assert runs.load_run(laboratory.store) == run


def test_a_run_that_is_not_there_is_an_error_that_names_the_others(laboratory: Laboratory) -> None:
    with pytest.raises(ConfigurationError, match="screen submit"):
        runs.load_run(laboratory.store)
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    with pytest.raises(ConfigurationError, match=run.run_id):
        runs.load_run(laboratory.store, "zz")


def test_a_run_is_cancelled_and_goes_on(laboratory: Laboratory) -> None:
    laboratory.fill(1, 2)
    run = laboratory.freeze()
    runs.cancel(laboratory.store, run)
    runs.cancel(laboratory.store, run)
    assert runs.is_cancelled(laboratory.store, run)
    assert laboratory.screen(run).remaining == 2
    runs.uncancel(laboratory.store, run)
    assert laboratory.screen(run).finished
