"""``screen worker``, with a real Redis."""

from __future__ import annotations

import json
import signal

import pytest

from benchmarks.rig.redis_server import RedisServer
from tests.cli.conftest import Screen


@pytest.fixture
def broker(redis_server: RedisServer) -> str:
    return redis_server.url


def test_a_worker_needs_a_broker(screen: Screen) -> None:
    result = screen("worker")
    assert result.exit_code == 1
    assert "SCREEN_BROKER_URL" in result.stderr


def test_workers_do_the_same_work_as_local_processes(screen: Screen, broker: str) -> None:
    screen.add(*(f"P{number}/a.jpg" for number in range(4)))
    assert screen("submit", screen.slides).exit_code == 0
    report = screen.out / "patients/P1/report.json"
    summary = screen.out / "summary.csv"
    local = report.read_bytes(), summary.read_bytes()

    worker = screen.start("worker", "--broker", broker, "--log-level", "warning")
    submitted = screen.start(
        "submit", screen.slides, "--broker", broker, "--out", screen.folder / "other", "--json"
    )
    try:
        output, errors = submitted.communicate(timeout=90)
        assert submitted.returncode == 0, errors
        assert json.loads(output)["finished_now"] == 4
    finally:
        submitted.kill()
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=60)
    other = screen.folder / "other"
    distributed = (
        (other / "patients/P1/report.json").read_bytes(),
        (other / "summary.csv").read_bytes(),
    )
    assert distributed == local
    assert worker.returncode == 0, log
    assert "P1" not in log


def test_the_doctor_reaches_the_broker(screen: Screen, broker: str) -> None:
    from cli.checks import check_broker
    from worker.settings import load_settings

    check = check_broker(load_settings(broker_url=broker))
    assert check.verdict == "WARN"
    assert "no append-only file" in check.seen
    assert "noeviction" in check.seen
