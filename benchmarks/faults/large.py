"""A manifest of a million images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.trial import Trial
from benchmarks.rig.laboratory import python
from benchmarks.rig.processes import Group
from benchmarks.rig.stubs import model_of
from pipeline.canonical import canonical_bytes
from pipeline.results import AnalysisOptions
from worker import keys
from worker.celery_app import queue_keys
from worker.manifest import freeze, positions
from worker.records import ManifestRow, Outcome, RunRecord

#: What a feeder, Redis and the look at a finished run may take, at any number of images.
_FEEDER_BYTES = 300e6
_REDIS_BYTES = 50e6
_SCAN_SECONDS = 60.0

_FEED = """
import sys
from pathlib import Path
from benchmarks.rig.laboratory import Laboratory
from worker.engines import open_engine
from worker.reconcile import run_to_completion
from worker.runs import load_run
laboratory = Laboratory(Path(sys.argv[1]))
settings = laboratory.settings(broker_url=sys.argv[2])
with open_engine(settings) as engine:
    run_to_completion(laboratory.store, load_run(laboratory.store), engine, settings=settings)
"""


def large_manifest(trial: Trial) -> None:
    """A run of so many images, all but the last of them done, is fed."""
    laboratory = trial.laboratory
    started = time.monotonic()
    run = freeze(
        laboratory.store,
        _rows(trial),
        root=laboratory.archive.as_uri(),
        bundle=str(laboratory.bundle),
        model=model_of(laboratory.bundle),
        options=AnalysisOptions(explain="none"),
        ignored=0,
    )
    trial.claim("seconds to freeze the manifest", time.monotonic() - started, None)
    server = trial.redis()
    # Nothing is done: the whole window waits in Redis.
    _feed(trial, server.url, lambda: _waiting(server.client) > 0, "fresh")
    used = server.client.info("memory")["used_memory_peak"]
    trial.claim("bytes of Redis", used, _REDIS_BYTES)
    server.client.flushall()
    # All but the last image: every shard is looked through before anything is handed out.
    _write_outcomes(laboratory.store.path, run, without=run.images - 1)
    _feed(trial, server.url, lambda: _waiting(server.client) > 0, "resumed")
    trial.strike()


def _feed(trial: Trial, url: str, handed_out, what: str) -> None:
    """Feed until something was handed out; what that took."""
    started = time.monotonic()
    feeder = Group(python(_FEED, str(trial.laboratory.folder), url))
    try:
        trial.wait_until(handed_out, "rows are handed out")
        seconds = time.monotonic() - started
        memory = _peak_bytes(feeder.leader.pid)
    finally:
        feeder.kill()
    trial.claim(f"seconds until rows were handed out, {what}", seconds, _SCAN_SECONDS)
    trial.claim(f"bytes of the feeder, {what}", memory, _FEEDER_BYTES)


def _rows(trial: Trial) -> Iterator[ManifestRow]:
    for number in range(trial.images):
        patient = f"P{number % trial.patients:05}"
        yield ManifestRow(
            source=f"{patient}/field {number:07}.jpg",
            patient=patient,
            size=1_000_000,
            version=str(1_700_000_000_000_000_000 + number),
        )


def _write_outcomes(store: Path, run: RunRecord, without: int) -> None:
    """Outcomes as workers leave them, without the waits for the disk."""
    outcome = canonical_bytes(Outcome(status="ok", result="results/00/nothing/"))
    for shard in range(run.shards):
        (store / keys.done_shard(run.run_id, shard)).mkdir(parents=True, exist_ok=True)
        for position in positions(run, shard):
            if position != without:
                (store / keys.done(run.run_id, position)).write_bytes(outcome)


def _waiting(client) -> int:
    return sum(int(client.llen(key)) for key in queue_keys())


def _peak_bytes(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return next(
        float(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")
    )
