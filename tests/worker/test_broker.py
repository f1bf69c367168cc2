"""Which brokers are used, with which warning, and which are refused."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from benchmarks.rig.laboratory import Laboratory, wait_until
from benchmarks.rig.redis_server import RedisServer, find_redis_servers
from pipeline.errors import ConfigurationError
from worker.broker import check_broker, connect, shown
from worker.engines.celery import CeleryEngine
from worker.settings import load_settings

RedisWith = Callable[..., RedisServer]


def test_a_broker_that_evicts_is_refused_with_the_mend(
    redis_with: Callable[..., RedisServer],
) -> None:
    server = redis_with("--maxmemory-policy", "allkeys-lru")
    settings = load_settings(broker_url=server.url)
    with pytest.raises(ConfigurationError, match="CONFIG SET maxmemory-policy noeviction"):
        check_broker(settings)
    server.client.config_set("maxmemory-policy", "noeviction")
    assert check_broker(settings).policy == "noeviction"


def test_a_broker_that_hides_its_settings_is_used_with_a_warning(
    redis_with: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = redis_with("--rename-command", "CONFIG", "")
    with caplog.at_level(logging.WARNING):
        assert check_broker(load_settings(broker_url=server.url)).policy is None
    assert "make sure that its maxmemory-policy is noeviction" in caplog.text


def test_a_broker_that_does_not_answer_is_said_without_its_password() -> None:
    settings = load_settings(broker_url="redis://:secret@127.0.0.1:1/0")
    with pytest.raises(ConfigurationError, match="does not answer") as caught:
        check_broker(settings)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="SCREEN_BROKER_URL"):
        check_broker(load_settings(broker_url="nonsense"))


def test_a_broker_without_append_only_file_is_used_with_a_warning(
    redis_with: RedisWith, caplog: pytest.LogCaptureFixture
) -> None:
    server = redis_with()
    with caplog.at_level(logging.WARNING):
        assert check_broker(load_settings(broker_url=server.url)).append_only is False
    assert "no append-only file" in caplog.text
    server.client.config_set("appendonly", "yes")
    assert check_broker(load_settings(broker_url=server.url)).append_only is True


def test_a_cluster_is_refused_with_the_reason(redis_with: RedisWith) -> None:
    server = redis_with("--cluster-enabled", "yes")
    with pytest.raises(ConfigurationError, match="is a Redis Cluster"):
        check_broker(load_settings(broker_url=server.url))


def test_a_user_with_few_rights_is_enough(redis_with: RedisWith, laboratory: Laboratory) -> None:
    server = redis_with()
    client = server.client
    # What docs/operations.md tells an administrator to allow.
    client.execute_command(
        *("ACL", "SETUSER", "screen", "on", ">secret"),
        *("~screen*", "~_kombu*", "~unacked*", "&*"),
        *("+@all", "-@dangerous", "-@admin", "+info"),
    )
    client.execute_command("ACL", "SETUSER", "default", "off")
    url = server.url.replace("redis://", "redis://screen:secret@")
    settings = laboratory.settings(broker_url=url)
    assert check_broker(settings).policy is None
    laboratory.fill(1, 3)
    with CeleryEngine(settings) as engine:
        engine.hand_out(laboratory.store, laboratory.freeze(), range(3))
        assert engine.holds() >= 3
    assert "secret" not in shown(settings)


def test_connections_can_be_encrypted(
    laboratory: Laboratory, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    certificate, key = _certificate(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [
        *("--tls-port", str(port), "--tls-cert-file", str(certificate)),
        *("--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)),
        *("--tls-auth-clients", "no"),
    ]
    for program in find_redis_servers():
        server = RedisServer(program, tmp_path, *options)
        request.addfinalizer(server.kill)
        # One that was built without TLS ends at once.
        with suppress(RedisError):
            server.start()
            break
    else:
        pytest.skip("no redis-server on PATH was built with TLS (Debian's is)")
    url = f"rediss://localhost:{port}/0?ssl_cert_reqs=required&ssl_ca_certs={certificate}"
    settings = laboratory.settings(broker_url=url)
    laboratory.fill(1, 3)
    with CeleryEngine(settings) as engine:
        engine.hand_out(laboratory.store, laboratory.freeze(), range(3))
        assert engine.holds() >= 3
    unknown = f"rediss://localhost:{port}/0?ssl_cert_reqs=required"
    with pytest.raises(ConfigurationError, match="does not answer"):
        check_broker(load_settings(broker_url=unknown))


def test_sentinels_tell_where_the_broker_is(
    redis_with: RedisWith, laboratory: Laboratory, tmp_path: Path
) -> None:
    master = redis_with()
    folder = tmp_path / "sentinel"
    folder.mkdir()
    config = folder / "sentinel.conf"
    config.write_text(f"sentinel monitor laboratory 127.0.0.1 {master.port} 1\n")
    sentinel = RedisServer(master.program, folder, sentinel=config)
    sentinel.start()
    try:
        url = f"sentinel://127.0.0.1:{sentinel.port}/0;sentinel://127.0.0.1:1/0"
        with pytest.raises(ConfigurationError, match="SCREEN_SENTINEL_MASTER"):
            connect(load_settings(broker_url=url))
        settings = laboratory.settings(broker_url=url, sentinel_master="laboratory")
        laboratory.fill(1, 3)
        with CeleryEngine(settings) as engine:
            engine.hand_out(laboratory.store, laboratory.freeze(), range(3))
        wait_until(lambda: master.client.llen("screen:3") == 3, what="the messages")
    finally:
        sentinel.kill()


def _certificate(folder: Path) -> tuple[Path, Path]:
    """One for ``localhost`` that signs itself."""
    if shutil.which("openssl") is None:
        pytest.skip("a certificate needs openssl")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-out", str(certificate), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key
