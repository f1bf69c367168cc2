from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.rig.laboratory import Laboratory, make_laboratory, submit_process, wait_until
from benchmarks.rig.processes import alive, children_of
from pipeline.errors import ConfigurationError
from worker import runs
from worker.engines.local import LocalEngine
from worker.records import RunRecord


@pytest.fixture
def undisturbed(tmp_path_factory: pytest.TempPathFactory, laboratory: Laboratory) -> Laboratory:
    """The same archive and bundle with another output folder, screened without trouble."""
    return Laboratory(laboratory.folder, "undisturbed")


def test_every_image_is_computed_once(laboratory: Laboratory) -> None:
    laboratory.fill(3, 10)
    assert laboratory.screen().ok == 30
    assert len(laboratory.computed()) == 30


def test_the_same_archive_again_computes_nothing_and_changes_nothing(
    laboratory: Laboratory,
) -> None:
    laboratory.fill(3, 5)
    laboratory.add("P01/bad.jpg", "bad 1")
    laboratory.screen()
    before, reports = len(laboratory.computed()), laboratory.reports()
    assert laboratory.screen().finished
    assert len(laboratory.computed()) == before
    assert laboratory.reports() == reports


def test_the_number_of_processes_does_not_show(laboratory: Laboratory) -> None:
    laboratory.fill(2, 6)
    laboratory.screen(processes=1)
    other = Laboratory(laboratory.folder, "other")
    other.screen(processes=3)
    assert other.reports() == laboratory.reports()


def test_after_kill_minus_nine_of_the_parent_nothing_computes_and_the_run_goes_on(
    laboratory: Laboratory, undisturbed: Laboratory
) -> None:
    laboratory.fill(3, 15)
    undisturbed.screen()
    laboratory.slow_down(0.05)
    run = laboratory.freeze()
    for target in (5, 20):
        parent = submit_process(laboratory)
        wait_until(lambda t=target: runs.progress(laboratory.store, run).ok >= t, what="progress")
        children = children_of(parent.pid)
        assert children
        parent.kill()
        parent.wait()
        wait_until(lambda c=children: not any(map(alive, c)), 5, "children end")
    assert not runs.progress(laboratory.store, run).finished
    assert list(laboratory.store.list("attempts/")) == []
    laboratory.screen()
    assert laboratory.reports() == undisturbed.reports()


def test_ctrl_c_leaves_a_run_that_continues_and_condemns_nothing(laboratory: Laboratory) -> None:
    laboratory.fill(1, 10)
    laboratory.slow_down(0.2)
    run = laboratory.freeze()
    parent = submit_process(laboratory)
    wait_until(lambda: runs.progress(laboratory.store, run).ok >= 2, what="progress")
    parent.send_signal(signal.SIGINT)
    assert parent.wait(10) != 0
    assert list(laboratory.store.list("attempts/")) == []
    laboratory.slow_down(0)
    assert laboratory.screen().ok == 10


def test_an_image_that_kills_hangs_or_exhausts_its_process_fails_and_the_others_do_not(
    laboratory: Laboratory,
) -> None:
    laboratory.fill(2, 5)
    laboratory.add("P00/crash.jpg", "crash 1")
    laboratory.add("P00/hang.jpg", "hang 1")
    laboratory.add("P01/greedy.jpg", "greedy 1")
    run = laboratory.freeze()
    progress = laboratory.screen(run, hard_limit_seconds=3, soft_limit_seconds=3)
    assert (progress.ok, progress.failed) == (10, 3)
    reasons = {
        one.row.source: one.outcome.error.reason
        for one in runs.outcomes(laboratory.store, run)
        if one.outcome and one.outcome.error
    }
    assert reasons == {
        "P00/crash.jpg": "crashed_worker",
        "P00/hang.jpg": "timed_out",
        "P01/greedy.jpg": "out_of_memory",
    }
    assert max(laboratory.twice().values()) <= 5
    assert list(laboratory.store.list("attempts/")) == []


@pytest.mark.parametrize("bound", [{"images_per_process": 3}, {"process_memory_bytes": 1}])
def test_processes_are_replaced_now_and_then(laboratory: Laboratory, bound: dict[str, int]) -> None:
    laboratory.fill(1, 8)
    assert laboratory.screen(processes=1, **bound).ok == 8
    assert laboratory.twice() == Counter()
    lines = (laboratory.bundle / "computed").read_text().splitlines()
    used = Counter(line.split()[1] for line in lines)
    assert max(used.values()) == (3 if "images_per_process" in bound else 1)


def test_processes_that_cannot_start_are_not_started_for_ever(
    laboratory: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_analyser.py").write_text("raise SystemError('no such instruction')")
    monkeypatch.syspath_prepend(tmp_path)
    laboratory.fill(1, 2)
    with pytest.raises(ConfigurationError, match=r"(?s)die while they start.*no such instruction"):
        laboratory.screen(analyser="broken_analyser:open_analyser")
    assert runs.progress(laboratory.store, runs.load_run(laboratory.store)).remaining == 2


def test_a_wrong_model_stops_the_run_with_the_mend(laboratory: Laboratory) -> None:
    laboratory.fill(1, 2)
    run = laboratory.freeze()
    (laboratory.bundle / "digest").write_text("e" * 64)
    with pytest.raises(ConfigurationError, match="start it with the same bundle"):
        laboratory.screen(run)


@pytest.fixture
def engine(laboratory: Laboratory) -> Iterator[LocalEngine]:
    with LocalEngine(laboratory.settings(processes=1)) as made:
        yield made


def test_a_row_that_is_there_is_not_taken_twice(
    laboratory: Laboratory, engine: LocalEngine
) -> None:
    laboratory.fill(1, 3)
    run: RunRecord = laboratory.freeze()
    for _ in range(3):
        engine.hand_out(laboratory.store, run, [0, 1, 2])
    assert engine.holds() == 3
    finished: list[int] = []
    while engine.holds():
        finished += [one.position for one in engine.wait(1)]
    assert sorted(finished) == [0, 1, 2]
    assert len(laboratory.computed()) == 3


def test_one_compute_thread_each(laboratory: Laboratory, engine: LocalEngine) -> None:
    laboratory.fill(1, 1)
    laboratory.slow_down(5)
    engine.hand_out(laboratory.store, laboratory.freeze(), [0])
    wait_until(lambda: bool(laboratory.computed()))
    environment = Path(f"/proc/{engine.processes()[0]}/environ").read_bytes().split(b"\0")
    assert {b"OMP_NUM_THREADS=1", b"TF_NUM_INTRAOP_THREADS=1"} <= set(environment)


def test_a_second_archive_in_the_same_folder_of_results(tmp_path: Path) -> None:
    """Two archives of different patients share an output folder."""
    first = make_laboratory(tmp_path / "one")
    first.fill(1, 2)
    first.screen()
    second = Laboratory(tmp_path / "two", out_name="../one/out")
    make_laboratory(second.folder)
    second.add("Q1/a.jpg", "image q")
    assert second.screen().ok == 1
    assert {"patients/P00/report.json", "patients/Q1/report.json"} <= set(first.reports())
