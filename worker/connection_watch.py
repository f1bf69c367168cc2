"""Noticing in a Celery worker that its connection to Redis is no longer what it believes.

Celery connects anew when reading from Redis fails. Two faults escape it, and the worker then waits
for ever: a connection that was cut without a word, and an acknowledgement that failed because Redis
was away just then: kombu logs it, goes on counting the message as unfinished, and fetches no
further one (seen with Celery 5.7 whenever Redis was killed while every process was busy).
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker import state
from redis.exceptions import ConnectionError as RedisConnectionError

from worker.broker import connect
from worker.settings import load_settings

#: Between two looks. An acknowledgement is on its way for milliseconds: one that is missing in two
#: looks is lost.
_SECONDS = 5.0

#: How long Redis may take to answer.
_ANSWER_SECONDS = 4.0


class ConnectionWatch(bootsteps.StartStopStep):
    """Has the worker connect anew, as after a fault that Celery notices itself."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._client = connect(load_settings(), answer_seconds=_ANSWER_SECONDS)
        self._timer: Any = None
        self._missing = 0

    def start(self, consumer: Any) -> None:
        """Look now and then, from the loop that may raise connection errors."""
        self._missing = 0
        self._timer = consumer.timer.call_repeatedly(_SECONDS, self._look, (consumer,))

    def stop(self, consumer: Any) -> None:
        """The connection is given up; ``start`` is called for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, consumer: Any) -> None:
        """Raise one of redis' connection errors where the connection is not sound."""
        self._client.ping()
        missing = _unsettled(consumer) - len(state.reserved_requests)
        if missing > 0 and self._missing > 0:
            raise RedisConnectionError("acknowledgements were lost with an earlier connection")
        self._missing = missing


def _unsettled(consumer: Any) -> int:
    """Messages that the channel counts as taken and not acknowledged (kombu has no public word)."""
    qos = consumer.task_consumer.channel.qos
    return len(qos._delivered) - len(qos._dirty)
