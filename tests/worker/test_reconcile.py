from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import pytest

from benchmarks.rig.laboratory import Laboratory, make_laboratory, submit_process
from pipeline.errors import RetryableError
from tests.worker.test_attempts import leave
from worker import breaker, keys, reconcile, runs
from worker.engines import Settled
from worker.lease import Lease
from worker.process import open_analyser, process_row
from worker.reconcile import run_to_completion
from worker.records import Progress, RunRecord
from worker.settings import Settings
from worker.store import Store


class InlineEngine:
    """Does a few rows whenever it is waited for, in this process; subclasses misbehave."""

    name = "inline"

    def __init__(self, laboratory: Laboratory, **settings: object) -> None:
        self.settings: Settings = laboratory.settings(**settings)
        self.rows: deque[tuple[Store, RunRecord, int]] = deque()
        self.handed: list[int] = []
        self.most = 0

    @property
    def capacity(self) -> int:
        return self.settings.window

    def hand_out(
        self, store: Store, run: RunRecord, positions: Sequence[int], *, more: int = 0
    ) -> None:
        self.handed += positions
        for position in positions:
            self.accept(store, run, position)
        self.most = max(self.most, len(self.rows))

    def accept(self, store: Store, run: RunRecord, position: int) -> None:
        self.rows.append((store, run, position))

    def wait(self, seconds: float) -> list[Settled]:
        if not self.rows:
            time.sleep(min(seconds, 0.02))
        done = []
        for _ in range(min(5, len(self.rows))):
            store, run, position = self.rows.popleft()
            analyser = open_analyser(run, self.settings)
            process_row(store, run, position, analyser, settings=self.settings)
            done.append(Settled(run.run_id, position))
        return done

    def holds(self) -> int:
        return len(self.rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.rows.clear()


def complete(
    laboratory: Laboratory,
    engine: InlineEngine,
    run: RunRecord | None = None,
    on_pause: Callable[[str, float], None] | None = None,
) -> Progress:
    return run_to_completion(
        laboratory.store,
        run or laboratory.freeze(),
        engine,
        settings=engine.settings,
        on_pause=on_pause,
    )


def run_for(seconds: float, laboratory: Laboratory, run: RunRecord, engine: InlineEngine) -> None:
    """Feed a run that comes to no end, and interrupt it."""
    until = time.monotonic() + seconds

    def stop(_: Progress) -> None:
        if time.monotonic() > until:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_to_completion(laboratory.store, run, engine, settings=engine.settings, on_progress=stop)


QUICK = {"reconcile_seconds": 0.05}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_PAUSES_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(reconcile, "_POLL_SECONDS", 0.05)


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


def test_what_was_judged_before_is_not_handed_out(laboratory: Laboratory) -> None:
    laboratory.fill(2, 10)
    (laboratory.archive / "P00" / "out.jpg").symlink_to("/etc/passwd")
    complete(laboratory, InlineEngine(laboratory))
    laboratory.add("P01/new.jpg", "image new")
    engine = InlineEngine(laboratory)
    progress = complete(laboratory, engine)
    assert (progress.ok, progress.failed) == (21, 1)
    assert len(engine.handed) == 1


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


def test_two_feeders_at_once_disturb_nothing(laboratory: Laboratory) -> None:
    laboratory.fill(2, 15)
    undisturbed = Laboratory(laboratory.folder, "undisturbed")
    undisturbed.screen()
    laboratory.slow_down(0.02)
    feeders = [submit_process(laboratory) for _ in range(2)]
    assert [feeder.wait(60) for feeder in feeders] == [0, 0]
    assert laboratory.reports() == undisturbed.reports()
    assert runs.progress(laboratory.store, laboratory.freeze()).ok == 30


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
