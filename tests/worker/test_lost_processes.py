"""Which messages go back to the front of the queue, and that they get there."""

from __future__ import annotations

import pytest
from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.exceptions import Reject
from kombu import Connection

from benchmarks.rig.redis_server import RedisServer
from worker.celery_app import create_app
from worker.lost_processes import FrontRequest, is_urgent
from worker.settings import load_settings
from worker.tasks import REST_OF_ROWS


def with_traceback(error: Exception) -> ExceptionWithTraceback:
    try:
        raise error
    except type(error) as raised:
        return ExceptionWithTraceback(raised, raised.__traceback__)


@pytest.mark.parametrize(
    ("error", "urgent"),
    [
        (WorkerLostError(), True),
        (with_traceback(WorkerLostError()), True),
        (Reject(REST_OF_ROWS, requeue=True), True),
        (Reject("time limit", requeue=True), False),
        (TimeLimitExceeded(4), False),
        (ValueError(), False),
    ],
)
def test_a_message_that_was_at_work_is_urgent(error: Exception, urgent: bool) -> None:
    assert is_urgent(error) is urgent


@pytest.mark.parametrize("urgent", [True, False])
def test_an_urgent_message_is_the_next(redis_server: RedisServer, urgent: bool) -> None:
    app = create_app(load_settings(broker_url=redis_server.url))
    options = app.conf.broker_transport_options
    with Connection(redis_server.url, transport_options=options) as connection:
        queue = connection.SimpleQueue("test")
        for content in ("first", "second"):
            queue.put(content)
        message = queue.get(timeout=5)
        request = FrontRequest.__new__(FrontRequest)
        request._message, request.acknowledged = message, False
        request._on_reject = message.reject_log_error
        request._connection_errors = connection.connection_errors
        request.send_event = lambda *_, **__: None
        request._to_the_front = urgent
        request.reject(requeue=True)
        assert request.acknowledged
        assert queue.get(timeout=5).payload == ("first" if urgent else "second")
        assert redis_server.client.hlen(options["unacked_key"]) == 1
