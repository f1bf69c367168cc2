from __future__ import annotations

import json
import time
from typing import Any

import pytest

from benchmarks.rig.laboratory import Laboratory, submit_process, wait_until
from pipeline.canonical import canonical_bytes
from worker import attempts, keys, overview, runs
from worker.overview import Follower, Timing, pace, slowest, slowest_of
from worker.records import Outcome, RunRecord

HARD_LIMIT = 180.0
NOW = 1_000_000.0


def timings(*finished: float, host: str = "a", seconds: float = 2.0) -> list[Timing]:
    """Timings of images that were finished so long before NOW."""
    return [
        Timing(number, host, 1, round(NOW - before - seconds), seconds)
        for number, before in enumerate(finished)
    ]


def test_the_rate_is_that_of_the_images_finished_last() -> None:
    rate, idle = pace(timings(*range(100, 0, -2)), share=1, now=NOW)
    assert rate == pytest.approx(0.5)
    assert idle == 2


def test_images_that_were_looked_at_stand_for_those_that_were_not() -> None:
    assert pace(timings(*range(100, 0, -2)), share=5, now=NOW)[0] == pytest.approx(2.5)


def test_what_lies_before_an_interruption_does_not_count() -> None:
    before = range(90_000, 89_000, -100)
    assert pace(timings(*before, *range(100, 0, -2)), share=1, now=NOW)[0] == pytest.approx(0.5)


def test_there_is_no_rate_while_nothing_goes_on() -> None:
    assert pace([], share=1, now=NOW) == (None, None)
    rate, idle = pace(timings(*range(900, 800, -2)), share=1, now=NOW)
    assert rate is None
    assert idle == 802
    # A single image says nothing about the next.
    assert pace(timings(5), share=1, now=NOW)[0] is None


def test_hosts_are_measured_by_their_own_clocks() -> None:
    """One clock is off by a minute, and one image was looked at of a third host."""
    skewed = timings(*(before + 60 for before in range(100, 0, -2)), host="b")
    found = pace(timings(*range(100, 0, -2)) + skewed, share=1, now=NOW)[0]
    assert found == pytest.approx(1.0)
    third = timings(3, host="c")
    assert pace(timings(*range(100, 0, -2)) + skewed + third, share=1, now=NOW)[0] == (
        pytest.approx(1.01)
    )


def test_the_slowest_come_first() -> None:
    found = [Timing(position, "a", 1, 0, seconds) for position, seconds in enumerate([3, 9, 1, 9])]
    assert [one.position for one in slowest_of(found, 3)] == [1, 3, 0]


# --- from a store -------------------------------------------------------------------------------


def test_a_finished_run(laboratory: Laboratory) -> None:
    laboratory.fill(2, 3)
    laboratory.add("P00/bad.jpg", "bad")
    run = laboratory.freeze()
    laboratory.screen(run)
    found = Follower(laboratory.store, run, hard_limit=HARD_LIMIT).look()
    assert (found.progress.ok, found.progress.failed) == (6, 1)
    assert found.in_flight == []
    assert (found.rate, found.seconds_left) == (None, None)
    assert len(found.recent) == 7


def test_who_is_at_what_is_known_from_the_store_alone(laboratory: Laboratory) -> None:
    laboratory.fill(1, 6)
    laboratory.slow_down(0.4)
    run = laboratory.freeze()
    feeder = submit_process(laboratory)
    follower = Follower(laboratory.store, run, hard_limit=HARD_LIMIT)
    try:
        wait_until(lambda: follower.look().progress.ok >= 2, 60, "work")
        wait_until(lambda: bool(follower.look().in_flight), 10, "somebody at work")
        assert feeder.wait(60) == 0
    finally:
        feeder.kill()
    assert follower.look().progress.finished
    assert follower.look().in_flight == []


def test_markers_of_dead_workers_are_not_in_flight(laboratory: Laboratory) -> None:
    laboratory.fill(1, 2)
    run = laboratory.freeze()
    with attempts.attempt(laboratory.store, run, 1):
        [one] = Follower(laboratory.store, run, hard_limit=HARD_LIMIT).look().in_flight
        assert one.position == 1
        assert 0 <= one.seconds < HARD_LIMIT
        [key] = laboratory.store.list(keys.attempts_run(run.run_id))
        marker = json.loads(laboratory.store.read(key) or b"")
        laboratory.store.replace(key, canonical_bytes({**marker, "process": 2**22 - 1}))
        assert Follower(laboratory.store, run, hard_limit=HARD_LIMIT).look().in_flight == []


class Counting:
    """A store that counts what is asked of it."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.reads = 0
        self.lists = 0

    def read(self, key: str) -> bytes | None:
        self.reads += 1
        return self._store.read(key)

    def list(self, prefix: str) -> Any:
        self.lists += 1
        return self._store.list(prefix)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def large(laboratory: Laboratory) -> RunRecord:
    """3,500 images, of which all but the last 100 are done, at ten a second."""
    laboratory.fill(1, 1)
    run = laboratory.freeze().model_copy(update={"images": 3500, "shards": 4})
    began = int(time.time()) - 340
    done = laboratory.store.path / keys.done(run.run_id, 0)
    for position in range(3400):
        place = laboratory.store.path / keys.done(run.run_id, position)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(canonical_bytes(Outcome(status="ok", result="r/")))
        log = laboratory.store.path / keys.row_log(run.run_id, position)
        log.parent.mkdir(parents=True, exist_ok=True)
        entry = {"host": "a", "process": 1, "started": began + position // 10, "seconds": 0.05}
        log.write_bytes(canonical_bytes(entry))
    assert done.exists()
    return run


def test_a_large_run_is_not_opened_row_by_row(laboratory: Laboratory, large: RunRecord) -> None:
    store = Counting(laboratory.store)
    follower = Follower(store, large, hard_limit=HARD_LIMIT)  # type: ignore[arg-type]
    found = follower.look()
    assert found.progress.ok == 3400
    assert found.rate == pytest.approx(10, rel=0.05)
    assert found.seconds_left == pytest.approx(10, rel=0.05)
    assert store.reads <= overview._SAMPLED
    assert store.lists <= 2 * large.shards + 1
    store.lists = 0
    # Full shards are not listed again.
    assert follower.look().progress.ok == 3400
    assert store.lists <= 3


def test_full_shards_are_counted_anew_when_asked(laboratory: Laboratory, large: RunRecord) -> None:
    follower = Follower(laboratory.store, large, hard_limit=HARD_LIMIT)
    follower.look()
    runs.forget_outcome(laboratory.store, large, 5)
    assert follower.look().progress.ok == 3400
    follower.forget()
    assert follower.look().progress.ok == 3399


def test_all_images_are_looked_at_for_the_slowest_of_all(
    laboratory: Laboratory, large: RunRecord
) -> None:
    entry = {"host": "b", "process": 7, "started": 1, "seconds": 99.5}
    laboratory.store.replace(keys.row_log(large.run_id, 17), canonical_bytes(entry))
    laboratory.store.replace(keys.row_log(large.run_id, 18), b'{"host": "b"')
    assert slowest(laboratory.store, large, 1) == [Timing(17, "b", 7, 1, 99.5)]
