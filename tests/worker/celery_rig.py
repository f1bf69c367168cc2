"""Workers and engines on a Redis of a test's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.rig.laboratory import WORK, Laboratory, python
from benchmarks.rig.redis_server import RedisServer
from worker.celery_app import UNACKED_KEY, queue_keys
from worker.engines.celery import CeleryEngine

#: Short limits, and the longest waits that go with them.
LIMITS = {
    "SCREEN_SOFT_LIMIT_SECONDS": "4",
    "SCREEN_HARD_LIMIT_SECONDS": "5",
    "SCREEN_VISIBILITY_TIMEOUT_SECONDS": "25",
    "SCREEN_LEASE_SECONDS": "8",
}


def limits() -> dict[str, float]:
    """The same as arguments of settings."""
    return {name.removeprefix("SCREEN_").lower(): float(value) for name, value in LIMITS.items()}


def worker_process(server: RedisServer, **environment: str) -> subprocess.Popen[bytes]:
    """``screen worker`` with one process, in a group of its own."""
    given = {
        **LIMITS,
        "SCREEN_BROKER_URL": server.url,
        "SCREEN_ANALYSER": "benchmarks.rig.stubs:open_analyser",
        "SCREEN_PROCESSES": "1",
        **environment,
    }
    return python(WORK, **given)


@contextmanager
def working(
    server: RedisServer, number: int, **environment: str
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many of them, killed at the end."""
    workers = [worker_process(server, **environment) for _ in range(number)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def engine_on(server: RedisServer, laboratory: Laboratory, **settings: object) -> CeleryEngine:
    """The sending side, with the settings of the laboratory."""
    return CeleryEngine(laboratory.settings(broker_url=server.url, **settings))


def waiting(server: RedisServer) -> int:
    """Messages that wait or were taken."""
    client = server.client
    return sum(client.llen(key) for key in queue_keys()) + client.hlen(UNACKED_KEY)
