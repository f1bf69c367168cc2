"""The Redis that carries messages: connecting, and checking that it may be relied on."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import redis
from kombu.utils.url import sanitize_url
from redis.exceptions import RedisError, ResponseError
from redis.sentinel import Sentinel

from pipeline.errors import ConfigurationError
from worker.settings import Settings

logger = logging.getLogger(__name__)

#: Longest wait for an answer: a connection that was cut without a word is noticed within it.
SOCKET_SECONDS = 20.0
CONNECT_SECONDS = 5.0

_SENTINEL, _SENTINEL_PORT = "sentinel://", 26379

#: The eviction policy under which Redis refuses new messages when it is full, instead of
#: forgetting ones it has taken.
_POLICY = "noeviction"


class BrokerReport(NamedTuple):
    """What ``screen doctor`` shows; None where the server hides its settings.

    ``policy``: what it does when it is full. ``append_only``: whether it logs what it was told.
    """

    version: str
    policy: str | None
    append_only: bool | None


def connect(settings: Settings, answer_seconds: float = SOCKET_SECONDS) -> redis.Redis:
    """A client; it connects when it is first used. Raises ConfigurationError on a malformed URL.

    ``redis://``, ``rediss://`` (TLS), ``unix://``, or ``sentinel://`` with
    ``SCREEN_SENTINEL_MASTER``.
    """
    if settings.broker_url is None:
        raise ConfigurationError(
            "no broker is configured; set SCREEN_BROKER_URL=redis://host:6379/0"
        )
    timeouts = {
        "socket_timeout": answer_seconds,
        "socket_connect_timeout": min(CONNECT_SECONDS, answer_seconds),
        "socket_keepalive": True,
    }
    try:
        if settings.broker_url.startswith(_SENTINEL):
            return _connect_through_sentinels(settings, timeouts)
        return redis.Redis.from_url(settings.broker_url, **timeouts)
    except ValueError as error:
        raise ConfigurationError(
            f"SCREEN_BROKER_URL is not the URL of a Redis ({error}); "
            "it looks like redis://:password@host:6379/0"
        ) from None


def _connect_through_sentinels(settings: Settings, timeouts: dict[str, Any]) -> redis.Redis:
    """Ask the sentinels of the URL which server is the master now."""
    if settings.sentinel_master is None:
        raise ConfigurationError(
            "a broker behind sentinels has a name: set SCREEN_SENTINEL_MASTER to what "
            "`sentinel monitor` calls it"
        )
    parts = [urlsplit(part) for part in (settings.broker_url or "").split(";")]
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
        [(part.hostname or "localhost", part.port or _SENTINEL_PORT) for part in parts], **timeouts
    )
    # As kombu has it: name and password are those of the server.
    master: redis.Redis = sentinels.master_for(
        settings.sentinel_master,
        username=parts[0].username,
        password=parts[0].password,
        db=int(parts[0].path.strip("/") or 0),
        **timeouts,
    )
    return master


def shown(settings: Settings) -> str:
    """The broker's URL without its password."""
    parts = (settings.broker_url or "none").split(";")
    return ";".join(str(sanitize_url(part)) for part in parts)


def check_broker(settings: Settings) -> BrokerReport:
    """Refuse a Redis that does not answer, may forget messages when it is full, or is a cluster.

    What only costs time after a crash is a warning.
    """
    client = connect(settings)
    try:
        server = client.info("server")
        policy = _policy(client)
        append_only = _append_only(client)
    except RedisError as error:
        raise ConfigurationError(
            f"the broker {shown(settings)} does not answer ({error}); start it or mend "
            "SCREEN_BROKER_URL; without that variable, images are processed on this machine alone"
        ) from error
    finally:
        client.close()
    if server.get("redis_mode") == "cluster":
        raise ConfigurationError(
            f"the broker {shown(settings)} is a Redis Cluster, over which Celery's queues do not "
            "work; use a single Redis, one behind sentinels, or a managed one with cluster mode off"
        )
    if policy is None:
        logger.warning(
            "the broker hides its settings: make sure that its maxmemory-policy is %s", _POLICY
        )
    elif policy != _POLICY:
        raise ConfigurationError(
            f"the broker {shown(settings)} has maxmemory-policy {policy} and would drop messages "
            f"when it is full; mend it: redis-cli CONFIG SET maxmemory-policy {_POLICY}"
        )
    if append_only is False:
        logger.warning("the broker has no append-only file: if it dies, images are handed out anew")
    return BrokerReport(str(server["redis_version"]), policy, append_only)


def _policy(client: redis.Redis) -> str | None:
    """The eviction policy, or None where CONFIG is renamed or forbidden."""
    try:
        return str(client.config_get("maxmemory-policy")["maxmemory-policy"])
    except (ResponseError, KeyError):
        return None


def _append_only(client: redis.Redis) -> bool | None:
    """Whether there is an append-only file, or None where that is not told."""
    try:
        return bool(client.info("persistence")["aof_enabled"])
    except (ResponseError, KeyError):
        return None
