"""How a run is brought to its end, whatever the engine does."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from benchmarks.rig.laboratory import Laboratory, make_laboratory
from pipeline.errors import RetryableError
from tests.worker.reconcile_rig import InlineEngine, complete
from worker import breaker, keys, reconcile, runs
from worker.engines import Settled
from worker.process import open_analyser, process_row
from worker.reconcile import run_to_completion
from worker.records import Progress, RunRecord
from worker.store import Store

pytestmark = pytest.mark.usefixtures("short_waits")


def test_a_run_is_brought_to_its_end(laboratory: Laboratory) -> None:
    laboratory.fill(2, 20)
    assert complete(laboratory, InlineEngine(laboratory)).ok == 40
    assert len(laboratory.computed()) == 40


def test_no_more_than_a_window_is_outstanding(laboratory: Laboratory) -> None:
    laboratory.fill(2, 20)
    engine = InlineEngine(laboratory, window=7)
    complete(laboratory, engine)
    assert engine.most == 7
    assert sorted(engine.handed) == [*range(40)]


class SilentEngine(InlineEngine):
    """Finishes ten rows a second of a clock of its own, and tells nobody."""

    PACE = 0.1

    def __init__(self, laboratory: Laboratory, **settings: object) -> None:
        super().__init__(laboratory, **settings)
        self.now = 0.0
        self.finished_last = 0.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> list[Settled]:
        until = self.now + seconds
        while self.rows and self.finished_last + self.PACE <= until:
            self.finished_last += self.PACE
            store, run, position = self.rows.popleft()
            analyser = open_analyser(run, self.settings)
            process_row(store, run, position, analyser, settings=self.settings)
        self.now = until
        return []


def test_the_end_of_a_run_is_noticed_soon(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory.fill(1, 28)
    engine = SilentEngine(laboratory, reconcile_seconds=10)
    monkeypatch.setattr(reconcile, "time", engine)
    monkeypatch.setattr(reconcile, "_POLL_SECONDS", 1.0)
    assert complete(laboratory, engine).ok == 28
    assert engine.now - engine.finished_last < 2 * engine.PACE


def test_what_was_judged_before_is_not_handed_out(laboratory: Laboratory) -> None:
    laboratory.fill(2, 10)
    (laboratory.archive / "P00" / "out.jpg").symlink_to("/etc/passwd")
    complete(laboratory, InlineEngine(laboratory))
    laboratory.add("P01/new.jpg", "image new")
    engine = InlineEngine(laboratory)
    progress = complete(laboratory, engine)
    assert (progress.ok, progress.failed) == (21, 1)
    assert len(engine.handed) == 1


def test_an_interrupted_run_continues(laboratory: Laboratory) -> None:
    laboratory.fill(1, 20)
    run = laboratory.freeze()
    engine = InlineEngine(laboratory, window=5)
    calls = 0

    def interrupt(state: Progress) -> None:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_to_completion(
            laboratory.store, run, engine, settings=engine.settings, on_progress=interrupt
        )
    assert complete(laboratory, InlineEngine(laboratory), run).ok == 20
    assert len(laboratory.computed()) == 20


def test_progress_never_goes_back(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_REPORT_SECONDS", 0.0)
    laboratory.fill(1, 30)
    laboratory.add("P00/bad.jpg", "bad 1")
    engine = InlineEngine(laboratory, window=5)
    seen: list[Progress] = []
    run_to_completion(
        laboratory.store,
        laboratory.freeze(),
        engine,
        settings=engine.settings,
        on_progress=seen.append,
    )
    finished = [state.ok + state.failed for state in seen]
    assert finished == sorted(finished)
    assert seen[-1].finished
    assert len(set(finished)) > 3


class StumblingEngine(InlineEngine):
    """The broker or the archive is away, now and then."""

    stumbles = 0

    def hand_out(
        self, store: Store, run: RunRecord, positions: Sequence[int], *, more: int = 0
    ) -> None:
        self._stumble()
        super().hand_out(store, run, positions)

    def wait(self, seconds: float) -> list[Settled]:
        self._stumble()
        return super().wait(seconds)

    def _stumble(self) -> None:
        self.stumbles += 1
        if self.stumbles % 3:
            raise RetryableError("the broker is away")


def test_faults_that_pass_pause_the_run_and_fail_nothing(laboratory: Laboratory) -> None:
    laboratory.fill(2, 10)
    pauses: list[str] = []
    engine = StumblingEngine(laboratory, window=6)
    progress = complete(laboratory, engine, on_pause=lambda why, _: pauses.append(why))
    assert (progress.ok, progress.failed) == (20, 0)
    assert set(pauses) == {"the broker is away"}


def test_a_cancelled_run_stops_soon(laboratory: Laboratory) -> None:
    laboratory.fill(1, 50)
    run = laboratory.freeze()
    engine = InlineEngine(laboratory, window=5)

    def cancel(state: Progress) -> None:
        runs.cancel(laboratory.store, run)

    progress = run_to_completion(
        laboratory.store, run, engine, settings=engine.settings, on_progress=cancel
    )
    assert 0 < progress.remaining < 50
    runs.uncancel(laboratory.store, run)
    assert complete(laboratory, InlineEngine(laboratory), run).ok == 50


def test_a_large_run_needs_few_files_open_and_little_listing(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking again at finished shards opens no outcome."""
    laboratory = make_laboratory(laboratory.folder / "large")
    laboratory.fill(1, 50)
    run = laboratory.freeze()
    complete(laboratory, InlineEngine(laboratory), run)
    read: list[str] = []
    store = laboratory.store
    real = store.read
    monkeypatch.setattr(store, "read", lambda key: (read.append(key), real(key))[1])
    engine = InlineEngine(laboratory)
    assert run_to_completion(store, run, engine, settings=engine.settings).finished
    assert [key for key in read if not key.startswith("lease/")] == []


class AskingEngine(InlineEngine):
    """Notes how many rows are said to follow."""

    def __init__(self, laboratory: Laboratory, **settings: object) -> None:
        super().__init__(laboratory, **settings)
        self.more: list[int] = []

    def hand_out(
        self, store: Store, run: RunRecord, positions: Sequence[int], *, more: int = 0
    ) -> None:
        super().hand_out(store, run, positions)
        self.more.append(more)


def test_an_engine_knows_about_how_many_rows_follow(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "SHARD_ROWS", 10)
    monkeypatch.setattr(reconcile, "_BATCH", 5)
    laboratory.fill(1, 40)
    run = laboratory.freeze()
    settings = laboratory.settings()
    for position in (0, 2, 4, 6, 8):
        analyser = open_analyser(run, settings)
        process_row(laboratory.store, run, position, analyser, settings=settings)
    engine = AskingEngine(laboratory)
    complete(laboratory, engine, run)
    # Half of the first ten were done: so are half of the others, as far as is known.
    assert engine.more == [15, 25, 20, 15, 10, 5, 0]


def test_a_run_in_which_too_many_fail_is_stopped_and_says_why(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "LOOKED_AT", 20)
    for number in range(60):
        laboratory.add(f"P/{number:02}.jpg", f"{'bad' if number % 3 else 'image'} {number}")
    run, store = laboratory.freeze(), laboratory.store
    engine = InlineEngine(laboratory, window=5)
    progress = run_to_completion(store, run, engine, settings=engine.settings)
    assert 20 <= progress.ok + progress.failed < 40
    assert "of the last 20 images failed (truncated" in runs.why_cancelled(store, run)
    runs.uncancel(store, run)
    forgiving = InlineEngine(laboratory, failed_share=1)
    assert complete(laboratory, forgiving, run).finished


def test_reading_is_slowed_down_where_that_is_asked(laboratory: Laboratory) -> None:
    laboratory.add("P/1.jpg", f"image {'x' * 300_000}")
    laboratory.add("P/2.jpg", "image 2")
    started = time.monotonic()
    complete(laboratory, InlineEngine(laboratory, megabytes_per_second=0.2))
    # 0.2 MB may go at once; the tenth that the first takes too much has to come in.
    assert time.monotonic() - started >= 0.5
