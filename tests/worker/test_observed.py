"""Real workers and feeders as logs, metrics and Celery's events show them."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from benchmarks.rig.laboratory import WORK, Laboratory, python, wait_until
from benchmarks.rig.redis_server import RedisServer
from tests.worker.test_metrics import fetch, free_port
from worker import runs
from worker.celery_app import create_app
from worker.engines.celery import CeleryEngine
from worker.health import read_health

#: As WORK, with all that there is to say.
WORK_ALOUD = WORK.replace('"WARNING"', '"INFO"')


def figures(port: int) -> dict[str, float]:
    """Names with labels, and values."""
    lines = fetch(port, "/metrics")[1].splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_a_worker_logs_and_counts_every_image_and_names_nobody(
    laboratory: Laboratory, redis_server: RedisServer, tmp_path: Path
) -> None:
    for number in range(4):
        laboratory.add(f"Smith, John/field {number}.jpg", f"image {number}")
    laboratory.add("Smith, John/field bad.jpg", "bad 1")
    laboratory.add("Smith, John/field crash.jpg", "crash 1")
    laboratory.add("Smith, John/field raise.jpg", "raise 1")
    run = laboratory.freeze()
    port = free_port()
    log = tmp_path / "log"
    environment = {
        "SCREEN_BROKER_URL": redis_server.url,
        "SCREEN_ANALYSER": "benchmarks.rig.stubs:open_analyser",
        "SCREEN_PROCESSES": "1",
        "SCREEN_LOG_FORMAT": "json",
        "SCREEN_METRICS_PORT": str(port),
        "SCREEN_HEALTH_FOLDER": str(tmp_path / "health"),
    }
    with log.open("wb") as file:
        worker = start(WORK_ALOUD, file, environment)
    try:
        laboratory.screen(run, broker_url=redis_server.url)
        found = figures(port)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait()
    assert found['screen_images_total{outcome="ok",reason=""}'] == 4
    assert found['screen_images_total{outcome="failed",reason="truncated"}'] == 1
    assert found['screen_images_given_up_total{reason="crashed_worker"}'] == 1
    assert found["screen_queue_wait_seconds_count"] >= 7
    # One process after the other was killed, and each loaded the model anew.
    assert found["screen_model_load_seconds_count"] >= 4
    # All but the one that never came to an end.
    assert found['screen_image_stage_seconds_count{stage="judge"}'] == 6
    assert found["screen_queue_messages"] == 0
    text = log.read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    images = {one["image"]: one for one in entries if one.get("event") == "image"}
    assert sorted(images) == list(range(7))
    assert {one["run"] for one in images.values()} == {run.run_id}
    reasons = sorted(one["reason"] for one in images.values() if one["reason"])
    assert reasons == ["crashed_worker", "internal_error", "truncated"]
    # Celery's own words are lines of JSON as well, and not one for each image.
    lost = [one for one in entries if one.get("exception") == "WorkerLostError"]
    assert 1 <= len(lost) <= 5
    assert not any("succeeded" in one["message"] for one in entries)
    for identity in ("Smith", "John", "field", "archive"):
        assert identity not in text


def start(code: str, file: Any, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """As ``python``, with what is said on standard error in a file."""
    import os
    import sys

    from benchmarks.rig.laboratory import REPOSITORY

    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        cwd=REPOSITORY,
        stderr=file,
    )


def test_a_feeder_is_watched_with_its_local_processes(laboratory: Laboratory) -> None:
    laboratory.fill(2, 6)
    laboratory.slow_down(0.3)
    port = free_port()
    settings = laboratory.settings(metrics_port=port, health_folder=laboratory.folder / "health")
    run = laboratory.freeze()
    feeder = submit_observed(laboratory, port)
    try:
        wait_until(lambda: runs.progress(laboratory.store, run).ok >= 3, 60, "work")
        found = figures(port)
        health = read_health(settings)
        assert feeder.wait(60) == 0
    finally:
        feeder.kill()
        feeder.wait()
    assert found["screen_images_handed_out_total"] >= 3
    assert found['screen_images_total{outcome="ok",reason=""}'] >= 1
    assert 1 <= found["screen_images_outstanding"] <= 12
    assert found["screen_healthy"] == 1
    assert "screen_queue_messages" not in found
    assert [(beat.role, beat.state) for beat in health.processes] == [("feeder", "busy")]
    assert read_health(settings).processes == []


def submit_observed(laboratory: Laboratory, port: int) -> subprocess.Popen[bytes]:
    """A feeder as ``screen submit`` is one."""
    code = """
import sys
from pathlib import Path
from benchmarks.rig.laboratory import Laboratory
from worker.observe import observed_feeder
from worker.settings import load_settings
with observed_feeder(load_settings()):
    Laboratory(Path(sys.argv[1])).screen()
"""
    folder = str(laboratory.folder / "health")
    return python(
        code,
        str(laboratory.folder),
        SCREEN_METRICS_PORT=str(port),
        SCREEN_HEALTH_FOLDER=folder,
    )


@pytest.mark.parametrize("asked", [True, False])
def test_events_for_flower_are_sent_if_they_are_asked_for(
    asked: bool, laboratory: Laboratory, redis_server: RedisServer, tmp_path: Path
) -> None:
    laboratory.fill(1, 2)
    run = laboratory.freeze()
    environment = {"SCREEN_CELERY_EVENTS": "1"} if asked else {}
    settings = laboratory.settings(broker_url=redis_server.url, celery_events=asked)
    app = create_app(settings)
    seen: list[dict[str, Any]] = []

    def listen() -> None:
        with app.connection() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": seen.append})
            # Until the test is over and Redis with it.
            with suppress(TimeoutError, OSError, RedisError):
                receiver.capture(limit=None, timeout=60, wakeup=False)

    threading.Thread(target=listen, daemon=True).start()
    worker = python(
        WORK,
        SCREEN_BROKER_URL=redis_server.url,
        SCREEN_ANALYSER="benchmarks.rig.stubs:open_analyser",
        SCREEN_PROCESSES="1",
        SCREEN_HEALTH_FOLDER=str(tmp_path / "health"),
        **environment,
    )
    try:
        with CeleryEngine(settings) as engine:
            engine.hand_out(laboratory.store, run, [0, 1])
            wait_until(lambda: runs.progress(laboratory.store, run).finished, 60, "work")
        kinds = lambda: {event["type"] for event in seen}  # noqa: E731
        if asked:
            wait_until(lambda: kinds() >= {"task-received", "task-succeeded"}, 20, "events")
            wait_until(lambda: "worker-heartbeat" in kinds(), 20, "heartbeats")
            assert (app.control.inspect(timeout=5).ping() or {}) != {}
        else:
            assert app.control.inspect(timeout=1).ping() is None
            assert kinds() == set()
    finally:
        worker.kill()
        worker.wait()
        app.close()
