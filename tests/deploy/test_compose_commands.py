"""The services of the compose file, with its commands and settings, as processes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import urlopen

import pytest

from benchmarks.rig.laboratory import wait_until
from tests.cli.conftest import Screen
from tests.deploy.compose_file import load
from tests.deploy.conftest import SERVERS, LaboratoryRedis
from tests.s3_server import free_port

# One Redis is as good as another here.
pytestmark = pytest.mark.parametrize("laboratory_redis", [*SERVERS.values()][:1], indirect=True)


class Server:
    """A laboratory's server: folders instead of mounts, processes instead of containers."""

    def __init__(self, screen: Screen, broker: str) -> None:
        self._screen = screen
        self._broker = broker
        self._services = load({})["services"]
        self._mounts = {
            "/slides": str(screen.slides),
            "/incoming": str(screen.folder / "incoming"),
            "/reports": str(screen.out),
        }
        for folder in self._mounts.values():
            (screen.folder / folder).mkdir(exist_ok=True)
        self.ports: dict[str, int] = {}

    def _environment(self, name: str) -> dict[str, str]:
        given = self._services[name]["environment"]
        found = {key: self._here(str(value)) for key, value in given.items() if value is not None}
        self.ports[name] = free_port()
        return found | {
            "SCREEN_BROKER_URL": self._broker,
            "SCREEN_METRICS_PORT": str(self.ports[name]),
            "SCREEN_HEALTH_FOLDER": str(self._screen.folder / f"health-{name}"),
            "SCREEN_DEAF_SECONDS": "5",
        }

    def _here(self, value: str) -> str:
        parts = [self._mounts.get(part, part) for part in value.split(",")]
        return ",".join(parts)

    @contextmanager
    def up(self, name: str, *options: str) -> Iterator[subprocess.Popen[str]]:
        """The service; at the end it is told to stop and has to within its grace period."""
        service = self._services[name]
        command = [self._here(word) for word in service["command"]]
        process = self._screen.start(*command, *options, env=self._environment(name))
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            patience = int(service["stop_grace_period"].removesuffix("s"))
            process.communicate(timeout=patience)
            assert process.returncode == 0, name
        finally:
            process.kill()

    def run(self, name: str, *arguments: str) -> Any:
        """``docker compose run --rm NAME ARGUMENTS``; standard output."""
        entry = self._services[name].get("entrypoint", ["screen"])[1:]
        words = [*entry, *(self._here(one) for one in arguments)]
        process = self._screen.start(*words, env=self._environment(name))
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        return output

    def asks(self, name: str, path: str) -> str:
        """What the service answers to Prometheus, or to a probe."""
        with urlopen(f"http://127.0.0.1:{self.ports[name]}{path}") as answer:
            text: str = answer.read().decode()
        return text


@pytest.fixture
def server(screen: Screen, laboratory_redis: LaboratoryRedis) -> Server:
    return Server(screen, laboratory_redis.url)


def test_what_is_submitted_is_there_in_the_morning(server: Server, screen: Screen) -> None:
    screen.add(*(f"P{number}/a.jpg" for number in range(4)))
    with server.up("worker"), server.up("feeder"):
        assert "4 images of 4 patients are waiting" in server.run("submit", "/slides", "--no-wait")
        wait_until((screen.out / "index.html").exists, seconds=90)
        assert json.loads(server.run("screen", "status", "--json"))["runs"][0]["finished"]
        for name in ("worker", "feeder"):
            # An ill one answers with an error.
            assert json.loads(server.asks(name, "/healthz"))["role"] in {"worker", "feeder"}
        done = 'screen_images_total{outcome="ok",reason=""} 4.0'
        assert done in server.asks("worker", "/metrics")
        assert "screen_images_outstanding 0.0" in server.asks("feeder", "/metrics")
    assert screen.json("status")["runs"][0]["ok"] == 4


def test_what_arrives_is_screened(server: Server, screen: Screen) -> None:
    folder = screen.folder / "incoming" / "P1"
    folder.mkdir()
    (folder / "a.jpg").write_text("image a")
    (folder / "_complete").touch()
    # As in the file, but in less of a hurry there.
    quick = ("--every", "0.5", "--still", "1")
    with server.up("worker"), server.up("feeder"), server.up("watcher", *quick):
        wait_until((screen.out / "patients" / "P1" / "report.json").exists, seconds=90)
        assert json.loads(server.asks("watcher", "/healthz"))["role"] == "watcher"
