"""``screen status`` and ``screen health``: what is shown while work goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.rig.laboratory import wait_until
from benchmarks.rig.redis_server import RedisServer
from cli.status import _broker_lines, _lines
from tests.cli.conftest import REPOSITORY, Screen
from worker import attempts, runs
from worker.store import open_store


def freeze_only(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Submit, and lose power before the first image."""
    with monkeypatch.context() as patch:
        patch.setattr("cli.work._complete", lambda work: (_ for _ in ()).throw(KeyboardInterrupt))
        assert screen("submit", screen.slides).exit_code == 130


def test_status_names_images_in_flight_and_who_is_at_them(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.add("P1/a.jpg", "P2/new\nline.jpg")
    freeze_only(screen, monkeypatch)
    store = open_store(str(screen.out))
    with attempts.attempt(store, runs.load_run(store), 1):
        [run] = screen.json("status")["runs"]
        [one] = run["in_flight"]
        assert (one["source"], one["image"]) == ("P2/new\nline.jpg", 1)
        text = screen("status").stdout
        assert "In flight: 1 images, 1 processes on 1 hosts" in text
        assert f"P2/new\\nline.jpg: for 1 s on {one['host']} ({one['process']})" in text
        # Somebody is at it: nobody is asked to go on with it.
        assert "screen resume" not in text


def test_status_names_the_slowest_images(screen: Screen) -> None:
    screen.add(*(f"P1/{number}.jpg" for number in range(5)))
    screen("submit", screen.slides)
    [run] = screen.json("status")["runs"]
    assert len(run["slowest"]) == 3
    assert run["slowest_of"] == 5
    assert "Slowest of all 5 images looked at:" in screen("status").stdout
    [run] = screen.json("status", "--slowest", "4")["runs"]
    seconds = [one["seconds"] for one in run["slowest"]]
    assert len(seconds) == 4
    assert seconds == sorted(seconds, reverse=True)
    assert "Slowest" not in screen("status", "--slowest", "0").stdout


def test_rate_and_time_left_are_said_in_words() -> None:
    run = {
        "run_id": "3fa9",
        "submitted": None,
        "root": "file:///slides",
        "patients": 3,
        "images": 2000,
        "ok": 100,
        "failed": 0,
        "remaining": 1900,
        "finished": False,
        "cancelled": False,
        "cancelled_because": "",
        "priority": "high",
        "images_per_second": 4.0,
        "seconds_left": 475.0,
        "seconds_since_last": 0.3,
        "in_flight": [],
        "slowest_of": 0,
        "slowest": [],
        "failures": [],
    }
    answer = {"out": "reports", "runs": [run], "broker": None}
    lines = list(_lines(answer))
    assert lines[0].endswith("100 of 2000 images, 0 failed, 1900 to do, high priority")
    assert "  4.0 images/s, 8 min left" in lines
    run.update(images_per_second=None, seconds_left=None, seconds_since_last=700.0)
    assert "  nothing was finished for 12 min" in list(_lines(answer))


def test_status_asks_the_broker_for_queue_and_workers(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    screen.add("P1/a.jpg")
    freeze_only(screen, monkeypatch)
    assert screen.json("status")["broker"] is None
    broker = redis_server.url
    answer = screen.json("status", "--broker", broker)["broker"]
    assert (answer["answers"], answer["waiting"], answer["workers"]) == (True, 0, [])
    assert "no worker is there; start one" in screen("status", "--broker", broker).stdout
    worker = screen.start("worker", "--broker", broker)
    try:
        wait_until(
            lambda: bool(screen.json("status", "--broker", broker)["broker"]["workers"]),
            60,
            "presence",
        )
        text = screen("status", "--broker", broker).stdout
        assert f"({worker.pid}): " in text
        assert "0 of 1 processes busy" in text
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)
    redis_server.kill()
    result = screen("status", "--broker", broker)
    assert result.exit_code == 0
    assert "does not answer" in result.stdout
    assert "0 of 1 images" in result.stdout


def test_status_says_why_a_run_was_stopped(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.add("P1/a.jpg")
    freeze_only(screen, monkeypatch)
    store = open_store(str(screen.out))
    runs.cancel(store, runs.load_run(store), "50 of 200 images failed")
    assert "0 failed, cancelled: 50 of 200 images failed" in screen("status").stdout
    assert screen.json("status")["runs"][0]["cancelled_because"] == "50 of 200 images failed"


def test_watching_ends_when_the_run_does(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.add("P1/a.jpg", "P1/b.jpg")
    freeze_only(screen, monkeypatch)
    watching = screen.start("status", "--watch", "--json")
    assert watching.stdout is not None
    first = json.loads(watching.stdout.readline())
    assert first["runs"][0]["remaining"] == 2
    assert screen("resume").exit_code == 0
    rest, errors = watching.communicate(timeout=30)
    assert watching.returncode == 0, errors
    assert json.loads(rest.splitlines()[-1])["runs"][0]["finished"]


def test_watching_a_cancelled_or_finished_run_shows_it_once(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.add("P1/a.jpg")
    freeze_only(screen, monkeypatch)
    screen("cancel")
    assert screen("status", "--watch").stdout.count("0 failed, cancelled") == 1
    screen("resume")
    assert screen("status", "--watch").stdout.count("0 failed, finished") == 1


def test_watching_is_stopped_with_ctrl_c(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    screen.add("P1/a.jpg")
    freeze_only(screen, monkeypatch)
    watching = screen.start("status", "--watch")
    assert watching.stdout is not None
    assert "0 of 1 images" in watching.stdout.readline()
    time.sleep(0.5)
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert "Traceback" not in errors


def test_watching_waits_while_the_store_is_away(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen.add("P1/a.jpg")
    freeze_only(screen, monkeypatch)
    watching = screen.start("status", "--watch")
    assert watching.stdout is not None and watching.stderr is not None
    watching.stdout.readline()
    away = screen.out / "away"
    (screen.out / "store").rename(away)
    assert "is the share mounted?" in watching.stderr.readline()
    away.rename(screen.out / "store")
    screen("cancel")
    rest, _ = watching.communicate(timeout=30)
    assert watching.returncode == 0
    assert "cancelled" in rest


def test_status_imports_neither_tensorflow_nor_celery(screen: Screen) -> None:
    screen.add("P1/a.jpg")
    screen("submit", screen.slides)
    code = (
        "import sys\nfrom cli.main import cli\n"
        f"cli(['status', '--out', {str(screen.out)!r}], standalone_mode=False)\n"
        "print(sorted(set(sys.modules) & {'tensorflow', 'keras', 'celery', 'redis',"
        " 'prometheus_client'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.endswith("[]\n")


# --- the log of a feeder ------------------------------------------------------------------------


def test_local_processes_are_logged_by_whoever_started_them(screen: Screen) -> None:
    screen.add("Smith/a.jpg", "Smith/b.jpg")
    process = screen.start("submit", screen.slides, env={"SCREEN_LOG_FORMAT": "json"})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert sorted(one["image"] for one in lines if one.get("event") == "image") == [0, 1]
    assert all("Smith" not in json.dumps(one) for one in lines)
    # Without the setting, the terminal is for progress.
    screen.add("Smith/c.jpg")
    process = screen.start("submit", screen.slides)
    assert "image 2" not in process.communicate(timeout=60)[1]


def test_a_feeding_service_logs_as_a_worker_does(screen: Screen) -> None:
    screen.add("Smith/a.jpg", "Smith/b.jpg")
    assert screen("submit", screen.slides, "--no-wait").exit_code == 0
    process = screen.start("feed", "--until-done", "--log-format", "json")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    lines = [json.loads(line) for line in errors.splitlines()]
    assert sorted(one["image"] for one in lines if one.get("event") == "image") == [0, 1]
    assert "Smith" not in errors


# --- health -------------------------------------------------------------------------------------


def test_health_tells_whether_workers_do_their_work(
    screen: Screen, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "health"
    monkeypatch.setenv("SCREEN_HEALTH_FOLDER", str(folder))
    result = screen("health")
    assert result.exit_code == 1
    assert "No worker, feeder or watcher" in result.stdout
    worker = screen.start("worker", "--broker", redis_server.url)
    try:
        wait_until(lambda: screen("health").exit_code == 0, 60, "health")
        answer = screen.json("health")
        assert answer["healthy"]
        assert [one["process"] for one in answer["processes"]] == [worker.pid]
        assert screen("health").stdout.startswith(f"ok  worker {worker.pid}: ")
        # What a deaf worker leaves; stopped, so that it does not write its own over it.
        worker.send_signal(signal.SIGSTOP)
        os.waitpid(worker.pid, os.WUNTRACED)
        [file] = folder.glob("*.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), "state": "deaf"}))
        result = screen("health")
        assert result.exit_code == 1
        assert result.stdout.startswith(f"ILL  worker {worker.pid}: deaf")
    finally:
        worker.send_signal(signal.SIGCONT)
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)


def test_what_a_broker_says_cannot_write_to_the_terminal() -> None:
    worker = {"role": "worker", "host": "h\x1b[2Jost", "process": 1, "state": "idle", "busy": 0}
    broker = {"url": "redis://b", "answers": True, "waiting": 0, "taken": 0, "oldest_seconds": 0}
    lines = list(_broker_lines({**broker, "workers": [{**worker, "processes": 1}]}))
    assert all(line.isprintable() for line in lines)
