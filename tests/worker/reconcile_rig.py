"""An engine that works in the process of the test, and runs that are fed to it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import pytest

from benchmarks.rig.laboratory import Laboratory
from worker.engines import Settled
from worker.process import open_analyser, process_row
from worker.reconcile import run_to_completion
from worker.records import Progress, RunRecord
from worker.settings import Settings
from worker.store import Store

#: Settings under which what is lost is noticed soon.
QUICK = {"reconcile_seconds": 0.05}


class InlineEngine:
    """Does a few rows whenever it is waited for, in this process; subclasses misbehave."""

    name = "inline"

    def __init__(self, laboratory: Laboratory, **settings: object) -> None:
        self.settings: Settings = laboratory.settings(**settings)
        self.rows: deque[tuple[Store, RunRecord, int]] = deque()
        self.handed: list[int] = []
        self.most = 0

    @property
    def capacity(self) -> int:
        return self.settings.window

    def hand_out(
        self, store: Store, run: RunRecord, positions: Sequence[int], *, more: int = 0
    ) -> None:
        self.handed += positions
        for position in positions:
            self.accept(store, run, position)
        self.most = max(self.most, len(self.rows))

    def accept(self, store: Store, run: RunRecord, position: int) -> None:
        self.rows.append((store, run, position))

    def wait(self, seconds: float) -> list[Settled]:
        if not self.rows:
            time.sleep(min(seconds, 0.02))
        done = []
        for _ in range(min(5, len(self.rows))):
            store, run, position = self.rows.popleft()
            analyser = open_analyser(run, self.settings)
            process_row(store, run, position, analyser, settings=self.settings)
            done.append(Settled(run.run_id, position))
        return done

    def holds(self) -> int:
        return len(self.rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.rows.clear()


def complete(
    laboratory: Laboratory,
    engine: InlineEngine,
    run: RunRecord | None = None,
    on_pause: Callable[[str, float], None] | None = None,
) -> Progress:
    return run_to_completion(
        laboratory.store,
        run or laboratory.freeze(),
        engine,
        settings=engine.settings,
        on_pause=on_pause,
    )


def run_for(seconds: float, laboratory: Laboratory, run: RunRecord, engine: InlineEngine) -> None:
    """Feed a run that comes to no end, and interrupt it."""
    until = time.monotonic() + seconds

    def stop(_: Progress) -> None:
        if time.monotonic() > until:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_to_completion(laboratory.store, run, engine, settings=engine.settings, on_progress=stop)
