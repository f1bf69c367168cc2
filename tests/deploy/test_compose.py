"""The compose file: valid, closed, and in step with the program's settings."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.deploy.compose_file import DOCKER, FILLED_IN, example, interpolated, load
from tests.deploy.conftest import LaboratoryRedis
from worker.broker import check_broker
from worker.celery_app import create_app
from worker.health import Heartbeat
from worker.presence import Presence
from worker.settings import Settings, load_settings

#: A worker may take so much longer than SCREEN_SHUTDOWN_SECONDS to end.
LONGER_SECONDS = 5


@pytest.fixture(scope="module")
def compose() -> Any:
    return load({})


@pytest.fixture(scope="module")
def services(compose: Any) -> Any:
    return compose["services"]


def test_it_follows_the_compose_specification(compose: Any) -> None:
    schema = json.loads((Path(__file__).parent / "schemas" / "compose-spec.json").read_text())
    # The schema is older than the name of a project.
    known = {key: value for key, value in compose.items() if key not in {"name", "x-screen"}}
    jsonschema.Draft7Validator(schema).validate(known)


def test_docker_compose_reads_it(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    ask = [docker, "compose", "version"]
    if not docker or subprocess.run(ask, check=False, capture_output=True).returncode:
        pytest.skip("there is no docker compose on PATH")
    env = tmp_path / "env"
    env.write_text("".join(f"{k}={v}\n" for k, v in (example() | FILLED_IN).items()))
    file = DOCKER / "compose.yaml"
    subprocess.run([docker, "compose", "--env-file", env, "-f", file, "config", "-q"], check=True)


def test_every_variable_is_in_the_example() -> None:
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    used = set(re.findall(r"\$\{(\w+)", text)) | set(re.findall(r"^    (AWS_\w+):$", text, re.M))
    assert used == set(example(whole=True))


def test_no_password_is_committed() -> None:
    assert all(not value for name, value in example().items() if "PASSWORD" in name)
    with pytest.raises(AssertionError, match="SCREEN_REDIS_PASSWORD fill in"):
        interpolated((DOCKER / "compose.yaml").read_text("utf-8"), example())


def test_every_setting_in_it_exists(services: Any) -> None:
    known = {f"SCREEN_{name}".upper() for name in Settings.model_fields} | {"SCREEN_OUT"}
    for name in ("worker", "feeder", "watcher", "submit"):
        settings = {key for key in services[name]["environment"] if key.startswith("SCREEN_")}
        assert settings <= known


def test_everything_is_closed(services: Any) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "mem_limit" in service and "cpus" in service and "pids_limit" in service, name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
        assert not service.get("privileged")


def test_redis_is_reached_by_the_other_containers_alone(compose: Any) -> None:
    server = compose["services"]["redis"]
    assert "ports" not in server
    assert server["networks"] == ["queue"]
    assert compose["networks"]["queue"]["internal"] is True


def test_containers_have_time_to_stop(services: Any) -> None:
    for name in ("worker", "feeder", "watcher"):
        patience = int(services[name]["stop_grace_period"].removesuffix("s"))
        shutdown = services[name]["environment"]["SCREEN_SHUTDOWN_SECONDS"]
        assert patience > shutdown + LONGER_SECONDS


def test_images_are_read_only_and_reports_are_not(services: Any) -> None:
    mounts = dict(volume.split(":", 1) for volume in services["worker"]["volumes"])
    assert mounts == {
        "/srv/slides": "/slides:ro",
        "/srv/incoming": "/incoming:ro",
        "/srv/reports": "/reports",
    }


def test_redis_starts_with_one_user_who_may_do_what_workers_do(
    laboratory_redis: LaboratoryRedis, beat: Heartbeat, tmp_path: Path
) -> None:
    settings = load_settings(broker_url=laboratory_redis.url, celery_events=True)
    assert check_broker(settings).append_only is True
    presence = Presence(settings)
    presence.renew(beat)
    assert presence.heartbeats() == [beat]
    app = create_app(settings)
    app.send_task("worker.tasks.nothing", priority=3)
    queue = presence.queue()
    assert queue is not None and queue.waiting == 1
    # What Flower asks for; nobody is there to answer.
    assert app.control.ping(timeout=0.2) == []
    assert "0123abcd" not in (tmp_path / "users.acl").read_text()


def test_redis_lets_nobody_else_in(laboratory_redis: LaboratoryRedis) -> None:
    port, once = laboratory_redis.port, Retry(NoBackoff(), 0)
    for stranger in ({}, {"username": "default", "password": "none"}, {"username": "screen"}):
        with pytest.raises(redis.RedisError):
            redis.Redis(port=port, retry=once, **stranger).get("screen")
    health = redis.Redis(port=port, username="health", password="none")
    assert health.ping()
    with pytest.raises(redis.ResponseError):
        health.get("screen")
    screen = redis.Redis.from_url(laboratory_redis.url)
    for forbidden in (["FLUSHALL"], ["CONFIG", "GET", "*"], ["GET", "other"], ["ACL", "LIST"]):
        with pytest.raises(redis.ResponseError):
            screen.execute_command(*forbidden)


def test_redis_has_everything_again_after_a_restart(laboratory_redis: LaboratoryRedis) -> None:
    client = redis.Redis.from_url(laboratory_redis.url)
    client.set("screen-one", 1)
    with client.pipeline(transaction=True) as together:
        together.set("screen-two", 2).rpush("screen", "three").execute()
    laboratory_redis.stop()
    assert laboratory_redis.start()
    assert client.mget("screen-one", "screen-two") == [b"1", b"2"]
    assert client.llen("screen") == 1
