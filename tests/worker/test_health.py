from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from benchmarks.rig.laboratory import WORK, Laboratory, python, wait_until
from benchmarks.rig.redis_server import RedisServer
from pipeline.errors import ConfigurationError
from tests.worker.test_metrics import fetch, free_port
from worker import health, observe, runs, telemetry
from worker.celery_app import create_app
from worker.engines.celery import CeleryEngine
from worker.health import Limits, Pulse, Rounds, Sample, Watch, read_health
from worker.planning import EmptyArchiveError, Plan
from worker.presence import Presence
from worker.settings import Settings, load_settings
from worker.store import open_store
from worker.telemetry import ImageTold
from worker.watch import Watcher
from worker.watch import watch as watch_source

LIMITS = Limits(deaf=60, stuck=240, start=200)


@pytest.fixture
def watch() -> Watch:
    return Watch(LIMITS, now=0)


def test_an_idle_worker_with_nothing_to_take_is_well(watch: Watch) -> None:
    for now in (1, 1000, 100_000):
        assert watch.look(Sample(moves=3, busy=0, waiting=0), now)[0] == "idle"


def test_a_worker_that_takes_nothing_of_what_waits_is_deaf(watch: Watch) -> None:
    assert watch.look(Sample(moves=3, busy=0, waiting=5), 1000)[0] == "idle"
    assert watch.look(Sample(moves=3, busy=0, waiting=5), 1060)[0] == "idle"
    assert watch.look(Sample(moves=3, busy=0, waiting=9), 1061) == ("deaf", 1061)
    # It took one after all.
    assert watch.look(Sample(moves=4, busy=0, waiting=8), 1062)[0] == "idle"


def test_a_queue_that_was_empty_meanwhile_makes_nobody_deaf(watch: Watch) -> None:
    watch.look(Sample(moves=3, busy=0, waiting=5), 1000)
    watch.look(Sample(moves=3, busy=0, waiting=0), 1050)
    assert watch.look(Sample(moves=3, busy=0, waiting=5), 1070)[0] == "idle"


def test_a_broker_that_is_away_makes_nobody_deaf(watch: Watch) -> None:
    watch.look(Sample(moves=3, busy=0, waiting=5), 1000)
    assert watch.look(Sample(moves=3, busy=0, waiting=None), 1100)[0] == "idle"


def test_a_busy_worker_is_well_until_no_image_may_take_so_long(watch: Watch) -> None:
    watch.look(Sample(moves=2, busy=0, waiting=5), 999)
    watch.look(Sample(moves=3, busy=1, waiting=5), 1000)
    assert watch.look(Sample(moves=3, busy=1, waiting=5), 1200)[0] == "busy"
    assert watch.look(Sample(moves=3, busy=1, waiting=5), 1300)[0] == "stuck"
    assert watch.look(Sample(moves=4, busy=1, waiting=5), 1301)[0] == "busy"


def test_a_worker_may_take_its_time_to_start_but_not_for_ever(watch: Watch) -> None:
    waiting = Sample(moves=0, busy=0, waiting=5, ready=False)
    assert watch.look(waiting, 199)[0] == "starting"
    assert watch.look(waiting, 201)[0] == "stuck"


def test_a_feeder_may_list_a_large_run_for_a_while() -> None:
    watch = Watch(Limits.of("feeder", load_settings()), now=0)
    watch.look(Sample(moves=1, busy=1), 0)
    assert watch.look(Sample(moves=1, busy=1), 500)[0] == "busy"
    assert watch.look(Sample(moves=1, busy=1), 700)[0] == "stuck"


def test_a_watcher_may_rest_and_take_its_time_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(health.time, "monotonic", lambda: now)
    rounds, watch = Rounds(), Watch(Limits.of("watcher", load_settings()), now)

    def state(at: float) -> str:
        nonlocal now
        now = at
        return watch.look(rounds.sample(), now)[0]

    rounds.look()
    assert state(1500) == "busy"
    rounds.rest(7200)
    assert [state(at) for at in (1505, 5000, 8700)] == ["idle", "idle", "idle"]
    # It should have looked again.
    assert state(8800) == "busy"
    assert state(10_700) == "stuck"
    rounds.look()
    assert state(10_705) == "busy"
    assert state(12_600) == "stuck"


# --- the heartbeat file -------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(health_folder=tmp_path / "health")


def test_a_heartbeat_is_read_by_others_until_its_process_leaves(settings: Settings) -> None:
    assert not read_health(settings).healthy
    pulse = Pulse(settings, "worker", lambda: Sample(moves=1, busy=1))
    found = read_health(settings)
    assert found.healthy
    assert [(beat.role, beat.process) for beat in found.processes] == [("worker", os.getpid())]
    assert stat.S_IMODE(settings.health_folder.stat().st_mode) == 0o700
    pulse.leave()
    assert read_health(settings).processes == []


def test_a_process_that_says_nothing_more_is_silent(settings: Settings) -> None:
    pulse = Pulse(settings, "worker", lambda: Sample(moves=1, busy=1))
    [file] = settings.health_folder.glob("*.json")
    beat = json.loads(file.read_text())
    file.write_text(json.dumps({**beat, "clock": beat["clock"] - health.SILENT_SECONDS - 1}))
    found = read_health(settings)
    assert (found.healthy, found.processes[0].state) == (False, "silent")
    pulse.beat()
    assert read_health(settings).healthy


def test_what_a_killed_process_left_is_removed(settings: Settings) -> None:
    Pulse(settings, "worker", lambda: Sample(moves=1, busy=1))
    [file] = settings.health_folder.glob("*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "process": 2**22 - 1}))
    (settings.health_folder / "half.json").write_text('{"role": "wor')
    assert read_health(settings).processes == []
    assert not file.exists()


def test_a_folder_of_another_user_is_not_believed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.health_folder.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigurationError, match="another user"):
        read_health(settings)
    # Work does not depend on it.
    assert Pulse(settings, "worker", lambda: Sample(moves=1, busy=1)).last.healthy
    assert "SCREEN_HEALTH_FOLDER" in caplog.text
    assert list(settings.health_folder.iterdir()) == []


# --- watchers, and feeders beside workers ----------------------------------------------------


@pytest.fixture
def quick(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Feeders and watchers that are stuck after half a second without a sign of life."""
    monkeypatch.setattr(health, "_FEEDER_SECONDS", 0.5)
    monkeypatch.setattr(health, "_WATCHER_SECONDS", 0.5)
    monkeypatch.setattr(observe, "BEAT_SECONDS", 0.05)
    return settings


def states(settings: Settings) -> dict[str, str]:
    return {beat.role: beat.state for beat in read_health(settings).processes}


def test_a_watcher_whose_look_hangs_is_found_out(quick: Settings, tmp_path: Path) -> None:
    stop, hangs = threading.Event(), threading.Event()
    store = open_store(str(tmp_path / "out"), create=True)

    def list_source() -> Plan:
        hangs.wait(30)
        raise EmptyArchiveError("nothing")

    def work() -> None:
        with observe.observed_watcher(quick) as rounds:
            watch_source(
                tmp_path,
                store,
                cast(Watcher, None),
                list_source,
                every_seconds=0.1,
                pause=stop.wait,
                stop=stop,
                rounds=rounds,
            )

    watcher = threading.Thread(target=work)
    watcher.start()
    try:
        wait_until(lambda: states(quick) == {"watcher": "stuck"}, 10, "it is found out")
        hangs.set()
        wait_until(lambda: read_health(quick).healthy, 10, "it looks again")
    finally:
        hangs.set()
        stop.set()
        watcher.join(10)
    assert read_health(quick).processes == []


def test_a_feeder_that_hangs_beside_a_worker_is_found_out(quick: Settings) -> None:
    """Whatever the worker's processes tell meanwhile."""
    port = free_port()
    settings = quick.model_copy(update={"metrics_port": port})
    with observe.observed_worker(settings, feeds=True):
        telemetry.turn()
        assert states(settings) == {"feeder": "busy", "worker": "starting"}
        elsewhere = ImageTold(
            run_id="r", position=0, outcome="ok", reason=None, first=True, seconds={}, process=1
        )

        def found_out() -> bool:
            telemetry._tell(elsewhere)
            return states(settings) == {"feeder": "stuck", "worker": "starting"}

        wait_until(found_out, 10, "the feeder is found out")
        assert not read_health(settings).healthy
        # Also by who asks the worker itself.
        assert fetch(port, "/healthz")[0] == 503
        telemetry.turn()
        wait_until(lambda: read_health(settings).healthy, 10, "it goes on")
    with observe.observed_worker(settings):
        assert states(settings) == {"worker": "starting"}


def test_a_worker_that_feeds_is_seen_as_both(
    redis_server: RedisServer, settings: Settings, tmp_path: Path
) -> None:
    """By other machines: one heartbeat must not hide the other."""
    observed = settings.model_copy(update={"broker_url": redis_server.url})
    presence = Presence(observed)
    with observe.observed_worker(observed, feeds=True):
        wait_until(lambda: len(presence.heartbeats() or []) == 2, 10, "both are seen")
        assert {beat.role for beat in presence.heartbeats() or []} == {"worker", "feeder"}
    assert presence.heartbeats() == []
    presence.close()


# --- real workers -------------------------------------------------------------------------------


@contextmanager
def working(
    server: RedisServer, folder: Path, port: int, **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that says after two seconds that something is wrong."""
    worker = python(
        WORK,
        SCREEN_BROKER_URL=server.url,
        SCREEN_ANALYSER="benchmarks.rig.stubs:open_analyser",
        SCREEN_PROCESSES="1",
        SCREEN_HEALTH_FOLDER=str(folder),
        SCREEN_METRICS_PORT=str(port),
        SCREEN_DEAF_SECONDS="2",
        **more,
    )
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def test_a_worker_whose_consumer_was_cancelled_is_found_out(
    laboratory: Laboratory, redis_server: RedisServer, tmp_path: Path
) -> None:
    """It is alive, answers, has its connection, and takes nothing."""
    laboratory.fill(1, 4)
    run = laboratory.freeze()
    port, folder = free_port(), tmp_path / "health"
    settings = laboratory.settings(broker_url=redis_server.url, health_folder=folder)
    app = create_app(settings)
    with (
        CeleryEngine(settings) as engine,
        working(redis_server, folder, port, SCREEN_CELERY_EVENTS="1"),
    ):
        engine.hand_out(laboratory.store, run, [0, 1])
        wait_until(lambda: runs.progress(laboratory.store, run).ok == 2, 60, "work")
        assert fetch(port, "/healthz")[0] == 200
        assert read_health(settings).healthy
        app.control.cancel_consumer("screen")
        wait_until(lambda: app.control.inspect().active_queues() is not None, 20, "remote control")
        wait_until(
            lambda: not any((app.control.inspect().active_queues() or {"": [1]}).values()), 20
        )
        engine.hand_out(laboratory.store, run, [2, 3])
        wait_until(lambda: not read_health(settings).healthy, 30, "the worker is found deaf")
        [beat] = read_health(settings).processes
        assert (beat.state, beat.waiting, beat.busy) == ("deaf", 2, 0)
        assert fetch(port, "/healthz")[0] == 503
        assert "screen_healthy 0.0" in fetch(port, "/metrics")[1]
        # It listens again, and is well again.
        app.control.add_consumer("screen")
        wait_until(lambda: runs.progress(laboratory.store, run).ok == 4, 60, "work")
        wait_until(lambda: read_health(settings).healthy, 30, "the worker is well")
    app.close()


def test_a_worker_that_was_stopped_is_found_out(
    laboratory: Laboratory,
    redis_server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port, folder = free_port(), tmp_path / "health"
    settings = laboratory.settings(broker_url=redis_server.url, health_folder=folder)
    presence = Presence(settings)
    with working(redis_server, folder, port) as worker:
        wait_until(lambda: read_health(settings).healthy, 60, "the worker is there")
        wait_until(lambda: bool(presence.heartbeats()), 10, "it says so to others")
        assert [beat.process for beat in presence.heartbeats() or []] == [worker.pid]
        worker.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(health, "SILENT_SECONDS", health.BEAT_SECONDS + 1)
        wait_until(lambda: not read_health(settings).healthy, 30, "the worker is found silent")
        assert [beat.state for beat in read_health(settings).processes] == ["silent"]
        worker.send_signal(signal.SIGCONT)
        wait_until(lambda: read_health(settings).healthy, 30, "it goes on")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        assert read_health(settings).processes == []
        assert presence.heartbeats() == []
    presence.close()
