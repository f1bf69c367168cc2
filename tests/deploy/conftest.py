"""Fixtures: the command line, and the Redis of the compose file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.rig.redis_server import find_redis_servers
from tests.cli.conftest import screen
from tests.deploy.compose_file import DOCKER
from tests.s3_server import free_port
from worker.health import Heartbeat
from worker.machine import ProcessMark

__all__ = ["screen"]


#: Each once, under whatever names it is found.
SERVERS = {path.resolve(): path for path in find_redis_servers()}


class LaboratoryRedis:
    """Redis as start.sh starts it in its container."""

    PASSWORD = "0123abcd"

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://screen:{self.PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> bool:
        """Whether it takes the configuration; versions before 6.2 do not."""
        environment = {
            "PATH": f"{self.program.parent}:{os.environ['PATH']}",
            "SCREEN_REDIS_PASSWORD": self.PASSWORD,
            "DIR": str(DOCKER / "redis"),
            "ACL": str(self.folder / "users.acl"),
        }
        command = ["sh", DOCKER / "redis" / "start.sh", "--port", str(self.port)]
        self._process = subprocess.Popen(
            command, env=environment, cwd=self.folder, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        return any(b"Ready to accept connections" in line for line in self._process.stdout)

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)


@pytest.fixture(params=SERVERS.values(), ids=str)
def laboratory_redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LaboratoryRedis]:
    server = LaboratoryRedis(request.param, tmp_path)
    if not server.start():
        pytest.skip(f"{request.param} is too old for this configuration")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def beat() -> Heartbeat:
    """What an idle worker says of itself."""
    return Heartbeat(
        **ProcessMark.mine().model_dump(),
        role="worker",
        host="lab",
        state="idle",
        processes=1,
        busy=0,
        waiting=0,
        idle_seconds=0.0,
        clock=0.0,
    )
