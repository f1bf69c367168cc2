"""What a Celery worker does when one of its processes dies at an image.

By itself it may notice after five seconds, wait for ten, and put the message behind all others,
which can be minutes of work. Here another process is started and the image tried again at once.
And what a process was given is not lost sight of when the worker stops or the broker goes away.
"""

from __future__ import annotations

import logging
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool
from celery.exceptions import Reject
from celery.worker.request import Request

from worker.tasks import REST_OF_ROWS

logger = logging.getLogger(__name__)

#: A process writes its answer before it ends, and the answer is read at once.
LAST_WORDS_SECONDS = 1.0

#: Between two looks at the processes. Celery looks at one whose end of a pipe has closed, which can
#: be a moment before it can be waited for, and then not again until the next look at all.
_LOOK_SECONDS = 0.5


class _Pool(AsynPool):
    @property
    def timers(self) -> dict[Any, float]:
        return {self.maintain_pool: _LOOK_SECONDS}

    def flush(self) -> None:
        """Drop what no process was given, when the worker stops or has lost its connection.

        Celery 5.7 also drops what a process was given a moment ago and has not confirmed yet. The
        process does it nevertheless, without a time limit, and does not end before somebody has
        read its answer, or after 30 s.
        """
        given = {key: job for key, job in self._cache.items() if job._write_to is not None}
        super().flush()
        for key, job in given.items():
            process = job._write_to
            if process._is_alive() and not job.ready():
                self._cache[key] = job
                self._busy_workers.add(process.inqW_fd)


class TaskPool(prefork.TaskPool):
    """Processes that are replaced as soon as they die."""

    Pool = _Pool


class FrontRequest(Request):
    """A message whose process died, or that was worked at in part, goes back to the front."""

    acknowledged: bool
    _to_the_front = False

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> None:
        """Celery's handling of an exception, of which rejecting the message is the end."""
        self._to_the_front = is_urgent(exc_info.exception)
        super().on_failure(exc_info, send_failed_event, return_ok)

    def reject(self, requeue: bool = False) -> None:
        """Give the message back, or drop it."""
        if not (self._to_the_front and requeue) or self.acknowledged:
            super().reject(requeue=requeue)
            return
        self.acknowledged = True
        tag, qos = self.message.delivery_tag, self.message.channel.qos
        try:
            # Redis takes from the right; kombu's own way back is to the left.
            qos.restore_by_tag(tag, leftmost=False)
            qos.ack(tag)
        except self.connection_errors as error:
            # As when Celery's own attempt fails: the reconciler finds the marker.
            logger.error("a message could not be given back: %s", error)


def is_urgent(error: BaseException) -> bool:
    """Whether a message that ended so was already at work, so that others must not overtake it."""
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    rest = isinstance(error, Reject) and error.reason == REST_OF_ROWS
    return rest or isinstance(error, WorkerLostError)
