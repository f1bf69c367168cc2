"""``screen submit``: from an archive to reports, with real processes."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.conftest import Screen
from worker import space

#: linux/prctl.h, linux/capability.h
PR_CAPBSET_DROP = 24
LAST_CAPABILITY = 40


def reports(screen: Screen) -> dict[str, Any]:
    found = (screen.out / "patients").glob("*/report.json")
    loaded = [json.loads(path.read_bytes()) for path in found]
    return {report["patient"]: report for report in loaded}


def test_an_archive_becomes_a_report_for_each_patient(screen: Screen) -> None:
    screen.add("P1/a.jpg", "P1/b.jpg", "P2/c.png", "notes.txt")
    result = screen("submit", screen.slides)
    assert result.exit_code == 0, result.output
    assert set(reports(screen)) == {"P1", "P2"}
    assert "2 patients, 3 images (3 judged, 0 failed); 1 other file ignored" in result.stdout
    assert f"Reports: {screen.out / 'index.html'}" in result.stdout
    assert "3 of 3 images" in result.stderr


def test_submitting_again_computes_nothing_and_says_so(screen: Screen) -> None:
    screen.add("P1/a.jpg", "P2/b.jpg")
    first = screen.json("submit", screen.slides)
    before = {path: path.read_bytes() for path in screen.out.rglob("*.json")}
    again = screen.json("submit", screen.slides)
    assert (first["finished_now"], again["finished_now"]) == (2, 0)
    assert first["run_id"] == again["run_id"]
    assert screen.computed() == 2
    unchanged = [path for path in before if "log" not in path.parts]
    assert all(path.read_bytes() == before[path] for path in unchanged)
    result = screen("submit", screen.slides)
    assert "Everything was done before" in result.stdout


def test_a_new_image_costs_one_computation(screen: Screen) -> None:
    screen.add("P1/a.jpg")
    screen("submit", screen.slides)
    screen.add("P1/b.jpg")
    assert screen.json("submit", screen.slides)["images"] == 2
    assert screen.computed() == 2


def test_single_files_need_a_patient(screen: Screen) -> None:
    screen.add("a.jpg", "b.tif")
    files = [screen.slides / "a.jpg", screen.slides / "b.tif"]
    error = screen.json("submit", *files, status=1)["error"]
    assert error["kind"] == "configuration"
    assert "--patient" in error["message"]
    assert screen.json("submit", *files, "--patient", "P-17")["images"] == 2
    assert [image["source"] for image in reports(screen)["P-17"]["images"]] == ["a.jpg", "b.tif"]


def test_a_table_and_a_pattern_say_whose_images_they_are(screen: Screen) -> None:
    screen.add("A1_x.jpg", "B2_y.jpg")
    table = screen.folder / "patients.csv"
    table.write_text("file;patient\nA1_x.jpg;Ann\nB2_y.jpg;Bob\n")
    assert screen("submit", screen.slides, "--patients", table).exit_code == 0
    assert set(reports(screen)) == {"Ann", "Bob"}
    pattern = r"(?P<patient>[A-Z]\d+)_.*"
    assert screen("submit", screen.slides, "--patient-pattern", pattern).exit_code == 0
    assert set(reports(screen)) == {"Ann", "Bob", "A1", "B2"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "absent cannot be submitted: No such file"),
        (["P1", "P2"], "submit the one folder that contains all patients"),
        (["P1/a.jpg", "--patient-pattern", "x"], "single files need --patient"),
        ([".", "--patient", "x", "--patient-pattern", "y"], "exclude each other"),
        ([".", "--bundle", "absent"], "is not a model bundle"),
        ([".", "--out", "."], "cannot be both the archive and the folder for the reports"),
    ],
)
def test_what_cannot_be_submitted_is_explained(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    screen.add("P1/a.jpg", "P2/b.jpg")
    monkeypatch.chdir(screen.slides)
    result = screen("submit", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not screen.out.exists()


def test_a_setting_that_is_wrong_is_named(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.add("P1/a.jpg")
    monkeypatch.setenv("SCREEN_WINDOW", "many")
    result = screen("submit", screen.slides)
    assert result.exit_code == 1
    assert "SCREEN_WINDOW" in result.stderr


def test_wrong_usage_exits_with_2(screen: Screen) -> None:
    assert screen("submit").exit_code == 2
    assert screen("submit", screen.slides, "--explain", "some").exit_code == 2


def test_a_broker_that_does_not_answer_is_an_error(screen: Screen) -> None:
    screen.add("P1/a.jpg")
    url = "redis://:secret@127.0.0.1:1/0"
    result = screen("submit", screen.slides, "--broker", url)
    assert result.exit_code == 1
    assert "does not answer" in result.stderr
    assert "secret" not in result.stderr


def test_patients_that_a_windows_share_would_mix_are_refused(screen: Screen) -> None:
    screen.add("p1/a.jpg", "P1/b.jpg")
    assert screen("submit", screen.slides).exit_code == 0
    (screen.out / "STORE").mkdir()  # what a share without upper and lower case would answer to
    result = screen("submit", screen.slides)
    assert result.exit_code == 1
    assert "would overwrite each other" in result.stderr


def test_ctrl_c_stops_and_the_same_command_goes_on(screen: Screen) -> None:
    screen.add(*(f"P/{number}.jpg" for number in range(12)))
    (screen.bundle / "delay").write_text("0.3")
    process = screen.start("submit", screen.slides, start_new_session=True)
    until = time.monotonic() + 60
    while screen.computed() < 2 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "the same command continues this run" in errors
    assert "Traceback" not in errors
    (screen.bundle / "delay").write_text("0")
    answer = screen.json("submit", screen.slides)
    assert 0 < answer["finished_now"] < 12
    assert (answer["ok"], answer["failed"]) == (12, 0)


# --- an archive as archives are -------------------------------------------------------------


def huge_png() -> bytes:
    """The beginning of a PNG of 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


def jpeg(path: Path, shade: int = 200) -> bytes:
    image = (
        Image.effect_noise((240, 180), 40).convert("RGB").point(lambda value: value * shade // 255)
    )
    image.save(path, "JPEG", quality=95)
    return path.read_bytes()


@pytest.fixture
def laboratory(screen: Screen) -> Screen:
    return replace(screen, analyser="tests.cli.analysers:Decoding")


def ordinary_user() -> dict[str, Any]:
    """Options for a process to which permissions mean something, even if root starts it.

    Root loses its privileges rather than its name, so that it can still run a Python in /root.
    """
    if os.geteuid() != 0:
        return {}
    libc = ctypes.CDLL(None, use_errno=True)

    def drop_privileges() -> None:
        for capability in range(LAST_CAPABILITY + 1):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)

    options = {"preexec_fn": drop_privileges}
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).chmod(0)
        read = [sys.executable, "-c", "import sys; open(sys.argv[1])", file.name]
        if subprocess.run(read, stderr=subprocess.DEVNULL, check=False, **options).returncode == 0:
            pytest.skip("root keeps its privileges here; run the tests as an ordinary user")
    return options


#: What becomes of each file of the awkward archive: a reason, or None for a judged image.
AWKWARD: dict[str, str | None] = {
    "Bad/empty.jpg": "empty_file",
    "Bad/text.jpg": "not_an_image",
    "Bad/truncated.jpg": "truncated",
    "Bad/huge.png": "too_many_pixels",
    "Bad/locked.jpg": "unreadable",
    "Bad/link.jpg": "outside_root",
    "Good/one.jpg": None,
    "Good/copy of one.jpg": None,
    "Good/new\nline.jpg": None,
    "Good/血液 Größe.jpg": None,
    r"Good/\xff.jpg": None,
    "Größe 1\n/å.JPG": None,
}


def make_awkward_archive(screen: Screen) -> None:
    slides = screen.slides
    for folder in ("Bad", "Good", "Größe 1\n"):
        (slides / folder).mkdir()
    one = jpeg(slides / "Good/one.jpg")
    (slides / "Bad/empty.jpg").touch()
    (slides / "Bad/text.jpg").write_text("Dear colleague, please find enclosed ...")
    (slides / "Bad/truncated.jpg").write_bytes(one[: len(one) // 2])
    (slides / "Bad/huge.png").write_bytes(huge_png())
    (slides / "Bad/locked.jpg").write_bytes(one)
    (slides / "Bad/locked.jpg").chmod(0)
    (screen.folder / "outside.jpg").write_bytes(one)
    (slides / "Bad/link.jpg").symlink_to(screen.folder / "outside.jpg")
    (slides / "Good/copy of one.jpg").write_bytes(one)
    jpeg(slides / "Good/new\nline.jpg", 210)
    jpeg(slides / "Good/血液 Größe.jpg", 220)
    jpeg(slides / os.fsdecode(b"Good/\xff.jpg"), 230)
    jpeg(slides / "Größe 1\n/å.JPG", 240)
    (slides / "Good/notes.txt").write_text("ignored")


def test_nothing_of_an_awkward_archive_is_lost(laboratory: Screen) -> None:
    make_awkward_archive(laboratory)
    process = laboratory.start("submit", laboratory.slides, "--json", **ordinary_user())
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 3, output + errors
    answer = json.loads(output)
    found = {
        image["source"]: image["error"]["reason"] if image["status"] == "failed" else None
        for report in reports(laboratory).values()
        for image in report["images"]
    }
    assert found == AWKWARD
    assert answer["failures"] == {reason: 1 for reason in AWKWARD.values() if reason}
    assert (answer["images"], answer["ok"], answer["failed"]) == (12, 6, 6)
    assert answer["ignored"] == 1
    # Two files with the same content cost one computation.
    assert laboratory.computed() == 5


def test_an_awkward_archive_is_shown_without_harm(laboratory: Screen) -> None:
    make_awkward_archive(laboratory)
    process = laboratory.start("submit", laboratory.slides, "--processes", "2", **ordinary_user())
    output, _ = process.communicate(timeout=120)
    assert "Failed images: empty_file 1, not_an_image 1, outside_root 1" in output
    status = laboratory("status")
    assert status.exit_code == 0
    assert "Bad/locked.jpg (patient Bad): unreadable" in status.stdout
    shown = laboratory("show", "Größe 1\n")
    assert "Patient Größe 1\\n" in shown.stdout
    shown = laboratory("show", "Good")
    assert "Good/new\\nline.jpg: " in shown.stdout


def test_results_that_will_not_fit_are_said_before_the_run(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.add("P1/a.jpg")
    monkeypatch.setitem(space.BYTES_AN_IMAGE, "all", 10**15)
    notes = screen.json("submit", screen.slides)["notes"]
    assert "will not fit" in notes[0] and "1000000.0 GB are needed" in notes[0]
    assert screen.json("submit", screen.slides)["notes"] == []
