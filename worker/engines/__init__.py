"""Engines: who works at the rows that the reconciler hands out."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from pipeline.errors import ScreenError
from worker.records import RunRecord
from worker.settings import Settings
from worker.store import Store


class Settled(NamedTuple):
    """A row that the engine is done with, or what kept it from working at it."""

    run_id: str
    position: int
    trouble: ScreenError | None = None


class Engine(Protocol):
    """Works at rows. It may lose some and do some twice: the reconciler looks into the store."""

    name: str

    @property
    def capacity(self) -> int:
        """How many rows it can make use of at once."""
        ...

    def hand_out(
        self, store: Store, run: RunRecord, positions: Sequence[int], *, more: int = 0
    ) -> None:
        """Accept rows without waiting for them. Raises RetryableError, ConfigurationError.

        ``more``: how many rows of the run will follow, about; several may go to one worker at once
        while they are many.
        """
        ...

    def wait(self, seconds: float) -> list[Settled]:
        """Wait until something may have happened, at most so long; what became of rows.

        Raises RetryableError where work has to pause, ConfigurationError where it cannot go on,
        whichever run it is for.
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
