"""Whose the images of an archive are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from tests.worker.listings import archive, listed, refused
from worker.planning import plan, plan_files


def test_a_patient_is_a_first_level_folder(tmp_path: Path) -> None:
    archive(tmp_path, "P1/a.jpg", "P1/day 2/b.png", "P2/a.jpg", "c.tif")
    assert listed(plan(tmp_path)) == {
        "P1/a.jpg": "P1",
        "P1/day 2/b.png": "P1",
        "P2/a.jpg": "P2",
        "c.tif": "_root",
    }


def test_rows_are_sorted_by_patient_then_path(tmp_path: Path) -> None:
    archive(tmp_path, "b/2.jpg", "b/10.jpg", "a/z.jpg", "B/a.jpg", "a.jpg", "é/a.jpg")
    order = [(row.patient, row.source) for row in plan(tmp_path).rows()]
    assert order == sorted(order)
    assert len(order) == 6


def test_a_folder_called_root_beside_images_at_the_root_is_an_error(tmp_path: Path) -> None:
    archive(tmp_path, "_root/a.jpg")
    assert listed(plan(tmp_path)) == {"_root/a.jpg": "_root"}
    archive(tmp_path, "b.jpg")
    with pytest.raises(ConfigurationError, match="rename the folder"):
        plan(tmp_path)


def test_size_and_modification_time_tell_versions_of_a_file_apart(tmp_path: Path) -> None:
    archive(tmp_path, "P/a.jpg")
    first = list(plan(tmp_path).rows())
    assert first == list(plan(tmp_path).rows())
    os.utime(tmp_path / "P/a.jpg", ns=(1, 1))
    [row] = plan(tmp_path).rows()
    assert (row.size, row.version) == (1, "1")
    assert [row] != first


def table(folder: Path, content: str | bytes) -> Path:
    path = folder / "patients.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    return archive(tmp_path / "slides", "x/a.jpg", "x/b, c.jpg", "ü.jpg")


WANTED = {"x/a.jpg": "P1", "x/b, c.jpg": "P2", "ü.jpg": "Pü"}


@pytest.mark.parametrize(
    "content",
    [
        'file,patient\nx/a.jpg,P1\n"x/b, c.jpg",P2\nü.jpg,Pü\n',
        '"Patient","File"\r\nP1,x\\a.jpg\r\n P2 ,"x/b, c.jpg"\r\nPü,./ü.jpg',
        "\ufefffile;patient;age\nx/a.jpg;P1;3\nx/b, c.jpg;P2;\nü.jpg;Pü;9\n;;\n\n",
        "sep=;\nfile;patient\nx/a.jpg;P1\nx/b, c.jpg;P2\nü.jpg;Pü\n",
        "file\tpatient\nx/a.jpg\tP1\nx/b, c.jpg\tP2\nü.jpg\tPü\n".encode("utf-16"),
        'file,patient\nx/a.jpg,P1\nx/a.jpg,P1\n"x/b, c.jpg",P2\nu\u0308.jpg,Pü\n',
    ],
    ids=["plain", "quoted", "semicolons", "sep", "utf-16", "repeated, decomposed"],
)
def test_a_table_says_whose_each_file_is(
    slides: Path, tmp_path: Path, content: str | bytes
) -> None:
    assert listed(plan(slides, patients=table(tmp_path, content))) == WANTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must name the columns file and patient"),
        ("name,patient\nx/a.jpg,P1\n", "must name the columns"),
        ("file,patient\nx/a.jpg,P1\n", r"no patient for 2 of the images: 'x/b, c.jpg', 'ü.jpg'"),
        ("file;patient\nx/a.jpg;\n", "line 2: the patient's name is empty"),
        ("file;patient\nx/a.jpg\n", "line 2: a file and its patient are expected"),
        ("file;patient\n;P\n", "line 2: the file's name is empty"),
        ('file;patient\nx/a.jpg;"P1\nx/b, c.jpg;P2\n', "check the quotes"),
        ('file;patient\nx/a.jpg;"P\n1"\n', "characters that are not text"),
        ("file;patient\nx/a.jpg;P1\nx/a.jpg;P2\n", "'P1' in line 2 and to 'P2' in line 3"),
        ("file;patient\nx/a.jpg;P\nx/b, c.jpg;P\nü.jpg;P\ny.jpg;P\n", "not below .*: 'y.jpg'"),
        ("file;patient\nü.jpg;P\n".encode("cp1252"), "line 2: not UTF-8 text; save it again"),
    ],
)
def test_a_table_that_is_wrong_says_where(
    slides: Path, tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan(slides, patients=table(tmp_path, content))


def test_a_table_that_names_a_file_that_is_no_image_is_wrong(slides: Path, tmp_path: Path) -> None:
    archive(slides, "notes.txt")
    content = "file;patient\nx/a.jpg;P\nx/b, c.jpg;P\nü.jpg;P\nnotes.txt;P\n"
    with pytest.raises(ConfigurationError, match=r"not listed as images: 'notes.txt'"):
        plan(slides, patients=table(tmp_path, content))


def test_a_missing_table_is_an_error(slides: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        plan(slides, patients=tmp_path / "absent.csv")


# --- a pattern ------------------------------------------------------------------------------

PATTERN = r"(?P<patient>[A-Z]\d+)_.*"


def test_a_pattern_finds_the_patient_in_the_path(tmp_path: Path) -> None:
    archive(tmp_path, "A1_x.jpg", "A1_/y.jpg", "B22_new\nline.jpg")
    assert listed(plan(tmp_path, pattern=PATTERN)) == {
        "A1_x.jpg": "A1",
        "A1_/y.jpg": "A1",
        "B22_new\nline.jpg": "B22",
    }


def test_images_that_the_pattern_does_not_match_are_an_error(tmp_path: Path) -> None:
    archive(tmp_path, "A1_x.jpg", *(f"z{number}.jpg" for number in range(7)))
    with pytest.raises(ConfigurationError, match=r"7 of the images: 'z0.jpg'.* and 2 more"):
        plan(tmp_path, pattern=PATTERN)


def test_a_pattern_must_match_the_whole_path(tmp_path: Path) -> None:
    archive(tmp_path, "P12_x.jpg")
    with pytest.raises(ConfigurationError, match="match the whole path"):
        plan(tmp_path, pattern=r"(?P<patient>P\d)")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "not a regular expression"), (r"(\d+)_.*", "does not say which part")],
)
def test_a_pattern_that_cannot_work_says_why(tmp_path: Path, pattern: str, message: str) -> None:
    archive(tmp_path, "1_x.jpg")
    with pytest.raises(ConfigurationError, match=message):
        plan(tmp_path, pattern=pattern)


def test_a_pattern_that_finds_no_name_does_not_match(tmp_path: Path) -> None:
    archive(tmp_path, "_x.jpg")
    with pytest.raises(ConfigurationError, match="does not match 1"):
        plan(tmp_path, pattern=r"(?P<patient>\d*)_.*")


def test_rules_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="exclude each other"):
        plan(archive(tmp_path, "1_x.jpg"), pattern=PATTERN, patient="P")


# --- single files ---------------------------------------------------------------------------


def test_single_files_belong_to_the_patient_that_is_named(tmp_path: Path) -> None:
    archive(tmp_path, "x/a.jpg", "x/y/b.tif")
    files = [tmp_path / "x/a.jpg", tmp_path / "x/y/b.tif", tmp_path / "x/y/../a.jpg"]
    planned = plan_files(files, " P-17 ")
    assert listed(planned) == {"a.jpg": "P-17", "y/b.tif": "P-17"}
    assert planned.root == tmp_path / "x"


def test_a_file_that_was_asked_for_is_never_ignored(tmp_path: Path) -> None:
    archive(tmp_path, "a.dat", "b.svs", ".c.jpg")
    files = [tmp_path / name for name in ("a.dat", "b.svs", ".c.jpg")]
    planned = plan_files(files, "P")
    assert refused(planned) == {"a.dat": "unsupported_format", "b.svs": "unsupported_format"}
    assert ".c.jpg" in listed(planned)
    assert planned.ignored == 0


def test_a_link_among_single_files_obeys_the_same_rule(tmp_path: Path) -> None:
    archive(tmp_path, "x/a.jpg", "y/b.jpg")
    (tmp_path / "x/link.jpg").symlink_to("../y/b.jpg")
    assert refused(plan_files([tmp_path / "x/link.jpg"], "P")) == {"link.jpg": "outside_root"}


def test_single_files_that_cannot_be_had_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        plan_files([tmp_path / "absent.jpg"], "P")
    with pytest.raises(ConfigurationError, match="is a folder"):
        plan_files([tmp_path], "P")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m", "\udcff"])
def test_a_patient_needs_a_name_that_can_be_read(tmp_path: Path, name: str) -> None:
    archive(tmp_path, "a.jpg")
    with pytest.raises(ConfigurationError, match="--patient"):
        plan_files([tmp_path / "a.jpg"], name)


def test_a_whole_folder_may_belong_to_one_patient(tmp_path: Path) -> None:
    archive(tmp_path, "day 1/a.jpg", "b.jpg")
    assert listed(plan(tmp_path, patient="P")) == {"day 1/a.jpg": "P", "b.jpg": "P"}
