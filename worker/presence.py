"""What Redis tells about the work: the queue, and who is there.

Workers and feeders leave a key with their heartbeat that expires by itself, so that no clocks are
compared. People look at it; all that is decided by it is how many images a message holds.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from pydantic import ValidationError
from redis.exceptions import RedisError

from worker.broker import connect
from worker.celery_app import UNACKED_KEY, queue_keys
from worker.health import Heartbeat
from worker.settings import Settings

#: A heartbeat that was not renewed for so long is a dead process's, or a stopped one's.
EXPIRY_SECONDS = 30

#: Somebody looks at a screen, or Prometheus waits: no answer is an answer.
_ANSWER_SECONDS = 2.0

_PREFIX = "screen-worker:"

#: Header of a message: when it was handed out.
HANDED_OUT = "screen_handed_out"


class QueueState(NamedTuple):
    """Messages that wait, that workers have taken, and how long the oldest one waits."""

    waiting: int
    taken: int
    age_seconds: float


class Presence:
    """The Redis of the settings as one process sees it; answers None while Redis is away."""

    def __init__(self, settings: Settings) -> None:
        self._client = connect(settings, answer_seconds=_ANSWER_SECONDS)

    def queue(self) -> QueueState | None:
        """How much waits."""
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for name in queue_keys():
                    pipe.llen(name)
                    pipe.lindex(name, -1)
                pipe.hlen(UNACKED_KEY)
                answers = pipe.execute()
        except (RedisError, OSError):
            return None
        *queues, taken = answers
        ages = [message_age(oldest) for oldest in queues[1::2] if oldest is not None]
        return QueueState(sum(queues[0::2]), taken, max(ages, default=0.0))

    def renew(self, beat: Heartbeat) -> None:
        """Leave the heartbeat for others."""
        try:
            self._client.set(_key(beat), beat.model_dump_json(), ex=EXPIRY_SECONDS)
        except (RedisError, OSError):
            return

    def leave(self, beat: Heartbeat) -> None:
        """The process goes."""
        try:
            self._client.delete(_key(beat))
        except (RedisError, OSError):
            return

    def heartbeats(self) -> list[Heartbeat] | None:
        """Of everybody who gave one lately, by host and process."""
        try:
            found = list(self._read())
        except (RedisError, OSError):
            return None
        return sorted(found, key=lambda beat: (beat.role, beat.host, beat.process))

    def close(self) -> None:
        """Give up the connection."""
        self._client.close()

    def _read(self) -> Iterator[Heartbeat]:
        names = list(self._client.scan_iter(match=f"{_PREFIX}*", count=1000))
        for value in cast(list[bytes | None], self._client.mget(names)) if names else []:
            # One of another version is passed over.
            try:
                yield Heartbeat.model_validate_json(value or b"")
            except ValidationError:
                continue


def stamp(headers: dict[str, Any], **_: object) -> None:
    """Celery's signal ``before_task_publish``: write into the message when it is handed out."""
    headers[HANDED_OUT] = round(time.time(), 3)


def handed_out(headers: dict[str, Any] | None) -> float | None:
    """When a message was handed out; None if it does not say."""
    value = (headers or {}).get(HANDED_OUT)
    return value if isinstance(value, float) and math.isfinite(value) else None


def _key(beat: Heartbeat) -> str:
    return f"{_PREFIX}{beat.role}:{beat.host}:{beat.process}"


def message_age(message: bytes) -> float:
    """How long a message waits, in seconds; 0 if it does not say."""
    try:
        handed = handed_out(json.loads(message)["headers"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return 0.0
    return max(0.0, time.time() - handed) if handed is not None else 0.0
