"""A run and its reports, for somebody who waits for them."""

from __future__ import annotations

import pytest

from benchmarks.rig.laboratory import Laboratory
from worker import keys, reconcile, runs
from worker.complete import Completed, complete
from worker.records import RunRecord


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_PAUSES_SECONDS", (0.01, 0.02))


@pytest.fixture
def run(laboratory: Laboratory) -> RunRecord:
    laboratory.fill(2, 3)
    return laboratory.freeze()


def finish(laboratory: Laboratory, run: RunRecord) -> Completed:
    return complete(laboratory.store, run, laboratory.out, settings=laboratory.settings())


def test_how_far_it_was_and_what_came_of_it_is_told(laboratory: Laboratory, run: RunRecord) -> None:
    first, second = (finish(laboratory, run) for _ in range(2))
    assert (first.finished_now, first.state.ok) == (6, 6)
    assert (second.finished_now, second.state.ok) == (0, 6)
    assert [entry.patient for entry in first.reports] == ["P00", "P01"]
    assert first.reports == second.reports
    assert len(laboratory.computed()) == 6


def test_what_befalls_the_writing_of_reports_is_waited_out(
    laboratory: Laboratory, run: RunRecord
) -> None:
    in_the_way = laboratory.out / "patients"
    in_the_way.touch()
    waited: list[str] = []

    def mend(reason: str, _: float) -> None:
        waited.append(reason)
        if len(waited) == 3:
            in_the_way.unlink()

    done = complete(
        laboratory.store, run, laboratory.out, settings=laboratory.settings(), on_pause=mend
    )
    assert len(waited) == 3
    assert "the run goes on when it is mended" in waited[0]
    assert done.state.finished
    assert (done.finished_now, len(laboratory.computed())) == (6, 6)
    undisturbed = Laboratory(laboratory.folder, "undisturbed")
    undisturbed.screen()
    assert laboratory.reports() == undisturbed.reports()


def test_a_result_that_was_lost_is_made_anew_before_the_report_is_written(
    laboratory: Laboratory, run: RunRecord
) -> None:
    finish(laboratory, run)
    reports = laboratory.reports()
    outcome = next(runs.outcomes(laboratory.store, run)).outcome
    assert outcome is not None
    assert outcome.result is not None
    laboratory.store.delete(keys.analysis(outcome.result))
    again = finish(laboratory, run)
    assert (again.state.ok, again.finished_now, len(again.reports)) == (6, 1, 2)
    assert len(laboratory.computed()) == 7
    assert laboratory.reports() == reports


def test_of_a_cancelled_run_there_are_no_reports(laboratory: Laboratory, run: RunRecord) -> None:
    runs.cancel(laboratory.store, run)
    done = finish(laboratory, run)
    assert (done.state.remaining, done.reports) == (6, [])
    assert laboratory.reports() == {}
