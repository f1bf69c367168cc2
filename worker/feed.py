"""Bringing every unfinished run of some stores to its end, and writing its reports.

The window of rows that are outstanding is shared between the runs by urgency, so that a small run
that comes late is not stuck behind an archive of a million images.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import ConfigurationError, RetryableError, ScreenError
from worker import keys, logs, telemetry
from worker.allowance import Allowance
from worker.engines import Engine, open_engine
from worker.finalise import write_reports
from worker.manifest import read_run
from worker.place import Place
from worker.reconcile import Patience, Reconciler
from worker.records import Priority, RunRecord
from worker.runs import is_cancelled, priority, progress
from worker.settings import Settings
from worker.store import Store, open_store

logger = logging.getLogger(__name__)

#: How much of the window a run of each priority gets, beside others.
WEIGHTS: dict[Priority, int] = {"high": 8, "normal": 2, "low": 1}

#: Where a person has to change something, it is tried again after this.
_BLOCKED_SECONDS = 60.0


class _Folder(NamedTuple):
    """A folder of reports and the store in it."""

    out: Path | Place
    store: Store


class _Job:
    """A run that is being fed."""

    def __init__(
        self,
        folder: _Folder,
        run: RunRecord,
        engine: Engine,
        settings: Settings,
        allowance: Allowance,
    ) -> None:
        self.folder, self.run = folder, run
        self.reconciler = Reconciler(
            folder.store, run, engine, settings=settings, allowance=allowance
        )
        self.weight = WEIGHTS[priority(folder.store, run)]
        self.rests_until = 0.0
        self._patience = Patience()

    def rest(self, error: Exception) -> None:
        """Leave the run alone for a while; the others go on."""
        if isinstance(error, RetryableError):
            pause = self._patience.after(error, self.reconciler.settled)
            self.reconciler.take_back()
        else:
            logger.error("run %s cannot go on: %s", self.run.run_id, logs.cause(error))
            pause = _BLOCKED_SECONDS
        self.rests_until = time.monotonic() + pause


class Feeder:
    """All unfinished runs of some folders of reports, with one engine."""

    def __init__(
        self,
        outs: Sequence[Path | Place],
        engine: Engine,
        *,
        settings: Settings,
        reference_images: Path | None = None,
    ) -> None:
        self._folders = [_Folder(out, open_store(str(out), create=True)) for out in outs]
        self._engine = engine
        self._settings = settings
        self._reference_images = reference_images
        self._allowance = Allowance(settings.megabytes_per_second)
        self._jobs: dict[str, _Job] = {}
        self._looked = 0.0
        self._rests_until = 0.0

    def step(self) -> bool:
        """Look for runs, hand out rows, see what became of them; whether nothing is left to do."""
        telemetry.turn()
        self._look_for_runs()
        now = time.monotonic()
        active = [job for job in self._jobs.values() if job.rests_until <= now]
        if now >= self._rests_until:
            for job in active:
                self._advance(job, share=self._share(job, active))
        self._hear(min((job.reconciler.patience_seconds for job in active), default=1.0))
        return not self._jobs

    def close(self) -> None:
        """Leave the runs to others."""
        for job in self._jobs.values():
            try:
                job.reconciler.close()
            except RetryableError as error:
                logger.warning("a lease is left to run out: %s", logs.cause(error))

    def _look_for_runs(self) -> None:
        now = time.monotonic()
        if self._looked and now - self._looked < self._settings.reconcile_seconds:
            return
        self._looked = now
        for folder in self._folders:
            try:
                self._look_into(folder)
            except ScreenError as error:
                logger.error("%s", logs.cause(error))

    def _look_into(self, folder: _Folder) -> None:
        store = folder.store
        for key in store.list(keys.RUNS):
            run_id = key.removeprefix(keys.RUNS).removesuffix(".json")
            if run_id in self._jobs or store.exists(keys.reported(run_id)):
                continue
            run = read_run(store, run_id)
            if not is_cancelled(store, run):
                logger.info("run %s is taken up", run_id)
                self._jobs[run_id] = _Job(
                    folder, run, self._engine, self._settings, self._allowance
                )

    def _share(self, job: _Job, active: Sequence[_Job]) -> int:
        """How many rows of the run may be outstanding."""
        window = min(self._settings.window, self._engine.capacity)
        return max(1, window * job.weight // sum(one.weight for one in active))

    def _advance(self, job: _Job, share: int) -> None:
        try:
            if job.reconciler.step(share):
                self._finish(job)
        except Exception as error:  # noqa: BLE001 - one run's trouble must not end the others
            job.rest(error)

    def _finish(self, job: _Job) -> None:
        """Nothing is left to hand out: write the reports, unless the run was stopped."""
        store, run = job.folder.store, job.run
        if progress(store, run).finished:
            write_reports(store, run, job.folder.out, reference_images=self._reference_images)
            logger.info("run %s is finished", run.run_id)
        else:
            logger.warning("run %s was stopped", run.run_id)
        job.reconciler.close()
        del self._jobs[run.run_id]

    def _hear(self, seconds: float) -> None:
        try:
            settled = self._engine.wait(seconds)
        except (RetryableError, ConfigurationError) as error:
            # It is no run's fault: all of them rest.
            logger.error("%s", logs.cause(error))
            self._rests_until = time.monotonic() + _BLOCKED_SECONDS
            return
        for one in settled:
            job = self._jobs.get(one.run_id)
            if job is None:
                continue
            try:
                job.reconciler.hear(one)
            except (RetryableError, ConfigurationError) as error:
                job.rest(error)


def feed(
    outs: Sequence[Path | Place],
    settings: Settings,
    *,
    stop: threading.Event,
    until_done: bool = False,
    reference_images: Path | None = None,
) -> None:
    """Feed until told to stop, or with ``until_done`` until nothing is left to do."""
    with open_engine(settings) as engine:
        feeder = Feeder(outs, engine, settings=settings, reference_images=reference_images)
        try:
            while not stop.is_set():
                if feeder.step() and until_done:
                    return
        finally:
            feeder.close()
