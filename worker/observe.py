"""Watching a worker or feeder while it runs: log, metrics, heartbeat; one context for each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from worker import logs
from worker.health import BEAT_SECONDS, Pulse, Role, Sample
from worker.settings import Settings
from worker.telemetry import Told, listening

if TYPE_CHECKING:
    from worker.metrics import Metrics
    from worker.presence import Presence


@contextmanager
def observed_feeder(settings: Settings) -> Iterator[None]:
    """Around everything a feeder does, and the local processes it starts."""
    turns = 0

    def hear(_: Told) -> None:
        # Whatever is told, something goes on: finishing a million known images takes a while.
        nonlocal turns
        turns += 1

    def sample(_: int | None) -> Sample:
        return Sample(moves=turns, busy=1)

    with _observed(settings, "feeder", sample, hear):
        yield


@contextmanager
def observed_worker(settings: Settings) -> Iterator[None]:
    """Around the life of a Celery worker."""
    from celery.signals import worker_ready
    from celery.worker import state

    ready = threading.Event()

    def on_ready(**_: object) -> None:
        ready.set()

    def sample(waiting: int | None) -> Sample:
        return Sample(
            moves=state.all_total_count[0],
            busy=len(state.active_requests),
            waiting=waiting,
            ready=ready.is_set(),
        )

    worker_ready.connect(on_ready, weak=False)
    try:
        with _observed(settings, "worker", sample):
            yield
    finally:
        worker_ready.disconnect(on_ready)


@contextmanager
def _observed(
    settings: Settings,
    role: Role,
    sample: Callable[[int | None], Sample],
    *sinks: Callable[[Told], None],
) -> Iterator[None]:
    with ExitStack() as stack:
        presence: Presence | None = None
        if settings.broker_url is not None:
            from worker.presence import Presence

            presence = Presence(settings)
            stack.callback(presence.close)

        def look() -> Sample:
            queue = presence.queue() if presence is not None else None
            return sample(None if queue is None else queue.waiting)

        pulse = Pulse(settings, role, look)
        stack.callback(pulse.leave)
        more = [_count(stack, settings, pulse, presence)] if settings.metrics_port else []
        stack.enter_context(listening(logs.tell, *sinks, *more))
        stack.enter_context(_beating(pulse, presence))
        yield


def _count(
    stack: ExitStack, settings: Settings, pulse: Pulse, presence: Presence | None
) -> Callable[[Told], None]:
    """Count for Prometheus what is told, and open the port."""
    from worker.exposition import serving
    from worker.metrics import Metrics

    metrics = Metrics()
    metrics.watch(lambda: pulse.last, lambda: presence.queue() if presence is not None else None)
    stack.enter_context(
        serving(
            settings.metrics_address,
            settings.metrics_port or 0,
            metrics.registry,
            lambda: pulse.last,
        )
    )
    if presence is not None:
        stack.enter_context(_timing_the_queue(metrics))
    return metrics.tell


@contextmanager
def _timing_the_queue(metrics: Metrics) -> Iterator[None]:
    from celery.signals import task_received

    from worker.presence import handed_out

    def on_received(request: Any, **_: object) -> None:
        metrics.message_taken(handed_out(request.message.headers))

    task_received.connect(on_received, weak=False)
    try:
        yield
    finally:
        task_received.disconnect(on_received)


@contextmanager
def _beating(pulse: Pulse, presence: Presence | None) -> Iterator[None]:
    """Keep the heartbeat going in a thread."""
    over = threading.Event()

    def beat() -> None:
        while True:
            found = pulse.beat()
            if presence is not None:
                presence.renew(found)
            if over.wait(BEAT_SECONDS):
                return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(BEAT_SECONDS)
        if presence is not None:
            presence.leave(pulse.last)
