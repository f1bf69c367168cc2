from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.rig.laboratory import Laboratory, python
from pipeline.canonical import canonical_bytes
from worker import attempts, keys
from worker.attempts import ALONE, AMONG_OTHERS, Marker, Standing, TimedOutError, standing
from worker.machine import process_start, this_machine
from worker.records import RunRecord
from worker.store import Store

HARD_LIMIT = 180.0

#: What an image may be tried as, until it is given up.
TRIES = [Standing.FREE] * AMONG_OTHERS + [Standing.ALONE] * ALONE


@pytest.fixture
def run(laboratory: Laboratory) -> RunRecord:
    laboratory.fill(1, 2)
    return laboratory.freeze()


@pytest.fixture
def opened(laboratory: Laboratory) -> Store:
    return laboratory.store


def leave(store: Store, run: RunRecord, number: int, **changes: object) -> None:
    """A marker of a process on this machine that is gone."""
    marker = Marker(machine=this_machine(), process=2**22 - 1, started="1", time=0)
    key = f"{keys.attempts(run.run_id, 0)}{number}.json"
    store.replace(key, canonical_bytes(marker.model_copy(update=changes)))


def test_a_marker_is_there_during_the_attempt_only(opened: Store, run: RunRecord) -> None:
    with attempts.attempt(opened, run, 0):
        assert len(list(opened.list("attempts/"))) == 1
        assert attempts.under_way(opened, run, 0, hard_limit=HARD_LIMIT) == {0: (1, True, False)}
    assert list(opened.list("attempts/")) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_way_out_that_is_not_the_images_fault_leaves_no_marker(
    opened: Store, run: RunRecord, error: type[BaseException]
) -> None:
    with pytest.raises(error), attempts.attempt(opened, run, 0):
        raise error
    assert list(opened.list("attempts/")) == []


@pytest.mark.parametrize(
    ("error", "reason"), [(MemoryError, "out_of_memory"), (TimedOutError, "timed_out")]
)
def test_an_image_that_is_too_much_a_few_times_is_given_up_with_the_reason(
    opened: Store, run: RunRecord, error: type[Exception], reason: str
) -> None:
    for expected in TRIES:
        assert standing(opened, run, 0, hard_limit=HARD_LIMIT) == (expected, None)
        alone = expected is Standing.ALONE
        with pytest.raises(error), attempts.attempt(opened, run, 0, alone=alone):
            raise error
    state, why = standing(opened, run, 0, hard_limit=HARD_LIMIT)
    assert state is Standing.GIVEN_UP
    assert why is not None
    assert why.reason == reason


def test_dead_workers_count_against_the_image_they_were_at(opened: Store, run: RunRecord) -> None:
    for number, expected in enumerate(TRIES):
        assert standing(opened, run, 0, hard_limit=HARD_LIMIT)[0] is expected
        leave(opened, run, number, alone=expected is Standing.ALONE)
    state, why = standing(opened, run, 0, hard_limit=HARD_LIMIT)
    assert state is Standing.GIVEN_UP
    assert why is not None
    assert why.reason == "crashed_worker"
    assert standing(opened, run, 1, hard_limit=HARD_LIMIT)[0] is Standing.FREE


def test_a_killed_process_is_known_to_be_dead(opened: Store, run: RunRecord) -> None:
    code = """
import os, sys, signal
from worker import attempts
from worker.store import open_store
from worker.manifest import read_run
store = open_store(sys.argv[1])
with attempts.attempt(store, read_run(store, sys.argv[2]), 0):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    python(code, opened.uri, run.run_id).wait(30)
    assert len(list(opened.list("attempts/"))) == 1
    assert attempts.under_way(opened, run, 0, hard_limit=HARD_LIMIT)[0].alive is False


def test_an_image_delivered_too_often_is_not_given_up(opened: Store, run: RunRecord) -> None:
    """Others are still at it: no further execution, and no verdict either."""
    alive = {"process": os.getppid(), "started": process_start(os.getppid())}
    for number in range(AMONG_OTHERS):
        leave(opened, run, number, **alive)
    assert standing(opened, run, 0, hard_limit=HARD_LIMIT) == (Standing.BUSY, None)


def test_a_worker_elsewhere_is_dead_when_it_would_have_been_killed(
    opened: Store, run: RunRecord
) -> None:
    now = int(time.time())
    for number in range(AMONG_OTHERS):
        leave(opened, run, number, machine="elsewhere", time=now - int(HARD_LIMIT))
    assert standing(opened, run, 0, hard_limit=HARD_LIMIT)[0] is Standing.BUSY
    for number in range(AMONG_OTHERS):
        leave(opened, run, number, machine="elsewhere", time=now - int(HARD_LIMIT) - 61)
    assert standing(opened, run, 0, hard_limit=HARD_LIMIT)[0] is Standing.ALONE


def test_one_process_alone_at_a_time(opened: Store, run: RunRecord) -> None:
    for number in range(AMONG_OTHERS):
        leave(opened, run, number)
    alive = {"process": os.getppid(), "started": process_start(os.getppid())}
    leave(opened, run, AMONG_OTHERS, alone=True, **alive)
    assert standing(opened, run, 0, hard_limit=HARD_LIMIT) == (Standing.BUSY, None)


def test_kills_among_others_never_condemn_an_image(opened: Store, run: RunRecord) -> None:
    """However often somebody kills its workers: the verdict is left to a process alone."""
    for number in range(AMONG_OTHERS + ALONE - 1):
        leave(opened, run, number)
    assert standing(opened, run, 0, hard_limit=HARD_LIMIT) == (Standing.ALONE, None)


def test_how_a_process_ended_is_written_down_once(opened: Store, run: RunRecord) -> None:
    leave(opened, run, 0, ending="out_of_memory")
    attempts.close_process(opened, run, 0, process=2**22 - 1, ending="crashed_worker")
    key = next(iter(opened.list("attempts/")))
    assert b"out_of_memory" in (opened.read(key) or b"")


def test_half_a_marker_counts_as_one(opened: Store, run: RunRecord) -> None:
    opened.replace(f"{keys.attempts(run.run_id, 0)}x.json", b'{"machine": "half')
    assert attempts.under_way(opened, run, 0, hard_limit=HARD_LIMIT)[0].alive is False


def test_stopping_a_process_condemns_nothing(opened: Store, run: RunRecord) -> None:
    with attempts.attempt(opened, run, 0):
        attempts.end_all()
        assert list(opened.list("attempts/")) == []


def test_a_fresh_start_forgets_attempts(opened: Store, run: RunRecord) -> None:
    for number in range(AMONG_OTHERS):
        leave(opened, run, number)
    attempts.clear(opened, run, 0)
    assert standing(opened, run, 0, hard_limit=HARD_LIMIT)[0] is Standing.FREE


def test_a_process_number_that_was_given_to_another_is_not_mistaken(
    opened: Store, run: RunRecord
) -> None:
    leave(opened, run, 0, process=os.getppid(), started="1")
    assert attempts.under_way(opened, run, 0, hard_limit=HARD_LIMIT)[0].alive is False


def test_a_marker_names_no_image(opened: Store, run: RunRecord, tmp_path: Path) -> None:
    with attempts.attempt(opened, run, 0):
        key = next(iter(opened.list("attempts/")))
        assert b"P00" not in (opened.read(key) or b"")
        assert str(tmp_path).encode() not in (opened.read(key) or b"")
