"""Images whose report is published are tagged or moved where that was asked for."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rig.laboratory import BUCKET, Laboratory, make_laboratory, open_laboratory
from benchmarks.rig.stubs import model_of
from pipeline.errors import ConfigurationError
from pipeline.results import AnalysisOptions
from worker import moving, s3
from worker.finalise import write_reports
from worker.finished import Clearance, Handling, open_handling
from worker.place import Place
from worker.planning import EmptyArchiveError, plan
from worker.process import open_analyser, process_row
from worker.publish import read_published
from worker.records import RunRecord
from worker.runs import list_runs
from worker.watch import Waits, Watcher


class Watched:
    """A source that is looked at when it is told to be; every patient is taken at once."""

    def __init__(self, laboratory: Laboratory, target: Path | Place | None) -> None:
        self.laboratory, self.target = laboratory, target
        self.restart("move" if target is not None else "tag")

    def restart(self, what: str) -> None:
        laboratory = self.laboratory
        self._watcher = Watcher(
            laboratory.archive,
            laboratory.store,
            model=model_of(laboratory.bundle),
            bundle=str(laboratory.bundle),
            options=AnalysisOptions(explain="none"),
            waits=Waits(0, 0),
        )
        self.handling: Handling = open_handling(
            what, laboratory.archive, laboratory.out, self.target, across=False
        )
        self._clearance = Clearance(laboratory.archive, laboratory.store, self.handling)

    def look(self) -> RunRecord | None:
        try:
            found = plan(self.laboratory.archive)
        except EmptyArchiveError:
            return None
        run = self._watcher.take_in(found)
        self._clearance.take(found.rows())
        return run

    def work(self) -> None:
        """What workers and feeder do, in this process."""
        laboratory = self.laboratory
        settings = laboratory.settings()
        for run in (listed.run for listed in list_runs(laboratory.store)):
            analyser = open_analyser(run, settings)
            for position in range(run.images):
                process_row(laboratory.store, run, position, analyser, settings=settings)
            write_reports(laboratory.store, run, laboratory.out)

    def screen(self) -> None:
        """Everything that happens to what has arrived until now."""
        self.look()
        self.work()
        self.look()

    def present(self) -> list[str]:
        return files(self.laboratory.archive)

    def moved(self) -> list[str]:
        assert self.target is not None
        return files(self.target)

    def report(self, patient: str) -> dict[str, str]:
        data = read_published(self.laboratory.out, f"patients/{patient}/report.json")
        assert data is not None
        return {image["source"]: image["status"] for image in json.loads(data)["images"]}


def files(place: Path | Place) -> list[str]:
    if isinstance(place, Place):
        return [key.removeprefix(place.prefix) for key in s3.keys_below(place.bucket, place.prefix)]
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def content(place: Path | Place, name: str) -> bytes | None:
    return read_published(place, name)


def write(place: Path | Place, name: str, data: bytes) -> None:
    if isinstance(place, Place):
        s3.client().put_object(Bucket=place.bucket, Key=f"{place.prefix}{name}", Body=data)
    else:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)


@pytest.fixture
def in_folder(laboratory: Laboratory) -> Watched:
    return Watched(laboratory, laboratory.folder / "done")


def in_bucket(folder: Path, bucket: str, target: Place | None) -> Watched:
    make_laboratory(folder)
    (folder / BUCKET).write_text(bucket)
    return Watched(open_laboratory(folder), target)


@pytest.fixture(params=["folder", "moto"])
def moved(request: pytest.FixtureRequest, tmp_path: Path) -> Watched:
    """A folder or a bucket whose images are moved."""
    if request.param == "folder":
        return request.getfixturevalue("in_folder")
    name = request.getfixturevalue("bucket" if request.param == "moto" else "swift_bucket")
    return in_bucket(tmp_path, name, Place(name, "done/"))


@pytest.mark.parametrize("moved", ["folder", "moto", "swift"], indirect=True)
def test_reported_images_move_and_the_reports_stay_as_they_are(moved: Watched) -> None:
    laboratory = moved.laboratory
    laboratory.add("P/1.jpg", "image 1")
    laboratory.add("P/a b/ü.jpg", "image 2")
    laboratory.add("P/broken.jpg", "bad")
    moved.look()
    moved.look()
    assert moved.moved() == []
    moved.work()
    before = laboratory.reports()
    moved.look()
    assert moved.moved() == ["P/1.jpg", "P/a b/ü.jpg"]
    # It may be mended and tried again.
    assert moved.present() == ["P/broken.jpg"]
    assert moved.look() is None
    moved.restart("move")
    assert moved.look() is None
    moved.work()
    assert laboratory.reports() == before
    # What comes later is reported beside them.
    laboratory.add("P/3.jpg", "image 3")
    moved.screen()
    assert moved.report("P") == {
        "P/1.jpg": "ok",
        "P/3.jpg": "ok",
        "P/a b/ü.jpg": "ok",
        "P/broken.jpg": "failed",
    }
    assert moved.moved() == ["P/1.jpg", "P/3.jpg", "P/a b/ü.jpg"]
    assert content(moved.target, "P/3.jpg") == b"image 3"
    assert len(laboratory.computed()) == 4


def test_nothing_is_moved_over_something_else(moved: Watched) -> None:
    moved.laboratory.add("P/1.jpg", "image 1")
    write(moved.target, "P/1.jpg", b"image of somebody else's")
    moved.screen()
    moved.screen()
    assert content(moved.target, "P/1.jpg") == b"image of somebody else's"
    assert content(moved.laboratory.archive, "P/1.jpg") == b"image 1"


def test_a_move_that_was_killed_in_the_middle_is_finished(moved: Watched) -> None:
    """The copy is there, and the original still is."""
    moved.laboratory.add("P/1.jpg", "image 1")
    moved.look()
    moved.work()
    write(moved.target, "P/1.jpg", b"image 1")
    moved.restart("move")
    moved.look()
    assert (moved.present(), moved.moved()) == ([], ["P/1.jpg"])


def test_an_image_that_was_replaced_since_is_a_new_one(moved: Watched) -> None:
    moved.laboratory.add("P/1.jpg", "image 1")
    moved.laboratory.add("P/2.jpg", "image 2")
    moved.look()
    moved.work()
    moved.laboratory.add("P/1.jpg", "image 1, another")
    moved.look()
    assert content(moved.laboratory.archive, "P/1.jpg") == b"image 1, another"
    moved.work()
    moved.look()
    assert content(moved.target, "P/1.jpg") == b"image 1, another"
    assert len(list_runs(moved.laboratory.store)) == 2


def test_a_replacement_at_the_last_moment_is_not_lost(
    in_folder: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the copy and the removal of the original."""
    path = in_folder.laboratory.add("P/1.jpg", "image 1")
    in_folder.look()
    in_folder.work()
    real = moving._give_name

    def replace(file: Path, target: Path) -> bool:
        found = real(file, target)
        path.unlink()
        path.write_text("image of another")
        return found

    monkeypatch.setattr(moving, "_give_name", replace)
    in_folder.look()
    assert path.read_text() == "image of another"
    assert (in_folder.target / "P" / "1.jpg").read_text() == "image 1"


@pytest.mark.parametrize("links_there", [True, False])
def test_a_file_moves_to_another_disk(
    in_folder: Watched, monkeypatch: pytest.MonkeyPatch, links_there: bool
) -> None:
    path = in_folder.laboratory.add("P/1.jpg", "image 1")
    times = path.stat().st_mtime_ns
    write(in_folder.target, "P/.1.jpg.screen-part", b"half a cop")
    in_folder.laboratory.add("P/2.jpg", "image 2")
    write(in_folder.target, "P/2.jpg", b"somebody else's")
    in_folder.look()
    in_folder.work()
    real = os.link

    def link(source: Path, target: Path, **more: Any) -> None:
        if not links_there or ".screen-part" not in str(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target, **more)

    monkeypatch.setattr(os, "link", link)
    in_folder.look()
    assert in_folder.moved() == ["P/1.jpg", "P/2.jpg"]
    assert in_folder.present() == ["P/2.jpg"]
    assert content(in_folder.target, "P/2.jpg") == b"somebody else's"
    assert (in_folder.target / "P" / "1.jpg").stat().st_mtime_ns == times


def test_what_a_link_leads_to_is_not_moved(in_folder: Watched) -> None:
    path = in_folder.laboratory.add("P/1.jpg", "image 1")
    (path.parent / "link.jpg").symlink_to("1.jpg")
    in_folder.screen()
    assert in_folder.moved() == ["P/1.jpg"]
    assert (path.parent / "link.jpg").is_symlink()


def test_a_table_does_not_wait_for_what_was_moved(in_folder: Watched) -> None:
    in_folder.laboratory.add("P/1.jpg", "image 1")
    in_folder.laboratory.add("P/_manifest.csv", "file\n1.jpg\n")
    in_folder.screen()
    assert "P/1.jpg" in in_folder.moved()
    in_folder.laboratory.add("P/2.jpg", "image 2")
    in_folder.screen()
    assert in_folder.report("P") == {"P/1.jpg": "ok", "P/2.jpg": "ok"}


# --- tags ---------------------------------------------------------------------------------------


@pytest.fixture
def tagged(tmp_path: Path, bucket: str) -> Watched:
    return in_bucket(tmp_path, bucket, None)


def tags(watched: Watched, name: str) -> dict[str, str]:
    archive = watched.laboratory.archive
    key = f"{archive.prefix}{name}"
    found = s3.client().get_object_tagging(Bucket=archive.bucket, Key=key)
    return {tag["Key"]: tag["Value"] for tag in found["TagSet"]}


def test_reported_images_get_tags_beside_those_they_have(
    tagged: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory = tagged.laboratory
    for name, data in (("P/1.jpg", "image 1"), ("P/bad.jpg", "bad")):
        laboratory.add(name, data)
    archive = laboratory.archive
    s3.client().put_object_tagging(
        Bucket=archive.bucket,
        Key=f"{archive.prefix}P/1.jpg",
        Tagging={"TagSet": [{"Key": "ward", "Value": "7"}]},
    )
    run = tagged.look()
    assert run is not None
    assert tags(tagged, "P/1.jpg") == {"ward": "7"}
    tagged.work()
    tagged.look()
    wanted = {"ward": "7", "screen": "reported", "screen-run": run.run_id}
    assert tags(tagged, "P/1.jpg") == wanted
    assert tags(tagged, "P/bad.jpg") == {}
    # Neither a tag nor a restart makes it another image, and what is done is not done again.
    monkeypatch.setattr(s3.client(), "put_object_tagging", never)
    tagged.restart("tag")
    assert tagged.look() is None
    laboratory.store.delete(next(laboratory.store.list("cleared/")))
    tagged.restart("tag")
    assert tagged.look() is None


def never(**_: object) -> None:
    raise AssertionError("tagged again")


def test_an_object_with_all_its_tags_keeps_no_other_back(
    tagged: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory = tagged.laboratory
    laboratory.add("P/1.jpg", "image 1")
    laboratory.add("Q/1.jpg", "image 2")
    archive = laboratory.archive
    full = [{"Key": f"k{number}", "Value": "v"} for number in range(10)]
    s3.client().put_object_tagging(
        Bucket=archive.bucket, Key=f"{archive.prefix}P/1.jpg", Tagging={"TagSet": full}
    )
    tagged.screen()
    assert tags(tagged, "Q/1.jpg")["screen"] == "reported"
    assert "as many tags as it may have" in caplog.text


def test_a_server_without_tags_says_so(
    tmp_path: Path, swift_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    watched = in_bucket(tmp_path, swift_bucket, None)
    watched.laboratory.add("P/1.jpg", "image 1")
    watched.screen()
    assert "no tags for objects" in caplog.text
    assert watched.present() == ["P/1.jpg"]


# --- what makes no sense ------------------------------------------------------------------------

A, OUT = Place("b", "in/"), Place("b", "out/")


@pytest.mark.parametrize(
    ("what", "source", "target", "says"),
    [
        ("tag", Path("/in"), None, "files have no tags"),
        ("tag", A, Place("b", "done/"), "--move-to is for"),
        ("move", A, None, "needs --move-to"),
        ("move", A, Place("b", "in/done/"), "SOURCE"),
        ("move", A, Place("b", ""), "SOURCE"),
        ("move", A, Place("b", "out/done/"), "--out"),
        ("move", A, Place("c", "done/"), "--other-bucket"),
        ("move", A, Path("/done"), "both be folders"),
        ("move", Path("/in"), Path("/in/done"), "SOURCE"),
    ],
)
def test_what_makes_no_sense_is_refused(
    what: str, source: Path | Place, target: Path | Place | None, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        open_handling(what, source, OUT, target, across=False)


def test_another_bucket_has_to_be_asked_for() -> None:
    assert open_handling("move", A, OUT, Place("c", "done/"), across=True)
