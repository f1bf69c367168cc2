"""Fixtures: the command line, and the Redis of the compose file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import screen
from tests.deploy.compose_file import DOCKER
from tests.redis_server import find_redis_servers
from tests.s3_server import free_port

__all__ = ["screen"]


#: Each once, under whatever names it is found.
SERVERS = {path.resolve(): path for path in find_redis_servers()}


@pytest.fixture(params=SERVERS.values(), ids=str)
def laboratory_redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Redis as start.sh starts it in its container; its address, with the password."""
    program: Path = request.param
    port = free_port()
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "SCREEN_REDIS_PASSWORD": "0123abcd",
        "DIR": str(DOCKER / "redis"),
        "ACL": str(tmp_path / "users.acl"),
    }
    process = subprocess.Popen(
        ["sh", DOCKER / "redis" / "start.sh", "--port", str(port)],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if b"Ready to accept connections" in line:
            break
    else:
        pytest.skip(f"{program} is too old for this configuration")
    yield f"redis://screen:0123abcd@127.0.0.1:{port}/0"
    process.kill()
    process.wait()
