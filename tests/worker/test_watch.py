"""What a watcher makes of files that come, change, move and go."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from benchmarks.rig.laboratory import Laboratory
from benchmarks.rig.stubs import model_of
from pipeline.errors import NamingError
from pipeline.results import AnalysisOptions
from worker import runs, watch
from worker.feed import feed
from worker.manifest import freeze, iterate_rows
from worker.planning import EmptyArchiveError, plan
from worker.purge import carry_out, plan_purge
from worker.records import RunRecord
from worker.watch import Waits, Watcher


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watch, "time", made)
    return made


class Watching:
    """A watcher of a laboratory's archive, which looks when it is told to."""

    def __init__(self, laboratory: Laboratory, clock: Clock) -> None:
        self.laboratory, self.clock = laboratory, clock
        self.restart()

    def restart(self) -> None:
        self.watcher = Watcher(
            self.laboratory.archive,
            self.laboratory.store,
            model=model_of(self.laboratory.bundle),
            bundle=str(self.laboratory.bundle),
            options=AnalysisOptions(explain="none"),
            waits=Waits(still=10, quiet=100),
        )

    def look(self, after: float = 0) -> RunRecord | None:
        self.clock.now += after
        try:
            return self.watcher.take_in(plan(self.laboratory.archive))
        except EmptyArchiveError:
            return None

    def sources(self, run: RunRecord | None) -> list[str]:
        assert run is not None
        return [row.source for _, row in iterate_rows(self.laboratory.store, run)]

    def work(self) -> None:
        """What `screen feed` does."""
        laboratory = self.laboratory
        settings = laboratory.settings(reconcile_seconds=0.05)
        feed([laboratory.out], settings, stop=threading.Event(), until_done=True)

    def report(self, patient: str, revision: str = "") -> dict[str, str]:
        """Status of each image of a patient's report."""
        path = self.laboratory.out / "patients" / patient / revision / "report.json"
        images = json.loads(path.read_bytes())["images"]
        return {image["source"]: image["status"] for image in images}


@pytest.fixture
def watching(laboratory: Laboratory, clock: Clock) -> Watching:
    return Watching(laboratory, clock)


def test_a_patient_is_taken_when_it_has_been_quiet(watching: Watching) -> None:
    watching.laboratory.add("P/1.jpg", "image 1")
    assert watching.look() is None
    watching.laboratory.add("P/2.jpg", "image 2")
    assert watching.look(after=90) is None
    assert watching.look(after=90) is None
    assert watching.sources(watching.look(after=10)) == ["P/1.jpg", "P/2.jpg"]
    assert watching.look(after=1000) is None


def test_a_file_that_is_being_copied_is_waited_for(watching: Watching) -> None:
    path = watching.laboratory.add("P/1.jpg", "image")
    (path.parent / "_complete").touch()
    for _ in range(5):
        assert watching.look(after=9) is None
        path.write_bytes(path.read_bytes() + b" more")
    assert watching.look(after=9) is None
    assert watching.sources(watching.look(after=10)) == ["P/1.jpg"]


def test_a_marker_says_that_all_are_there(watching: Watching) -> None:
    for patient in ("P", "Q"):
        watching.laboratory.add(f"{patient}/1.jpg", f"image {patient}")
    (watching.laboratory.archive / "P" / "_complete").touch()
    watching.look()
    assert watching.sources(watching.look(after=10)) == ["P/1.jpg"]
    assert watching.sources(watching.look(after=90)) == ["Q/1.jpg"]


def test_a_table_says_what_is_to_come(watching: Watching) -> None:
    watching.laboratory.add("P/1.jpg", "image 1")
    watching.laboratory.add("P/_manifest.csv", "file\n1.jpg\ndeep/2.jpg\n")
    watching.look()
    assert watching.look(after=5000) is None
    watching.laboratory.add("P/deep/2.jpg", "image 2")
    watching.look()
    assert watching.sources(watching.look(after=10)) == ["P/1.jpg", "P/deep/2.jpg"]


def test_an_image_that_comes_later_makes_a_revision(watching: Watching) -> None:
    watching.laboratory.add("P/1.jpg", "image 1")
    watching.look()
    watching.look(after=100)
    watching.work()
    watching.laboratory.add("P/2.jpg", "image 2")
    watching.look()
    watching.look(after=100)
    watching.work()
    assert watching.report("P") == {"P/1.jpg": "ok", "P/2.jpg": "ok"}
    assert watching.report("P", "revisions/001") == {"P/1.jpg": "ok"}
    assert watching.laboratory.twice() == {}


def test_the_report_is_that_of_submitting_what_is_there(watching: Watching, tmp_path: Path) -> None:
    for name in ("P/1.jpg", "P/2.jpg", "Q/1.jpg"):
        watching.laboratory.add(name, f"image {name}")
        watching.look()
        watching.look(after=100)
        watching.work()
    whole = Laboratory(watching.laboratory.folder, "whole")
    whole.screen()
    watched, submitted = watching.laboratory.reports(), whole.reports()
    same = {name for name in submitted if name != "index.html"}
    assert {name: watched[name] for name in same} == {name: submitted[name] for name in same}
    assert {"Q", "P"} <= {line.split(",")[0] for line in watched["summary.csv"].decode().split()}


def test_what_was_judged_stays_when_its_file_is_taken_away(watching: Watching) -> None:
    first = watching.laboratory.add("P/1.jpg", "image 1")
    watching.look()
    watching.look(after=100)
    watching.work()
    first.unlink()
    watching.laboratory.add("Q/1.jpg", "image q")
    watching.look()
    assert watching.sources(watching.look(after=100)) == ["Q/1.jpg"]
    watching.laboratory.add("P/2.jpg", "image 2")
    watching.look()
    watching.look(after=100)
    watching.work()
    assert watching.report("P") == {"P/1.jpg": "ok", "P/2.jpg": "ok"}


def test_a_file_that_went_before_it_was_read_is_missing_in_the_report(watching: Watching) -> None:
    path = watching.laboratory.add("P/1.jpg", "image 1")
    watching.laboratory.add("P/2.jpg", "image 2")
    watching.look()
    watching.look(after=100)
    path.unlink()
    watching.work()
    assert watching.report("P") == {"P/1.jpg": "failed", "P/2.jpg": "ok"}


def test_a_renamed_image_is_counted_once(watching: Watching) -> None:
    path = watching.laboratory.add("P/1.jpg", "image 1")
    watching.look()
    watching.look(after=100)
    watching.work()
    path.rename(path.with_name("better.jpg"))
    watching.look()
    watching.look(after=100)
    watching.work()
    assert watching.report("P") == {"P/better.jpg": "ok"}
    assert len(watching.laboratory.computed()) == 1


def test_a_replaced_image_is_judged_anew(watching: Watching) -> None:
    path = watching.laboratory.add("P/1.jpg", "image 1")
    watching.look()
    watching.look(after=100)
    watching.work()
    path.write_text("image another")
    os.utime(path, ns=(1, 1))
    watching.look()
    watching.look(after=100)
    watching.work()
    assert len(watching.laboratory.computed()) == 2
    assert watching.report("P", "revisions/001") == {"P/1.jpg": "ok"}


def test_a_restart_loses_nothing_and_submits_nothing_twice(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.laboratory.add("P/1.jpg", "image 1")
    watching.look()
    # Killed after the run was frozen and before it was written down whose it is.
    real = watch.canonical_bytes
    monkeypatch.setattr(watch, "canonical_bytes", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        watching.look(after=100)
    monkeypatch.setattr(watch, "canonical_bytes", real)
    watching.restart()
    watching.look()
    run = watching.look(after=100)
    assert [one.run for one in runs.list_runs(watching.laboratory.store)] == [run]
    watching.restart()
    watching.look()
    assert watching.look(after=100) is None


def test_an_older_list_never_replaces_a_newer_report(watching: Watching) -> None:
    watching.laboratory.add("P/1.jpg", "image 1")
    watching.look()
    older = watching.look(after=100)
    watching.laboratory.add("P/2.jpg", "image 2")
    watching.look()
    newer = watching.look(after=100)
    assert older is not None and newer is not None
    watching.laboratory.screen(newer)
    watching.laboratory.screen(older)
    assert watching.report("P") == {"P/1.jpg": "ok", "P/2.jpg": "ok"}
    assert not (watching.laboratory.out / "patients" / "P" / "revisions").exists()


def test_two_watchers_submit_the_same(laboratory: Laboratory, clock: Clock) -> None:
    first, second = Watching(laboratory, clock), Watching(laboratory, clock)
    laboratory.add("P/1.jpg", "image 1")
    for watching in (first, second):
        watching.look()
    clock.now += 100
    assert first.look() is not None
    assert second.look() is None


def test_a_pipe_called_like_a_table_is_none(watching: Watching) -> None:
    watching.laboratory.add("P/1.jpg", "image 1")
    os.mkfifo(watching.laboratory.archive / "P" / "_manifest.csv")
    watching.look()
    assert watching.look(after=100) is not None


def test_a_copy_that_goes_is_not_taken_for_a_move(watching: Watching) -> None:
    first = watching.laboratory.add("P/1.jpg", "image 1")
    copy = watching.laboratory.add("P/copy.jpg", "image 1")
    times = first.stat().st_mtime_ns
    os.utime(copy, ns=(times, times))
    watching.look()
    watching.look(after=100)
    watching.work()
    copy.unlink()
    watching.laboratory.add("P/2.jpg", "image 2")
    watching.look()
    watching.look(after=100)
    watching.work()
    assert watching.report("P") == {"P/1.jpg": "ok", "P/2.jpg": "ok", "P/copy.jpg": "ok"}


def test_a_table_that_says_nothing_keeps_no_other_patient_back(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    for patient in ("P", "Q"):
        watching.laboratory.add(f"{patient}/1.jpg", f"image {patient}")
    watching.laboratory.add("P/_manifest.csv", "something else\n")
    watching.look()
    assert watching.sources(watching.look(after=100)) == ["Q/1.jpg"]
    assert "has no column 'file'" in caplog.text


def test_a_purged_run_is_no_obstacle(watching: Watching) -> None:
    watching.laboratory.add("P/1.jpg", "image 1")
    watching.look()
    run = watching.look(after=100)
    assert run is not None
    watching.work()
    store = watching.laboratory.store
    carry_out(store, run, plan_purge(store, run))
    watching.laboratory.add("P/2.jpg", "image 2")
    watching.look()
    assert watching.sources(watching.look(after=100)) == ["P/1.jpg", "P/2.jpg"]


def test_other_files_are_counted(watching: Watching) -> None:
    watching.laboratory.add("P/1.jpg", "image 1")
    watching.laboratory.add("P/notes.txt", "notes")
    watching.look()
    run = watching.look(after=100)
    assert run is not None
    assert run.ignored == 1


def test_what_is_settled_is_not_looked_up_again(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        watching.laboratory.add(f"P{number:02}/1.jpg", f"image {number}")
    watching.look()
    watching.look(after=100)

    def never(*_: object) -> None:
        raise AssertionError("a settled patient is looked up")

    monkeypatch.setattr(watch, "read_published", never)
    monkeypatch.setattr(watch.Watcher, "_before", never)
    assert watching.look(after=100) is None


def test_a_patient_of_another_archive_is_refused_without_being_named(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory = watching.laboratory
    laboratory.add("Ada/1.jpg", "image 1")
    freeze(
        laboratory.store,
        plan(laboratory.archive).rows(),
        root="file:///elsewhere",
        bundle=str(laboratory.bundle),
        model=model_of(laboratory.bundle),
        options=AnalysisOptions(explain="none"),
        ignored=0,
    )
    watcher, stop = watching.watcher, threading.Event()
    with pytest.raises(NamingError, match="'Ada'"):
        watching.look()
        watching.look(after=100)
    watch.watch(
        laboratory.archive,
        laboratory.store,
        watcher,
        lambda: plan(laboratory.archive),
        every_seconds=0.1,
        pause=lambda _: stop.set(),
        stop=stop,
    )
    assert "NamingError" in caplog.text
    assert "Ada" not in caplog.text


@pytest.mark.parametrize(
    "table", [b'file\n"1.jpg\n' + b"x" * 200_000, b"file\n" + b"x.jpg\n" * 3_000_000]
)
def test_a_table_that_cannot_be_read_keeps_its_patient_waiting(
    watching: Watching, caplog: pytest.LogCaptureFixture, table: bytes
) -> None:
    for patient in ("P", "Q"):
        watching.laboratory.add(f"{patient}/1.jpg", f"image {patient}")
    watching.laboratory.add("P/_manifest.csv", table)
    watching.look()
    assert watching.sources(watching.look(after=100)) == ["Q/1.jpg"]
    assert "_manifest.csv is" in caplog.text


def test_a_table_with_the_line_ends_of_old_machines_is_read(watching: Watching) -> None:
    watching.laboratory.add("P/1.jpg", "image 1")
    watching.laboratory.add("P/_manifest.csv", "file\r1.jpg\r")
    watching.look()
    assert watching.sources(watching.look(after=10)) == ["P/1.jpg"]
