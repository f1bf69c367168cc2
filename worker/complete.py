"""Bringing a run to its reports, for somebody who waits for it: the feeder of one run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import RetryableError
from pipeline.report import IndexEntry
from worker.engines import open_engine
from worker.finalise import write_reports
from worker.place import Place
from worker.reconcile import Patience, run_to_completion
from worker.records import Progress, RunRecord
from worker.runs import progress
from worker.settings import Settings
from worker.store import Store


class Completed(NamedTuple):
    """What came of a run.

    ``state``: how far it is, not to the end if it was cancelled; ``finished_now``: images that had
    no outcome before; ``reports``: the entries of its patients, none if it was cancelled.
    """

    state: Progress
    finished_now: int
    reports: list[IndexEntry]


def complete(
    store: Store,
    run: RunRecord,
    out: Path | Place,
    *,
    settings: Settings,
    reference_images: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_pause: Callable[[str, float], None] | None = None,
) -> Completed:
    """Process what has no outcome, and write the reports.

    A fault that passes is waited out, whatever it befalls; stored results that turn out to be lost
    are made anew. KeyboardInterrupt passes through and leaves a run that continues when this is
    called again. Raises ConfigurationError where a person has to change something.
    """
    patience = Patience()
    finished_now = 0
    while True:
        try:
            state = progress(store, run)
            if not state.finished:
                missing = state.remaining
                with open_engine(settings) as engine:
                    state = run_to_completion(
                        store,
                        run,
                        engine,
                        settings=settings,
                        on_progress=on_progress,
                        on_pause=on_pause,
                    )
                finished_now += missing - state.remaining
            if not state.finished:
                return Completed(state, finished_now, [])
            reports = write_reports(store, run, out, reference_images=reference_images)
            return Completed(state, finished_now, reports)
        except RetryableError as error:
            patience.wait(error, on_pause=on_pause)
