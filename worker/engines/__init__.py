"""Engines: who works at the rows that the reconciler hands out."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from worker.records import RunRecord
from worker.settings import Settings
from worker.store import Store


class Engine(Protocol):
    """Works at rows. It may lose some and do some twice: the reconciler looks into the store."""

    name: str

    def hand_out(self, store: Store, run: RunRecord, positions: Sequence[int]) -> None:
        """Accept rows without waiting for them. Raises RetryableError, ConfigurationError."""
        ...

    def wait(self, seconds: float) -> list[int]:
        """Wait until something may have happened, at most so long; rows that it is done with.

        Raises RetryableError where work has to pause, ConfigurationError where it cannot go on.
        """
        ...

    def holds(self) -> int:
        """How many rows it believes to hold, of all runs. A hint: rows may be lost or doubled."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_engine(settings: Settings) -> Engine:
    """Celery where a broker is configured, else local processes. Use it as a context manager."""
    if settings.broker_url is None:
        from worker.engines.local import LocalEngine

        return LocalEngine(settings)
    from worker.engines.celery import CeleryEngine

    return CeleryEngine(settings)
