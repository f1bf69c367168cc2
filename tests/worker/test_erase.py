"""Erasing a patient: nothing of the patient is left, and nothing of anybody else changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks.rig.laboratory import Laboratory, make_laboratory
from pipeline.errors import ConfigurationError
from tests.worker.test_watch import Clock, Watching, clock, watching
from worker import runs
from worker.erase import erase, find
from worker.erased import ErasedPatient, kept_out, read_erased, readmit
from worker.manifest import iterate_rows
from worker.publish import DirectoryPublisher
from worker.purge import carry_out, plan_purge
from worker.records import RunRecord
from worker.store import DirectoryStore

__all__ = ["Clock", "clock", "watching"]

LIMIT = 180.0


def erased(laboratory: Laboratory, patient: str = "Ada") -> ErasedPatient:
    store, out = laboratory.store, laboratory.out
    return erase(store, out, patient, find(store, out, patient, hard_limit=LIMIT))


def everything(laboratory: Laboratory) -> bytes:
    """Names and contents of all that lies in the output."""
    files = (path for path in laboratory.out.rglob("*") if path.is_file())
    return b"\n".join(str(path).encode() + path.read_bytes() for path in files)


def rest(laboratory: Laboratory) -> dict[str, bytes]:
    """Results and reports that are there."""
    top = laboratory.store.path / "results"
    results = {str(path): path.read_bytes() for path in top.rglob("*") if path.is_file()}
    return {**laboratory.reports(), **results}


def patients(store: DirectoryStore, run: RunRecord) -> set[str]:
    return {row.patient for _, row in iterate_rows(store, run)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """Three patients, one with a failed image, one with a copy of another's."""
    made = make_laboratory(tmp_path_factory.mktemp("template"))
    made.add("Ada/secret name 1.jpg", "image a 1")
    made.add("Ada/secret name 2.jpg", "image shared")
    made.add("Ben/1.jpg", "image shared")
    made.add("Ben/2.jpg", "image b 2")
    (made.archive / "Ben" / "3.jpg").symlink_to("/etc/passwd")
    made.add("Cy/1.jpg", "image c 1")
    made.screen()
    shutil.copytree(made.archive, made.folder / "kept", symlinks=True)
    return made


@pytest.fixture
def screened(template: Laboratory) -> Iterator[Laboratory]:
    """A copy of the output; the archive is the same, and is mended afterwards."""
    yield copy_of(template)
    shutil.rmtree(template.archive)
    shutil.copytree(template.folder / "kept", template.archive, symlinks=True)


def copy_of(template: Laboratory) -> Laboratory:
    made = Laboratory(template.folder, f"out-{uuid4().hex}")
    shutil.copytree(template.out, made.out)
    return made


def test_what_is_left_is_what_would_be_there_without_the_patient(
    screened: Laboratory, tmp_path: Path
) -> None:
    images = {path: path.read_bytes() for path in screened.archive.rglob("*.jpg")}
    erased(screened)
    assert {path: path.read_bytes() for path in screened.archive.rglob("*.jpg")} == images
    assert b"Ada" not in everything(screened)
    assert b"secret" not in everything(screened)
    without = Laboratory(screened.folder, f"without-{uuid4().hex}")
    (screened.archive / "Ada").rename(tmp_path / "Ada")
    without.screen()
    assert screened.reports() == without.reports()
    [left], [fresh] = runs.list_runs(screened.store), runs.list_runs(without.store)
    assert left.run == fresh.run
    assert runs.progress(screened.store, left.run) == runs.progress(without.store, fresh.run)
    assert len(rest(screened)) == len(rest(without))


def test_submitting_again_what_is_left_processes_nothing(
    screened: Laboratory, tmp_path: Path
) -> None:
    erased(screened)
    before = screened.reports()
    (screened.archive / "Ada").rename(tmp_path / "Ada")
    screened.forget_calls()
    screened.screen()
    assert screened.computed() == []
    assert screened.reports() == before
    assert len(runs.list_runs(screened.store)) == 1


def test_the_record_tells_what_was_done_and_to_nobody_whom(screened: Laboratory) -> None:
    [(run, _)] = runs.list_runs(screened.store)
    record = erased(screened)
    [(left, _)] = runs.list_runs(screened.store)
    [one] = record.erasures
    assert one.runs == {run.run_id: left.run_id}
    assert one.objects > 5
    assert one.finished is not None and one.started <= one.finished
    assert one.version
    assert read_erased(screened.store, "Ada") == record
    assert "Ada" not in record.model_dump_json()


def test_a_patient_of_several_runs_is_erased_from_all(screened: Laboratory) -> None:
    screened.add("Ada/4.jpg", "image a 4")
    screened.screen()
    record = erased(screened)
    assert len(record.erasures[-1].runs) == 2
    assert b"Ada" not in everything(screened)
    found = [patients(screened.store, run) for run, _ in runs.list_runs(screened.store)]
    assert found == [{"Ben", "Cy"}]


def test_the_last_patient_of_a_run_takes_the_run_along(laboratory: Laboratory) -> None:
    laboratory.add("Ada/1.jpg", "image")
    laboratory.screen()
    erased(laboratory)
    assert runs.list_runs(laboratory.store) == []
    assert laboratory.reports() == {}


def test_reports_whose_run_was_purged_are_erased_as_well(screened: Laboratory) -> None:
    [(run, _)] = runs.list_runs(screened.store)
    carry_out(screened.store, run, plan_purge(screened.store, run))
    erased(screened)
    assert not (screened.out / "patients" / "Ada").exists()
    assert (screened.out / "patients" / "Ben").exists()


def test_an_erasure_that_was_killed_is_finished_by_doing_it_again(
    template: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    killing: list[int] = []

    def counting(kind: type, name: str) -> None:
        real = getattr(kind, name)

        def call(self: object, *arguments: object) -> object:
            steps.append(name)
            if len(steps) in killing:
                raise KeyboardInterrupt
            return real(self, *arguments)

        monkeypatch.setattr(kind, name, call)

    for name in ("create", "replace", "delete"):
        counting(DirectoryStore, name)
    for name in ("write", "remove"):
        counting(DirectoryPublisher, name)
    before = {name: data for name, data in template.reports().items() if "Ben" in name}
    expected = copy_of(template)
    erased(expected)
    number = len(steps)
    assert number > 40
    for step in range(1, number + 1, 2):
        screened = copy_of(template)
        steps.clear()
        killing[:] = [step]
        with pytest.raises(KeyboardInterrupt):
            erased(screened)
        record = erased(screened)
        assert [one.finished is not None for one in record.erasures] == [True]
        assert b"Ada" not in everything(screened)
        assert screened.reports() == expected.reports()
        assert before.items() <= screened.reports().items()
        killing.clear()
        [(run, _)] = runs.list_runs(screened.store)
        assert runs.progress(screened.store, run).finished
        assert not runs.is_cancelled(screened.store, run)
        shutil.rmtree(screened.out)


def test_a_run_that_goes_on_is_refused_unless_it_is_cancelled(laboratory: Laboratory) -> None:
    laboratory.fill(2, 2)
    run = laboratory.freeze()
    with pytest.raises(ConfigurationError, match="screen cancel"):
        find(laboratory.store, laboratory.out, "P00", hard_limit=LIMIT)
    runs.cancel(laboratory.store, run)
    erased(laboratory, "P00")
    [(left, _)] = runs.list_runs(laboratory.store)
    assert runs.is_cancelled(laboratory.store, left)
    runs.uncancel(laboratory.store, left)
    laboratory.screen(left)
    assert [path.name for path in (laboratory.out / "patients").iterdir()] == ["P01"]


def test_nobody_is_erased_by_a_slip_of_the_pen(screened: Laboratory) -> None:
    with pytest.raises(ConfigurationError, match="nothing of a patient 'Adam'"):
        find(screened.store, screened.out, "Adam", hard_limit=LIMIT)


# --- afterwards -----------------------------------------------------------------------------


def test_a_watcher_leaves_the_patient_out_until_it_is_told_otherwise(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory = watching.laboratory
    for patient in ("Ada", "Ben"):
        laboratory.add(f"{patient}/1.jpg", f"image {patient}")
    watching.look()
    watching.look(after=100)
    watching.work()
    ben = (laboratory.out / "patients/Ben/report.json").read_bytes()
    erased(laboratory)
    watching.restart()
    laboratory.add("Ada/2.jpg", "image new")
    for _ in range(3):
        assert watching.look(after=100) is None
    assert "1 patients are left out" in caplog.text and "Ada" not in caplog.text
    assert b"Ada" not in everything(laboratory)
    laboratory.add("Ben/2.jpg", "image new of Ben")
    watching.look()
    watching.look(after=100)
    watching.work()
    assert (laboratory.out / "patients/Ben/revisions/001/report.json").read_bytes() == ben
    assert "Ada" not in (laboratory.out / "summary.csv").read_text()

    readmit(laboratory.store, "Ada")
    watching.look()
    assert watching.sources(watching.look(after=100)) == ["Ada/1.jpg", "Ada/2.jpg"]
    watching.work()
    assert watching.report("Ada") == {"Ada/1.jpg": "ok", "Ada/2.jpg": "ok"}
    record = erased(laboratory)
    assert len(record.erasures) == 2
    assert kept_out(laboratory.store, ["Ada", "Ben"]) == {"Ada"}


def test_the_overview_of_a_watched_source_loses_the_patient(watching: Watching) -> None:
    laboratory = watching.laboratory
    for patient in ("Ada", "Ben"):
        laboratory.add(f"{patient}/1.jpg", f"image {patient}")
        watching.look()
        watching.look(after=100)
        watching.work()
    # The run that the index names is that of the other patient.
    erased(laboratory)
    assert "Ada" not in (laboratory.out / "index.html").read_text()
    assert "Ben" in (laboratory.out / "summary.csv").read_text()


def test_only_who_was_erased_is_readmitted(screened: Laboratory) -> None:
    with pytest.raises(ConfigurationError, match="was not erased"):
        readmit(screened.store, "Ada")
    record = erased(screened)
    path = screened.store.path / "erased" / f"{record.patient}.json"
    content = json.loads(path.read_bytes())
    content["erasures"][0]["finished"] = None
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match="finish it first"):
        readmit(screened.store, "Ada")
