"""``screen doctor``: verdicts with the mend."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cli import checks
from tests.cli.conftest import Screen
from worker.settings import load_settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALLOWED_ROOTS", "BROKER_URL", "BUNDLE", "PROCESSES", "WINDOW"):
        monkeypatch.delenv(f"SCREEN_{name}", raising=False)


def test_the_doctor_looks_at_everything(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = checks.Check("tensorflow", "PASS", "not looked at here")
    monkeypatch.setattr(checks, "check_tensorflow", lambda: quick)
    answer = screen.json("doctor", status=1)
    verdicts = {check["name"]: check["verdict"] for check in answer["checks"]}
    assert set(verdicts) == {
        *("settings", "python", "versions", "tensorflow", "store", "writing", "space"),
        *("bundle", "broker", "roots", "machine"),
    }
    # The bundle of these tests has no network.
    assert verdicts["bundle"] == "FAIL"
    assert not answer["healthy"]
    assert all(check["mend"] for check in answer["checks"] if check["verdict"] != "PASS")
    assert answer["settings"]["SCREEN_PROCESSES"] == {"value": "1", "from": "environment"}
    assert answer["settings"]["SCREEN_WINDOW"]["from"] == "default"
    text = screen("doctor").stdout
    assert "FAIL  bundle" in text
    assert "mend: " in text
    assert not screen.out.exists()


def test_python_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_python().verdict == "PASS"
    monkeypatch.setattr(checks, "PYTHON_VERSIONS", ((2, 7), (3, 0)))
    assert checks.check_python().verdict == "FAIL"


def test_versions_are_compared_with_the_lock_file(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    assert checks.check_versions(lock).verdict == "WARN"
    lock.write_text("click==0.0.1 \\\n    --hash=sha256:00\n")
    check = checks.check_versions(lock)
    assert check.verdict == "WARN"
    assert "instead of 0.0.1" in check.seen
    lock.write_text("no-such-thing==1 \\\n    --hash=sha256:00\n")
    assert checks.check_versions(lock).verdict == "FAIL"
    lock.write_text("no-such-thing==1 ; sys_platform == 'win32' \\\n")
    assert checks.check_versions(lock).verdict == "PASS"


def test_a_tensorflow_that_cannot_be_imported_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorflow.py").write_text("raise ImportError('libfoo.so is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = checks.check_tensorflow()
    assert check.verdict == "FAIL"
    assert check.seen == "ImportError: libfoo.so is missing"
    (tmp_path / "tensorflow.py").write_text("import os; os.kill(os.getpid(), 4)")
    check = checks.check_tensorflow()
    assert "signal 4" in check.seen
    assert "AVX" in check.mend


def test_tensorflow_is_imported_in_another_process() -> None:
    loaded_before = "tensorflow" in sys.modules
    check = checks.check_tensorflow()
    assert check.verdict == "PASS"
    assert ("tensorflow" in sys.modules) == loaded_before


def test_a_store_of_another_version_fails(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/schema.json").write_text('{"schema": 99}')
    [check] = checks.check_store(tmp_path)
    assert check.verdict == "FAIL"
    assert "layout 99" in check.seen


def test_a_folder_for_reports_that_is_not_there_is_checked_where_it_would_be(
    tmp_path: Path,
) -> None:
    found = {check.name: check for check in checks.check_store(tmp_path / "a/b")}
    assert found["writing"].verdict == "PASS"
    assert str(tmp_path) in found["writing"].seen
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("free", "verdict"), [(10**8, "FAIL"), (10**9, "WARN"), (10**11, "PASS")])
def test_space_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str
) -> None:
    monkeypatch.setattr(
        checks.shutil, "disk_usage", lambda folder: checks.shutil._ntuple_diskusage(0, 0, free)
    )
    found = {check.name: check for check in checks.check_store(tmp_path)}
    assert found["space"].verdict == verdict


def test_a_broker_that_does_not_answer_fails_without_its_password() -> None:
    settings = load_settings(broker_url="redis://:secret@127.0.0.1:1/0")
    check = checks.check_broker(settings)
    assert check.verdict == "FAIL"
    assert "secret" not in str(check)
    assert "secret" not in str(checks.origins(settings, {}))
    assert checks.check_broker(load_settings()).verdict == "PASS"


def test_workers_that_go_anywhere_are_a_warning() -> None:
    broker = "redis://127.0.0.1:1/0"
    assert checks.check_roots(load_settings()).verdict == "PASS"
    assert checks.check_roots(load_settings(broker_url=broker)).verdict == "WARN"
    bounded = load_settings(broker_url=broker, allowed_roots="/slides")
    assert checks.check_roots(bounded).verdict == "PASS"


def test_more_processes_than_the_machine_has_room_for_are_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "available_memory", lambda: 3_000_000_000)
    check = checks.check_machine(load_settings(processes=64))
    assert check.verdict == "WARN"
    assert "SCREEN_PROCESSES=2" in check.mend
    assert checks.check_machine(load_settings(processes=1)).verdict == "PASS"


@pytest.mark.parametrize(("limit", "expected"), [("max", 1024_000), ("600000", 500_000)])
def test_a_container_limits_the_memory(tmp_path: Path, limit: str, expected: int) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9999 kB\nMemAvailable:    1000 kB\n")
    assert checks.available_memory(meminfo, tmp_path / "absent") == 1024_000
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("100000\n")
    assert checks.available_memory(meminfo, tmp_path) == expected


def test_a_misspelt_setting_is_pointed_out() -> None:
    settings, check = checks.check_settings({"SCREEN_BROKER": "redis://x"})
    assert settings is not None
    assert check.verdict == "WARN"
    assert "SCREEN_BROKER" in check.seen
    assert "SCREEN_BROKER_URL" in check.mend


def test_a_wrong_setting_fails(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCREEN_WINDOW", "many")
    settings, check = checks.check_settings({})
    assert settings is None
    assert check.verdict == "FAIL"
    assert "SCREEN_WINDOW" in check.seen
