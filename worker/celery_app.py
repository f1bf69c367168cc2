"""The Celery application and the worker command."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from celery import Celery

from worker.broker import CONNECT_SECONDS, SOCKET_SECONDS, check_broker
from worker.compute import COMPUTE_ENVIRONMENT
from worker.records import Priority
from worker.settings import Settings

logger = logging.getLogger(__name__)

QUEUE = "screen"

#: What runs of each priority are sent with: Redis has a list for each, and workers look into the
#: first one first.
PRIORITY_STEPS: dict[Priority, int] = {"high": 0, "normal": 3, "low": 6}
_PRIORITY_SEPARATOR = ":"

#: Where kombu keeps messages that workers have taken; named, so that other Celery applications on
#: the same Redis neither count nor restore them.
UNACKED_KEY = "screen-unacked"

#: How long a second request to stop lets running images finish.
_SOFT_SHUTDOWN_SECONDS = 10.0


def queue_keys() -> list[str]:
    """The lists in Redis on which messages wait, the most urgent first."""
    return [
        f"{QUEUE}{_PRIORITY_SEPARATOR}{step}" if step else QUEUE
        for step in sorted(PRIORITY_STEPS.values())
    ]


def create_app(settings: Settings) -> Celery:
    """The application, for the sending and the working side alike."""
    app = Celery("screen", broker=settings.broker_url, include=["worker.tasks"])
    app.conf.update(
        # Messages are JSON and validated; pickle would let a broker run code on every worker.
        task_serializer="json",
        accept_content=["json"],
        # The outcome is in the store. A result backend would be a second truth.
        result_backend=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_default_queue=QUEUE,
        # A message is acknowledged after the work, and handed out again if the worker dies or
        # times out. Attempt markers in the store bound how often.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure=True,
        task_acks_on_timeout=False,
        # No worker hoards messages that another could work at.
        worker_prefetch_multiplier=1,
        # Forking a process in which TensorFlow has started threads hangs.
        worker_pool_start_method="spawn",
        # The default of 4 s is shorter than importing TensorFlow on a busy machine.
        worker_proc_alive_timeout=settings.worker_start_seconds,
        task_soft_time_limit=settings.soft_limit_seconds,
        task_time_limit=settings.hard_limit_seconds,
        # Images that are being processed when the broker vanishes are finished: their result goes
        # to the store, not to the broker.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=_SOFT_SHUTDOWN_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_transport_options={
            # After this a message counts as lost; settings refuse less than five hard limits.
            "visibility_timeout": settings.visibility_timeout_seconds,
            "socket_timeout": SOCKET_SECONDS,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "priority_steps": sorted(PRIORITY_STEPS.values()),
            "sep": _PRIORITY_SEPARATOR,
            "unacked_key": UNACKED_KEY,
            "unacked_index_key": f"{UNACKED_KEY}-index",
            "unacked_mutex_key": f"{UNACKED_KEY}-mutex",
        },
        # Nothing reads events or sends commands; fewer connections, and less to go wrong.
        worker_send_task_events=False,
        task_send_sent_event=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    return app


def run_worker(settings: Settings, *, outs: Sequence[Path] = (), log_level: str = "INFO") -> int:
    """Work until told to stop (``screen worker``); the exit status.

    ``outs``: folders of reports whose runs it also feeds.

    The first SIGTERM or Ctrl-C lets running images finish. Raises ConfigurationError where broker
    or settings do not allow safe work.
    """
    check_broker(settings)
    # The processes that do the work are started afresh and know their settings from here.
    os.environ.update(COMPUTE_ENVIRONMENT)
    os.environ.update(_exported(settings))
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(message)s")
    app = create_app(settings)
    # Only here, as it needs the worker's parts of Celery.
    from worker.connection_watch import ConnectionWatch

    app.steps["consumer"].add(ConnectionWatch)
    worker = app.Worker(
        concurrency=settings.processes,
        loglevel=log_level,
        pool_cls="prefork",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    with _feeding(outs, settings):
        worker.start()
    return int(worker.exitcode or 0)


@contextmanager
def _feeding(outs: Sequence[Path], settings: Settings) -> Iterator[None]:
    """Feed beside the work, in a thread: it waits for the store nearly all of its time."""
    if not outs:
        yield
        return
    from worker.feed import feed

    stop = threading.Event()
    thread = threading.Thread(target=feed, args=(outs, settings), kwargs={"stop": stop})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _exported(settings: Settings) -> dict[str, str]:
    """The settings as environment variables."""
    given = settings.model_dump(mode="json", exclude_none=True)
    return {f"SCREEN_{name.upper()}": str(value) for name, value in given.items()}
