"""The Redis that carries messages: connecting, and checking that it may be relied on."""

from __future__ import annotations

import logging
from typing import NamedTuple

import redis
from kombu.utils.url import sanitize_url
from redis.exceptions import RedisError, ResponseError

from pipeline.errors import ConfigurationError
from worker.settings import Settings

logger = logging.getLogger(__name__)

#: Longest wait for an answer: a connection that was cut without a word is noticed within it.
SOCKET_SECONDS = 20.0
CONNECT_SECONDS = 5.0

#: The eviction policy under which Redis refuses new messages when it is full, instead of
#: forgetting ones it has taken.
_POLICY = "noeviction"


class BrokerReport(NamedTuple):
    """What ``screen doctor`` shows: ``policy`` is None where the server hides its settings."""

    version: str
    policy: str | None


def connect(settings: Settings, answer_seconds: float = SOCKET_SECONDS) -> redis.Redis:
    """A client; it connects when it is first used. Raises ConfigurationError on a malformed URL."""
    if settings.broker_url is None:
        raise ConfigurationError(
            "no broker is configured; set SCREEN_BROKER_URL=redis://host:6379/0"
        )
    try:
        return redis.Redis.from_url(
            settings.broker_url,
            socket_timeout=answer_seconds,
            socket_connect_timeout=min(CONNECT_SECONDS, answer_seconds),
            socket_keepalive=True,
        )
    except ValueError as error:
        raise ConfigurationError(
            f"SCREEN_BROKER_URL is not the URL of a Redis ({error}); "
            "it looks like redis://:password@host:6379/0"
        ) from None


def shown(settings: Settings) -> str:
    """The broker's URL without its password."""
    return str(sanitize_url(settings.broker_url or "none"))


def check_broker(settings: Settings) -> BrokerReport:
    """Refuse a Redis that does not answer, or that may forget messages when it is full."""
    client = connect(settings)
    try:
        version = str(client.info("server")["redis_version"])
        policy = _policy(client)
    except RedisError as error:
        raise ConfigurationError(
            f"the broker {shown(settings)} does not answer ({error}); start it or mend "
            "SCREEN_BROKER_URL; without that variable, images are processed on this machine alone"
        ) from error
    finally:
        client.close()
    if policy is None:
        logger.warning(
            "the broker hides its settings: make sure that its maxmemory-policy is %s", _POLICY
        )
    elif policy != _POLICY:
        raise ConfigurationError(
            f"the broker {shown(settings)} has maxmemory-policy {policy} and would drop messages "
            f"when it is full; mend it: redis-cli CONFIG SET maxmemory-policy {_POLICY}"
        )
    return BrokerReport(version, policy)


def _policy(client: redis.Redis) -> str | None:
    """The eviction policy, or None where CONFIG is renamed or forbidden."""
    try:
        return str(client.config_get("maxmemory-policy")["maxmemory-policy"])
    except (ResponseError, KeyError):
        return None
