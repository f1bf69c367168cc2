"""A Redis that is killed, forgets, repeats itself, cannot be reached, or is full."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from benchmarks.faults.trial import Trial
from benchmarks.rig.proxy import Network
from benchmarks.rig.redis_server import RedisServer
from worker.engines.celery import CeleryEngine
from worker.finalise import write_reports
from worker.reconcile import run_to_completion

#: Redis keeps its messages in a file that is synced every second.
_KEPT = ("--appendonly", "yes", "--appendfsync", "everysec")

#: How long the network is away, in the benchmark; a test has less time.
CUT_SECONDS = 120.0

#: What of the file was written in this time is lost when the power fails.
_UNSYNCED_SECONDS = 2.0


@contextmanager
def _working(trial: Trial, server: RedisServer, url: str | None = None) -> Iterator[None]:
    """A worker and a feeder that are not touched from here to the end of the run."""
    worker = trial.worker(url or server.url)
    feeder = trial.feeder(url or server.url)
    yield
    trial.finish(feeder)
    trial.claim("workers that ended", int(worker.leader.poll() is not None), 0)


def kept_broker_killed(trial: Trial) -> None:
    """kill -9 of a Redis that keeps its messages in a file, and its restart."""
    server = trial.redis(*_KEPT)
    waits = []
    with _working(trial, server):
        for moment in trial.moments():
            trial.reach(moment)
            server.kill()
            trial.strike()
            server.start()
            waits.append(trial.wait_for_calls(time.monotonic()))
    trial.claim("seconds until images were begun again", max(waits), 15)


def forgetful_broker(trial: Trial) -> None:
    """A Redis that loses everything: killed without a file, or FLUSHALL."""
    server = trial.redis()
    waits = []
    with _working(trial, server):
        for number, moment in enumerate(trial.moments()):
            trial.reach(moment)
            if (trial.seed + number) % 2:
                server.client.flushall()
            else:
                server.kill()
                server.start()
            trial.strike()
            waits.append(trial.wait_for_calls(time.monotonic()))
    trial.claim("stalled for seconds", max(waits), trial.limits["reconcile_seconds"] + 10)


def truncated_file(trial: Trial) -> None:
    """Redis is killed and its file lacks the writes of the last two seconds."""
    server = trial.redis(*_KEPT)
    waits = []
    with _working(trial, server):
        for moment in trial.moments():
            trial.reach(moment)
            file = _append_only_file(trial.laboratory.folder / "redis")
            synced = file.stat().st_size
            time.sleep(_UNSYNCED_SECONDS)
            server.kill()
            trial.strike()
            trial.claim("strikes that lost nothing", int(file.stat().st_size <= synced), 0)
            with file.open("r+b") as opened:
                # In the middle of a command, as a disk leaves it.
                opened.truncate(synced - trial.random.randint(0, 20))
            server.start()
            waits.append(trial.wait_for_calls(time.monotonic()))
    trial.claim("seconds until images were begun again", max(waits), 15)


def _append_only_file(folder: Path) -> Path:
    """The file Redis is writing: one up to version 6, the newest increment since version 7."""
    return max(folder.rglob("*.aof"), key=lambda path: path.stat().st_mtime_ns)


class _Tripling(CeleryEngine):
    """Delivers every message three times."""

    def hand_out(self, store, run, positions, **options):
        for _ in range(3):
            super().hand_out(store, run, positions, **options)


def delivered_three_times(trial: Trial) -> None:
    """Every message is delivered three times."""
    laboratory, run = trial.laboratory, trial.run
    server = trial.redis()
    for _ in range(2):
        trial.worker(server.url)
    settings = laboratory.settings(broker_url=server.url, **trial.limits)
    with _Tripling(settings) as engine:
        run_to_completion(laboratory.store, run, engine, settings=settings)
    trial.strike()
    write_reports(laboratory.store, run, laboratory.out)
    trial.claim("executions", len(laboratory.calls()), 3 * trial.images)


def network_cut(trial: Trial, seconds: float = CUT_SECONDS) -> None:
    """The network to Redis carries nothing for a while, and tells neither end."""
    server = trial.redis()
    waits = []
    with Network(server.port) as network, _working(trial, server, network.url):
        for number, moment in enumerate(trial.moments()):
            trial.reach(moment)
            network.cut(remembered=bool((trial.seed + number) % 2))
            trial.strike()
            time.sleep(seconds)
            network.heal()
            waits.append(trial.wait_for_calls(time.monotonic()))
    trial.claim("seconds from healing until images were begun", max(waits), 60)


def broker_full(trial: Trial) -> None:
    """Redis is at its memory limit for a while and takes no messages."""
    server = trial.redis("--maxmemory-policy", "noeviction")
    waits = []
    with _working(trial, server):
        for moment in trial.moments():
            trial.reach(moment)
            _fill(server)
            trial.strike()
            _wait_for_standstill(trial)
            server.client.config_set("maxmemory", 0)
            waits.append(trial.wait_for_calls(time.monotonic()))
    trial.claim("seconds from room until images were begun", max(waits), 60)


def _fill(server: RedisServer) -> None:
    """Leave no room at all."""
    server.client.config_set("maxmemory", 1)
    try:
        server.client.set("ballast", "")
    except redis.exceptions.ResponseError:
        return
    raise AssertionError("Redis takes more than it may")


def _wait_for_standstill(trial: Trial) -> None:
    """Until workers have begun nothing for a few times what an image takes."""
    while True:
        before = len(trial.laboratory.calls())
        time.sleep(max(2.0, 5 * trial.delay))
        if len(trial.laboratory.calls()) == before:
            return
