"""Runs whose images were never files: what distribution costs does not depend on their bytes."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.results import AnalysisOptions, ModelRecord
from worker.manifest import freeze
from worker.records import ManifestRow, RunRecord
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
