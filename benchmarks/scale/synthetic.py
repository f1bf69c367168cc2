"""Runs whose images were never files: what distribution costs does not depend on their bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pipeline.results import AnalysisOptions, ModelRecord
from worker import keys
from worker.health import Pulse, Sample
from worker.manifest import freeze
from worker.observe import beating
from worker.presence import Presence
from worker.records import ManifestRow, RunRecord
from worker.settings import Settings
from worker.store import Store

IMAGES_OF_A_PATIENT = 30

MODEL = ModelRecord(name="stub", bundle_digest="d" * 64, tested="never")


def rows(images: int) -> Iterator[ManifestRow]:
    """Rows as a listing of an archive would give them."""
    for number in range(images):
        patient = f"P{number // IMAGES_OF_A_PATIENT:06}"
        name = f"{number % IMAGES_OF_A_PATIENT:03}.jpg"
        version = str(1_700_000_000_000_000_000 + number)
        yield ManifestRow(
            source=f"{patient}/{name}", patient=patient, size=250_000, version=version
        )


def frozen(store: Store, images: int) -> RunRecord:
    """A run of so many images."""
    return freeze(
        store,
        rows(images),
        root="file:///archive",
        bundle="stub",
        model=MODEL,
        options=AnalysisOptions(explain="none"),
        ignored=0,
    )


@contextmanager
def announced(settings: Settings, processes: int) -> Iterator[None]:
    """Leave the heartbeat of a worker with so many processes, which a feeder counts."""
    pulse = Pulse(
        settings.model_copy(update={"processes": processes}),
        "worker",
        lambda: Sample(moves=0, busy=processes),
    )
    with closing(Presence(settings)) as presence:
        # Before anybody counts.
        presence.renew(pulse.last)
        with beating([pulse], presence):
            yield
    pulse.leave()


#: What a worker would write of an image; that it is the same for all does not matter to a feeder.
OUTCOME = b'{"error":null,"result":"results/00/%064d/","status":"ok"}\n' % 0


def finish(store: Path, run_id: str, position: int) -> None:
    """Write the outcome of a row as a worker does, whole or not at all, but not through to disk."""
    path, part = store / keys.done(run_id, position), store / "tmp" / str(position)
    part.write_bytes(OUTCOME)
    try:
        part.rename(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.rename(path)
