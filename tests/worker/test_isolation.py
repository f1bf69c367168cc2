from __future__ import annotations

import os
import socket

import pytest

from benchmarks.rig.laboratory import Laboratory, python
from pipeline.errors import ConfigurationError, RetryableError
from tests.worker.test_attempts import leave
from worker import runs
from worker.attempts import AMONG_OTHERS, Marker
from worker.isolation import process_alone
from worker.process import open_analyser, process_row
from worker.records import RunRecord

GENEROUS = {"soft_limit_seconds": 60, "hard_limit_seconds": 60}


def outlived_workers(laboratory: Laboratory, content: str) -> RunRecord:
    """A run of one image at which three workers died."""
    laboratory.add("P/1.jpg", content)
    run = laboratory.freeze()
    for number in range(AMONG_OTHERS):
        leave(laboratory.store, run, number)
    return run


def work(laboratory: Laboratory, run: RunRecord) -> bool:
    settings = laboratory.settings(**GENEROUS)
    analyser = open_analyser(run, settings)
    return process_row(laboratory.store, run, 0, analyser, settings=settings)


def test_a_good_image_whose_workers_were_killed_is_judged_by_another_process(
    laboratory: Laboratory,
) -> None:
    run = outlived_workers(laboratory, "image 1")
    assert work(laboratory, run)
    assert runs.progress(laboratory.store, run).ok == 1
    line = (laboratory.bundle / "computed").read_text()
    assert int(line.split()[1]) != os.getpid()
    assert list(laboratory.store.list("attempts/")) == []


@pytest.mark.parametrize(
    ("content", "reason"), [("crash 1", "crashed_worker"), ("greedy 1", "out_of_memory")]
)
def test_what_ends_it_twice_is_given_up(laboratory: Laboratory, content: str, reason: str) -> None:
    run = outlived_workers(laboratory, content)
    for _ in range(AMONG_OTHERS):
        # What they died of is not known; what the process alone died of is.
        assert not work(laboratory, run) or runs.progress(laboratory.store, run).finished
    outcome = runs.read_outcome(laboratory.store, run, 0)
    assert outcome is not None
    assert outcome.error is not None
    assert len(laboratory.computed()) == 2
    assert outcome.error.reason == reason


def test_it_leaves_what_its_watcher_saw(laboratory: Laboratory) -> None:
    run = outlived_workers(laboratory, "greedy 1")
    assert not work(laboratory, run)
    found = [Marker.model_validate_json(data) for data in _markers(laboratory)]
    assert [marker.ending for marker in found if marker.alone] == ["out_of_memory"]


def test_one_at_a_time_on_a_machine(laboratory: Laboratory) -> None:
    run = outlived_workers(laboratory, "image 1")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"\0screen-alone-{os.getuid()}")
        assert not work(laboratory, run)
    assert laboratory.computed() == []
    assert work(laboratory, run)


def test_a_process_that_cannot_start_in_time_condemns_nothing(laboratory: Laboratory) -> None:
    run = outlived_workers(laboratory, "image 1")
    settings = laboratory.settings(soft_limit_seconds=0.01)
    with pytest.raises(RetryableError, match="did not get as far"):
        process_alone(laboratory.store, run, 0, settings=settings)
    assert len(_markers(laboratory)) == AMONG_OTHERS


def test_what_a_person_has_to_change_is_said(laboratory: Laboratory) -> None:
    run = outlived_workers(laboratory, "image 1")
    (laboratory.bundle / "digest").write_text("e" * 64)
    settings = laboratory.settings(**GENEROUS)
    with pytest.raises(ConfigurationError, match="start it with the same bundle"):
        process_alone(laboratory.store, run, 0, settings=settings)


def test_its_memory_is_bounded() -> None:
    code = """
import numpy as np
from worker.isolation import bound_memory
bound_memory(2**30)
try:
    np.ones(2**31, np.uint8)
except MemoryError:
    raise SystemExit(7)
"""
    assert python(code).wait(60) == 7


def _markers(laboratory: Laboratory) -> list[bytes]:
    store = laboratory.store
    return [store.read(key) or b"" for key in store.list("attempts/")]
