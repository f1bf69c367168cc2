"""The Celery application and the worker command."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from celery import Celery
from celery.signals import before_task_publish, worker_shutting_down

from worker import logs
from worker.broker import CONNECT_SECONDS, SOCKET_SECONDS, check_broker
from worker.compute import COMPUTE_ENVIRONMENT
from worker.place import Place
from worker.records import Priority
from worker.settings import Settings

logger = logging.getLogger(__name__)

QUEUE = "screen"

#: Feeding that ended with an error begins anew after this.
_FEED_AGAIN_SECONDS = 60.0

#: What runs of each priority are sent with: Redis has a list for each, and workers look into the
#: first one first.
PRIORITY_STEPS: dict[Priority, int] = {"high": 0, "normal": 3, "low": 6}
_PRIORITY_SEPARATOR = ":"

#: Where kombu keeps messages that workers have taken; named, so that other Celery applications on
#: the same Redis neither count nor restore them.
UNACKED_KEY = "screen-unacked"


def queue_keys() -> list[str]:
    """The lists in Redis on which messages wait, the most urgent first."""
    return [
        f"{QUEUE}{_PRIORITY_SEPARATOR}{step}" if step else QUEUE
        for step in sorted(PRIORITY_STEPS.values())
    ]


def create_app(settings: Settings) -> Celery:
    """The application, for the sending and the working side alike."""
    app = Celery(
        "screen", broker=settings.broker_url, include=["worker.tasks", "worker.celery_logs"]
    )
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
        # What leaks memory, here or in a library, does so for a bounded time.
        worker_max_tasks_per_child=settings.images_per_process,
        worker_max_memory_per_child=settings.process_memory_bytes // 1024,
        # A second request to stop is meant: the messages go back at once.
        worker_soft_shutdown_timeout=0,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A Redis at its memory limit refuses commands; the worker waits as if it were away.
        broker_channel_error_retry=True,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_transport_options={
            # After this a message counts as lost; settings refuse less than five hard limits.
            "visibility_timeout": settings.visibility_timeout_seconds,
            "socket_timeout": SOCKET_SECONDS,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 10,
            **({"master_name": settings.sentinel_master} if settings.sentinel_master else {}),
            "priority_steps": sorted(PRIORITY_STEPS.values()),
            "sep": _PRIORITY_SEPARATOR,
            "unacked_key": UNACKED_KEY,
            "unacked_index_key": f"{UNACKED_KEY}-index",
            "unacked_mutex_key": f"{UNACKED_KEY}-mutex",
        },
        # Unless asked for, nothing reads events or sends commands: fewer connections, and less to
        # go wrong. No history depends on them: the outcomes are in the store.
        worker_send_task_events=settings.celery_events,
        task_send_sent_event=settings.celery_events,
        worker_enable_remote_control=settings.celery_events,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    from worker.presence import stamp

    before_task_publish.connect(stamp, dispatch_uid="screen.handed_out")
    return app


def run_worker(
    settings: Settings, *, outs: Sequence[Path | Place] = (), log_level: str = "INFO"
) -> int:
    """Work until told to stop (``screen worker``); the exit status.

    ``outs``: folders of reports whose runs it also feeds.

    The first SIGTERM or Ctrl-C lets running images finish that do so within
    ``shutdown_seconds``, the second none. Raises ConfigurationError where broker or settings do not
    allow safe work.
    """
    logs.configure(settings.log_format, log_level)
    check_broker(settings)
    # The processes that do the work are started afresh and know their settings from here.
    os.environ.update(COMPUTE_ENVIRONMENT)
    os.environ.update(_exported(settings))
    app = create_app(settings)
    # Only here, as they need the worker's parts of Celery.
    from worker.connection_watch import ConnectionWatch
    from worker.lost_processes import LAST_WORDS_SECONDS, TaskPool
    from worker.observe import observed_worker

    # The default leaves the message of a process that died untouched for 10 s.
    app.conf.worker_lost_wait = LAST_WORDS_SECONDS

    app.steps["consumer"].add(ConnectionWatch)
    worker = app.Worker(
        concurrency=settings.processes,
        loglevel=log_level,
        pool_cls=TaskPool,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=not settings.celery_events,
        quiet=True,
    )
    # Else each new process logs that it exists, in a format of its own.
    os.environ.pop("_MP_FORK_LOGLEVEL_", None)
    with (
        observed_worker(settings, feeds=bool(outs)),
        _feeding(outs, settings),
        _bounded_shutdown(settings.shutdown_seconds),
    ):
        worker.start()
    return int(worker.exitcode or 0)


@contextmanager
def _bounded_shutdown(seconds: float) -> Iterator[None]:
    """Where stopping takes too long, ask again, as a person would with a second Ctrl-C."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGQUIT))
    timer.daemon = True

    def begin(how: str, **_: object) -> None:
        if how == "Warm" and not timer.is_alive():
            timer.start()

    worker_shutting_down.connect(begin)
    try:
        yield
    finally:
        worker_shutting_down.disconnect(begin)
        timer.cancel()


@contextmanager
def _feeding(outs: Sequence[Path | Place], settings: Settings) -> Iterator[None]:
    """Feed beside the work, in a thread: it waits for the store nearly all of its time."""
    if not outs:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_feed, args=(outs, settings, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _feed(outs: Sequence[Path | Place], settings: Settings, stop: threading.Event) -> None:
    """Feed until told to stop, whatever happens: nobody would notice that the thread has ended."""
    from worker.feed import feed

    while not stop.is_set():
        try:
            feed(outs, settings, stop=stop)
        except Exception as error:  # noqa: BLE001 - said, and tried again
            logger.error("feeding begins anew in a while: %s", logs.cause(error))
            stop.wait(_FEED_AGAIN_SECONDS)


def _exported(settings: Settings) -> dict[str, str]:
    """The settings as environment variables."""
    given = settings.model_dump(mode="json", exclude_none=True)
    return {f"SCREEN_{name.upper()}": str(value) for name, value in given.items()}
