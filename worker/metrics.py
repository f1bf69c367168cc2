"""Figures for Prometheus, counted from what processes tell (``worker/telemetry.py``).

Only the parent counts, so that processes may come and go without leaving files, and no figure is
lost when one of them dies. Labels are codes from this software; none carries an identity.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from worker.attempts import Ending
from worker.health import Heartbeat
from worker.presence import QueueState
from worker.telemetry import FaultTold, HandedTold, ImageTold, ModelTold, Told, TurnTold

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_LONG = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 14400)


class Metrics:
    """The figures of one worker or feeder with all its processes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.images = Counter(
            "screen_images",
            "Images that got their outcome here; reason is empty for those that were judged",
            ["outcome", "reason"],
            registry=self.registry,
        )
        self.repeated = Counter(
            "screen_images_repeated",
            "Images that were processed although another process had given them their outcome",
            registry=self.registry,
        )
        self.given_up = Counter(
            "screen_images_given_up",
            "Images that failed because too many attempts at them ended badly",
            ["reason"],
            registry=self.registry,
        )
        self.stages = Histogram(
            "screen_image_stage_seconds",
            "Time an image takes in each stage",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.queue_wait = Histogram(
            "screen_queue_wait_seconds",
            "Time between the handing out of a message and a worker taking it",
            buckets=_LONG,
            registry=self.registry,
        )
        self.model_load = Histogram(
            "screen_model_load_seconds",
            "Time a process needs to load the model",
            buckets=_LONG,
            registry=self.registry,
        )
        self.retries = Counter(
            "screen_retries",
            "Work that could not be done and is tried again",
            ["cause"],
            registry=self.registry,
        )
        self.store_errors = Counter(
            "screen_store_errors",
            "Times the result store could not be used",
            registry=self.registry,
        )
        self.handed_out = Counter(
            "screen_images_handed_out",
            "Images given to workers for the first time",
            registry=self.registry,
        )
        self.handed_out_again = Counter(
            "screen_images_handed_out_again",
            "Images given to workers again because they seemed to be lost",
            registry=self.registry,
        )
        self.outstanding = Gauge(
            "screen_images_outstanding",
            "Images handed out and not finished",
            registry=self.registry,
        )
        self._outstanding: dict[str | None, int] = {}
        for reason in get_args(Ending):
            self.given_up.labels(reason)

    def tell(self, told: Told) -> None:
        """Count what a process says."""
        if isinstance(told, ImageTold):
            self._count_image(told)
        elif isinstance(told, FaultTold):
            self.retries.labels(told.cause).inc()
            if told.cause == "store":
                self.store_errors.inc()
        elif isinstance(told, ModelTold):
            self.model_load.observe(told.seconds)
        elif isinstance(told, HandedTold):
            (self.handed_out_again if told.again else self.handed_out).inc(told.images)
        elif isinstance(told, TurnTold):
            self._outstanding[told.run_id] = told.outstanding
            self.outstanding.set(sum(self._outstanding.values()))

    def message_taken(self, handed_out: float | None) -> None:
        """A worker took a message that was handed out then, by the clock of whoever did."""
        if handed_out is not None:
            self.queue_wait.observe(max(0.0, time.time() - handed_out))

    def watch(
        self, heartbeat: Callable[[], Heartbeat], queue: Callable[[], QueueState | None]
    ) -> None:
        """Add what is asked for when Prometheus asks: health, and the queue."""
        self.registry.register(_Now(heartbeat, queue))

    def _count_image(self, told: ImageTold) -> None:
        for stage, seconds in told.seconds.items():
            self.stages.labels(stage).observe(seconds)
        if not told.first:
            self.repeated.inc()
            return
        self.images.labels(told.outcome, told.reason or "").inc()
        if told.reason in get_args(Ending):
            self.given_up.labels(told.reason).inc()


class _Now(Collector):
    """Figures that are looked up; those of a queue that does not answer are left out."""

    def __init__(
        self, heartbeat: Callable[[], Heartbeat], queue: Callable[[], QueueState | None]
    ) -> None:
        self._heartbeat = heartbeat
        self._queue = queue

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The figures as they are now."""
        beat = self._heartbeat()
        yield _gauge("screen_healthy", "1 if /healthz says so, else 0", beat.healthy)
        yield _gauge("screen_processes", "Processes that may work at once", beat.processes)
        yield _gauge("screen_processes_busy", "Processes that work now", beat.busy)
        yield _gauge(
            "screen_idle_seconds",
            "Time since a message was last taken or finished, or the feeder last looked round",
            beat.idle_seconds,
        )
        queue = self._queue()
        if queue is not None:
            yield _gauge("screen_queue_messages", "Messages nobody has taken", queue.waiting)
            yield _gauge(
                "screen_queue_unacknowledged", "Messages that workers have taken", queue.taken
            )
            yield _gauge(
                "screen_queue_age_seconds",
                "Age of the message that waits longest; 0 if none waits",
                queue.age_seconds,
            )

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing is asked before Prometheus asks."""
        return []


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=float(value))
