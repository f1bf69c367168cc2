"""Watching a worker, feeder or watcher while it runs: log, metrics, heartbeat; a context each."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from worker import logs
from worker.health import BEAT_SECONDS, Heartbeat, Pulse, Role, Rounds, Sample
from worker.settings import Settings
from worker.telemetry import HandedTold, ImageTold, Told, TurnTold, listening

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

    with _observed(settings, {"feeder": sample}, hear):
        yield


@contextmanager
def observed_watcher(settings: Settings) -> Iterator[Rounds]:
    """Around the life of a watcher, which is to say when it looks."""
    rounds = Rounds()
    with _observed(settings, {"watcher": lambda _: rounds.sample()}):
        yield rounds


@contextmanager
def observed_worker(settings: Settings, *, feeds: bool = False) -> Iterator[None]:
    """Around the life of a Celery worker; ``feeds``: a thread of it is a feeder."""
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

    turns = 0

    def hear(told: Told) -> None:
        # What the processes of the worker tell says nothing of the thread.
        nonlocal turns
        own = isinstance(told, ImageTold) and told.process == os.getpid()
        turns += own or isinstance(told, TurnTold | HandedTold)

    samples: dict[Role, Callable[[int | None], Sample]] = {"worker": sample}
    if feeds:
        samples["feeder"] = lambda _: Sample(moves=turns, busy=1)
    worker_ready.connect(on_ready, weak=False)
    try:
        with _observed(settings, samples, hear):
            yield
    finally:
        worker_ready.disconnect(on_ready)


@contextmanager
def _observed(
    settings: Settings,
    samples: Mapping[Role, Callable[[int | None], Sample]],
    *sinks: Callable[[Told], None],
) -> Iterator[None]:
    with ExitStack() as stack:
        presence: Presence | None = None
        if settings.broker_url is not None:
            from worker.presence import Presence

            presence = Presence(settings)
            stack.callback(presence.close)

        pulses = []
        for role, sample in samples.items():
            pulses.append(Pulse(settings, role, partial(_look, sample, presence)))
            stack.callback(pulses[-1].leave)
        more = [_count(stack, settings, pulses, presence)] if settings.metrics_port else []
        stack.enter_context(listening(logs.tell, *sinks, *more))
        stack.enter_context(beating(pulses, presence))
        yield


def _look(sample: Callable[[int | None], Sample], presence: Presence | None) -> Sample:
    """What is seen of this process, and of what waits for it."""
    queue = presence.queue() if presence is not None else None
    return sample(None if queue is None else queue.waiting)


def _worst(pulses: Sequence[Pulse]) -> Heartbeat:
    """The heartbeat of the first that is ill, or of the first."""
    beats = [pulse.last for pulse in pulses]
    return next((beat for beat in beats if not beat.healthy), beats[0])


def _count(
    stack: ExitStack, settings: Settings, pulses: Sequence[Pulse], presence: Presence | None
) -> Callable[[Told], None]:
    """Count for Prometheus what is told, and open the port."""
    from worker.exposition import serving
    from worker.metrics import Metrics

    metrics = Metrics()
    metrics.watch(
        lambda: _worst(pulses), lambda: presence.queue() if presence is not None else None
    )
    stack.enter_context(
        serving(
            settings.metrics_address,
            settings.metrics_port or 0,
            metrics.registry,
            lambda: _worst(pulses),
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
def beating(pulses: Sequence[Pulse], presence: Presence | None) -> Iterator[None]:
    """Keep the heartbeats going in a thread."""
    over = threading.Event()

    def beat() -> None:
        while True:
            for pulse in pulses:
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
            for pulse in pulses:
                presence.leave(pulse.last)
