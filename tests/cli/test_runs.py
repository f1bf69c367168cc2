"""``screen status``, ``resume``, ``retry``, ``cancel`` and ``show``."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cli.status import NAMED_FAILURES
from tests.cli.conftest import Screen


def spoil(screen: Screen, *names: str) -> None:
    """Links that lead out of the archive: images that fail without being read."""
    outside = screen.folder / "outside.jpg"
    outside.write_text("image")
    for name in names:
        path = screen.slides / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(outside)


def freeze_only(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Submit, and lose power before the first image."""
    with monkeypatch.context() as patch:
        patch.setattr("cli.work._complete", lambda work: (_ for _ in ()).throw(KeyboardInterrupt))
        assert screen("submit", screen.slides).exit_code == 130


# --- status ---------------------------------------------------------------------------------


def test_status_without_reports_says_what_to_do(screen: Screen) -> None:
    result = screen("status")
    assert result.exit_code == 1
    assert "screen submit" in result.stderr


def test_status_tells_how_far_a_run_is_and_what_failed(screen: Screen) -> None:
    screen.add("P1/a.jpg", "P2/b.jpg")
    spoil(screen, "P2/new\nline.jpg")
    submitted = screen.json("submit", screen.slides, status=3)
    answer = screen.json("status")
    [run] = answer["runs"]
    assert run["run_id"] == submitted["run_id"]
    assert (run["images"], run["ok"], run["failed"], run["remaining"]) == (3, 2, 1, 0)
    assert run["root"] == screen.slides.as_uri()
    [failure] = run["failures"]
    assert failure["source"] == "P2/new\nline.jpg"
    assert (failure["patient"], failure["reason"]) == ("P2", "outside_root")
    text = screen("status").stdout
    assert "3 of 3 images, 1 failed, finished" in text
    assert "P2/new\\nline.jpg (patient P2): outside_root: " in text


def test_status_names_only_the_first_of_many_failures(screen: Screen) -> None:
    spoil(screen, *(f"P/{number:03}.jpg" for number in range(NAMED_FAILURES + 3)))
    screen("submit", screen.slides)
    text = screen("status").stdout
    assert text.count("outside_root") == NAMED_FAILURES
    assert "and 3 more" in text
    assert len(screen.json("status")["runs"][0]["failures"]) == NAMED_FAILURES + 3


def test_status_lists_the_run_submitted_last_first(screen: Screen) -> None:
    screen.add("P1/a.jpg")
    first = screen.json("submit", screen.slides)["run_id"]
    screen.add("P1/b.jpg")
    second = screen.json("submit", screen.slides)["run_id"]
    assert [run["run_id"] for run in screen.json("status")["runs"]] == [second, first]
    assert [run["run_id"] for run in screen.json("status", first)["runs"]] == [first]
    assert screen.json("status", "zzz", status=1)["error"]["kind"] == "configuration"


def test_status_and_resume_of_a_run_that_was_interrupted(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.add("P1/a.jpg", "P1/b.jpg")
    freeze_only(screen, monkeypatch)
    text = screen("status").stdout
    assert "0 of 2 images, 0 failed, 2 to do" in text
    assert "`screen resume` goes on" in text
    answer = screen.json("resume")
    assert (answer["ok"], answer["finished_now"]) == (2, 2)
    assert (screen.out / "patients/P1/report.json").exists()


def test_resume_refuses_another_model(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.add("P1/a.jpg")
    freeze_only(screen, monkeypatch)
    other = screen.folder / "other"
    shutil.copytree(screen.bundle, other)
    record = json.loads((other / "bundle.json").read_text())
    (other / "bundle.json").write_text(json.dumps(record | {"name": "another"}))
    result = screen("resume", "--bundle", other)
    assert result.exit_code == 1
    assert "start it with the same bundle" in result.stderr


# --- cancel ---------------------------------------------------------------------------------


def test_a_cancelled_run_rests_until_it_is_resumed(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.add("P1/a.jpg")
    freeze_only(screen, monkeypatch)
    run_id = screen.json("cancel")["run_id"]
    assert "cancelled" in screen("status").stdout
    assert screen.json("resume", run_id)["ok"] == 1


def test_a_run_that_is_cancelled_while_it_is_worked_at_exits_with_1(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.add("P1/a.jpg")
    freeze_only(screen, monkeypatch)
    screen("cancel")
    monkeypatch.setattr("worker.runs.uncancel", lambda store, run: None)
    error = screen.json("resume", status=1)["error"]
    assert error["kind"] == "cancelled"
    assert "screen resume" in error["message"]


# --- retry ----------------------------------------------------------------------------------


def test_retry_tries_again_what_failed(screen: Screen) -> None:
    screen.add("P1/a.jpg")
    (screen.slides / "P1/b.jpg").symlink_to("absent.jpg")
    assert screen.json("submit", screen.slides, status=3)["failures"] == {"missing": 1}
    answer = screen.json("retry", "--failed", status=3)
    assert answer["finished_now"] == 1
    assert any("need a new `screen submit`" in note for note in answer["notes"])
    assert screen.computed() == 1


def test_retry_judges_what_was_mended(screen: Screen) -> None:
    screen.add("P1/a.jpg", "P1/b.jpg")
    (screen.bundle / "spoilt").touch()
    tripping = Screen(screen.folder, analyser="tests.cli.analysers:Tripping")
    assert tripping.json("submit", screen.slides, status=3)["failures"] == {"internal_error": 2}
    (screen.bundle / "spoilt").unlink()
    answer = tripping.json("retry", "--failed")
    assert (answer["ok"], answer["failed"], answer["finished_now"]) == (2, 0, 2)


def test_retry_says_what_it_needs_to_know(screen: Screen) -> None:
    screen.add("P1/a.jpg")
    screen("submit", screen.slides)
    result = screen("retry")
    assert result.exit_code == 2
    assert "--failed" in result.stderr
    answer = screen.json("retry", "--failed")
    assert answer["notes"] == ["0 failed images are tried again"]


# --- show -----------------------------------------------------------------------------------


def test_show_tells_what_was_found(screen: Screen) -> None:
    screen.add("P 1/a.jpg", "P 1/b.jpg")
    spoil(screen, "P 1/c.jpg")
    screen("submit", screen.slides)
    text = screen("show", "P 1").stdout
    assert text.startswith("Patient P 1\nCall: ")
    assert "Images: 3 (2 ok, 1 failed)" in text
    assert "  P 1/a.jpg: " in text
    assert "  P 1/c.jpg: failed, outside_root: a link" in text
    assert "Research use only" in text
    assert str(screen.out / "patients/P%201/report.html") in text


def test_show_prints_the_report_as_it_is(screen: Screen) -> None:
    screen.add("a.jpg")
    screen("submit", screen.slides)
    result = screen("show", "_root", "--json")
    assert result.stdout.encode() == (screen.out / "patients/_root/report.json").read_bytes()


def test_show_helps_to_find_a_patient(screen: Screen) -> None:
    result = screen("show", "P1")
    assert result.exit_code == 1
    assert "has no reports" in result.stderr
    screen.add("P17/a.jpg", "Q/a.jpg")
    screen("submit", screen.slides)
    result = screen("show", "P71")
    assert result.exit_code == 1
    assert "similar: 'P17'" in result.stderr


@pytest.mark.parametrize("damage", ["", "{}", '{"schema_version": 99}'])
def test_show_refuses_a_report_that_is_damaged(screen: Screen, tmp_path: Path, damage: str) -> None:
    screen.add("P/a.jpg")
    screen("submit", screen.slides)
    (screen.out / "patients/P/report.json").write_text(damage)
    result = screen("show", "P")
    assert result.exit_code == 1
    assert "is damaged or of another version" in result.stderr


def test_a_run_can_be_left_to_a_service(screen: Screen) -> None:
    screen.add("P1/a.jpg", "P2/b.jpg")
    submitted = screen.json("submit", screen.slides, "--no-wait", "--priority", "high")
    assert (submitted["images"], submitted["patients"]) == (2, 2)
    assert screen.computed() == 0
    assert (
        "2 images of 2 patients are waiting" in screen("submit", screen.slides, "--no-wait").stdout
    )
    feeder = screen.start("feed", "--until-done")
    _, said = feeder.communicate(timeout=60)
    assert feeder.returncode == 0, said
    assert f"run {submitted['run_id']} is finished" in said
    assert "P1" not in said
    assert sorted(path.name for path in (screen.out / "patients").iterdir()) == ["P1", "P2"]


def test_purge_says_what_it_would_remove_and_removes_it(screen: Screen) -> None:
    screen.add("P1/a.jpg")
    run_id = screen.json("submit", screen.slides)["run_id"]
    assert "1 results that only it refers to" in screen("purge", run_id).stdout
    assert screen.json("status")["runs"]
    assert screen.json("purge", run_id, "--yes")["removed"] > 0
    assert screen.json("status")["runs"] == []
    assert (screen.out / "patients" / "P1" / "report.html").exists()


def test_a_run_in_which_too_many_fail_says_why_it_was_stopped(screen: Screen) -> None:
    failing = replace(screen, analyser="tests.cli.analysers:Tripping")
    (failing.bundle / "spoilt").touch()
    failing.add(*(f"P/{number:03}.jpg" for number in range(260)))
    error = failing.json("submit", failing.slides, status=1)["error"]
    assert error["kind"] == "stopped"
    assert "200 of the last 200 images failed" in error["message"]


def test_runs_are_listed_in_a_line_each(screen: Screen) -> None:
    screen.add("P1/a.jpg")
    first = screen.json("submit", screen.slides)["run_id"]
    screen.add("P1/b.jpg")
    second = screen.json("submit", screen.slides, "--no-wait")["run_id"]
    lines = screen("runs").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [second, first]
    assert lines[0].endswith("2 images, 0 failed, 2 to do")
    assert lines[1].endswith("1 images, 0 failed, finished")
    assert [one["remaining"] for one in screen.json("runs")["runs"]] == [2, 0]
