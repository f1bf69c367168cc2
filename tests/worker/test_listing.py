"""Which files of an archive become rows of the manifest."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigurationError
from tests.worker.listings import archive, listed, refused
from worker.listing import source_of
from worker.planning import plan

NOBODY = 65534


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Permissions mean nothing to root, who must step down to test them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into; pytest's own are private."""
    path = Path(tempfile.mkdtemp(prefix="screen-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("ending", ["jpg", "JPG", "jpeg", "Png", "bmp", "tif", "TIFF"])
def test_images_are_known_by_their_extension_in_any_case(tmp_path: Path, ending: str) -> None:
    archive(tmp_path, f"P/a.b.{ending}")
    assert listed(plan(tmp_path)) == {f"P/a.b.{ending}": "P"}


def test_other_files_are_counted_as_ignored(tmp_path: Path) -> None:
    archive(tmp_path, "P/a.jpg", "P/notes.txt", "P/README", "P/Thumbs.db", "P/._a.jpg")
    archive(tmp_path, ".hidden/b.jpg", "P/@eaDir/thumb.jpg", "__MACOSX/c.jpg", "P/jpg")
    planned = plan(tmp_path)
    assert listed(planned) == {"P/a.jpg": "P"}
    assert planned.ignored == 8


def test_pictures_of_other_kinds_are_mentioned(tmp_path: Path) -> None:
    archive(tmp_path, "P/a.jpg", "P/b.heic", "P/c.HEIC", "P/d.webp")
    planned = plan(tmp_path)
    assert planned.ignored == 3
    assert "2 .heic, 1 .webp" in planned.notes[0]


@pytest.mark.parametrize("name", ["a.svs", "a.NDPI", "a.mrxs", "a.vsi", "a.dcm", "a.isyntax"])
def test_whole_slides_and_dicom_are_refused_by_name(tmp_path: Path, name: str) -> None:
    archive(tmp_path, f"P/{name}")
    [row] = plan(tmp_path).rows()
    assert row.refused is not None
    assert row.refused.reason == "unsupported_format"
    assert "export the fields" in row.refused.message


def test_a_pipe_called_jpg_is_refused(tmp_path: Path) -> None:
    (tmp_path / "P").mkdir()
    os.mkfifo(tmp_path / "P/a.jpg")
    assert refused(plan(tmp_path)) == {"P/a.jpg": "not_a_file"}


def test_a_folder_called_jpg_is_a_folder(tmp_path: Path) -> None:
    archive(tmp_path, "P.jpg/a.jpg")
    assert listed(plan(tmp_path)) == {"P.jpg/a.jpg": "P.jpg"}


def test_the_reports_are_left_out(tmp_path: Path) -> None:
    archive(tmp_path, "P/a.jpg", "reports/patients/P/field.png", "reports/other.png")
    planned = plan(tmp_path, leave_out=tmp_path / "reports")
    assert listed(planned) == {"P/a.jpg": "P"}
    assert planned.ignored == 0
    (tmp_path / "P/link").symlink_to(tmp_path / "reports/patients")
    assert listed(plan(tmp_path, leave_out=tmp_path / "reports")) == {"P/a.jpg": "P"}


def test_reports_of_an_earlier_run_are_left_out_with_a_note(tmp_path: Path) -> None:
    archive(tmp_path, "P/a.jpg", "old/patients/P/field.png", "old/store/schema.json")
    planned = plan(tmp_path, leave_out=tmp_path / "new")
    assert listed(planned) == {"P/a.jpg": "P"}
    assert planned.notes == ["old holds results of an earlier run and is left out"]


def test_the_archive_cannot_be_the_folder_of_the_reports(tmp_path: Path) -> None:
    archive(tmp_path, "P/a.jpg")
    with pytest.raises(ConfigurationError, match="another --out"):
        plan(tmp_path, leave_out=tmp_path / "P" / "..")


@pytest.mark.parametrize(
    ("root", "message"),
    [("absent", "No such file"), ("file.txt", "not a folder"), ("empty", "has no images")],
)
def test_an_archive_without_images_is_an_error(tmp_path: Path, root: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(ConfigurationError, match=message):
        plan(tmp_path / root)


# --- links ----------------------------------------------------------------------------------


def test_a_link_out_of_the_root_is_a_failed_row(tmp_path: Path) -> None:
    archive(tmp_path, "outside/b.jpg", "root/P/a.jpg")
    (tmp_path / "root/P/link.jpg").symlink_to(tmp_path / "outside/b.jpg")
    (tmp_path / "root/P/gone.jpg").symlink_to(tmp_path / "outside/absent.jpg")
    (tmp_path / "root/Q").symlink_to(tmp_path / "outside")
    planned = plan(tmp_path / "root")
    assert refused(planned) == dict.fromkeys(["P/link.jpg", "P/gone.jpg", "Q"], "outside_root")
    assert listed(planned)["Q"] == "Q"


def test_a_folder_whose_name_begins_like_the_root_is_outside(tmp_path: Path) -> None:
    archive(tmp_path, "root2/b.jpg", "root/P/a.jpg")
    (tmp_path / "root/P/link.jpg").symlink_to(tmp_path / "root2/b.jpg")
    assert refused(plan(tmp_path / "root")) == {"P/link.jpg": "outside_root"}


def test_links_within_the_root_are_followed(tmp_path: Path) -> None:
    archive(tmp_path, "P/a.jpg", "P/deep/b.jpg")
    (tmp_path / "P/again.jpg").symlink_to("a.jpg")
    (tmp_path / "Q").symlink_to("P")
    planned = plan(tmp_path)
    assert not refused(planned)
    assert set(listed(planned)) == {
        *("P/a.jpg", "P/again.jpg", "P/deep/b.jpg"),
        *("Q/a.jpg", "Q/again.jpg", "Q/deep/b.jpg"),
    }


def test_a_root_reached_through_a_link_is_the_same_root(tmp_path: Path) -> None:
    archive(tmp_path, "root/P/a.jpg")
    (tmp_path / "link").symlink_to("root")
    assert plan(tmp_path / "link") == plan(tmp_path / "root")


def test_links_that_lead_in_circles_come_to_an_end(tmp_path: Path) -> None:
    archive(tmp_path, "P/a.jpg", "Q/b.jpg")
    (tmp_path / "P/up").symlink_to("..")
    (tmp_path / "P/q").symlink_to("../Q")
    (tmp_path / "Q/p").symlink_to("../P")
    (tmp_path / "Q/self.jpg").symlink_to("self.jpg")
    planned = plan(tmp_path)
    assert set(listed(planned)) == {
        *("P/a.jpg", "P/q/b.jpg", "P/q/self.jpg"),
        *("Q/b.jpg", "Q/self.jpg", "Q/p/a.jpg"),
    }
    assert refused(planned) == {"Q/self.jpg": "missing", "P/q/self.jpg": "missing"}
    assert any(note.startswith("P/up is a link") for note in planned.notes)


def test_a_maze_of_links_is_an_error_instead_of_a_listing_without_end(tmp_path: Path) -> None:
    names = [f"P{number}" for number in range(8)]
    archive(tmp_path, *(f"{name}/a.jpg" for name in names))
    for name in names:
        for other in set(names) - {name}:
            (tmp_path / name / other).symlink_to(f"../{other}")
    with pytest.raises(ConfigurationError, match="remove the links"):
        plan(tmp_path)


def test_a_broken_link_is_a_failed_row_if_it_may_have_been_an_image(tmp_path: Path) -> None:
    (tmp_path / "P").mkdir()
    for name in ("a.jpg", "fields", "notes.txt"):
        (tmp_path / "P" / name).symlink_to("gone")
    planned = plan(tmp_path)
    assert refused(planned) == {"P/a.jpg": "missing", "P/fields": "missing"}
    assert planned.ignored == 1


# --- permissions ----------------------------------------------------------------------------


def test_an_unreadable_folder_is_a_failed_row(open_folder: Path) -> None:
    archive(open_folder, "P/a.jpg", "Q/b.jpg", "R/day/c.jpg")
    for name in ("Q", "R/day"):
        (open_folder / name).chmod(0)
    with ordinary_user():
        planned = plan(open_folder)
    assert refused(planned) == {"Q": "unreadable", "R/day": "unreadable"}
    assert listed(planned) == {"P/a.jpg": "P", "Q": "Q", "R/day": "R"}


def test_a_folder_whose_files_cannot_be_looked_at_loses_none(open_folder: Path) -> None:
    archive(open_folder, "P/a.jpg", "P/b.txt", "P/day.x/c.jpg")
    (open_folder / "P").chmod(0o444)
    with ordinary_user():
        planned = plan(open_folder)
    assert refused(planned) == {"P/a.jpg": "unreadable", "P/day.x": "unreadable"}
    assert planned.ignored == 1


def test_an_unreadable_root_is_an_error(open_folder: Path) -> None:
    archive(open_folder, "root/a.jpg")
    (open_folder / "root").chmod(0)
    with ordinary_user(), pytest.raises(ConfigurationError, match="permission to read"):
        plan(open_folder / "root")


def test_an_unreadable_file_is_listed(open_folder: Path) -> None:
    archive(open_folder, "P/a.jpg")
    (open_folder / "P/a.jpg").chmod(0)
    with ordinary_user():
        planned = plan(open_folder)
    assert listed(planned) == {"P/a.jpg": "P"}


# --- names ----------------------------------------------------------------------------------


def test_names_with_blanks_newlines_and_other_scripts_are_kept(tmp_path: Path) -> None:
    names = ["P 1/a b.jpg", "P\n2/new\nline.jpg", "患者/血液.png", "Größe/ä.tif", "P/%41.jpg"]
    archive(tmp_path, *names)
    assert set(listed(plan(tmp_path))) == set(names)
    assert all(row.raw is None for row in plan(tmp_path).rows())


def test_names_that_are_no_text_can_be_shown_and_read(tmp_path: Path) -> None:
    names = [b"P/\xff.jpg", b"P/\\xff.jpg", b"\xe9/a.jpg"]
    for name in names:
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    rows = list(plan(tmp_path).rows())
    assert [(row.patient, row.source) for row in rows] == [
        ("P", r"P/\x5cxff.jpg"),
        ("P", r"P/\xff.jpg"),
        (r"\xe9", r"\xe9/a.jpg"),
    ]
    assert {unquote_to_bytes(row.raw or "") for row in rows} == set(names)


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
@settings(max_examples=300)
def test_a_row_names_its_file_exactly(path: bytes) -> None:
    source, raw = source_of(path)
    assert (source.encode("utf-8") if raw is None else unquote_to_bytes(raw)) == path
    assert source.encode("utf-8")


@given(st.binary(min_size=1, max_size=6), st.binary(min_size=1, max_size=6))
@settings(max_examples=300)
def test_different_files_are_shown_differently(one: bytes, other: bytes) -> None:
    assert (source_of(one)[0] == source_of(other)[0]) == (one == other)
