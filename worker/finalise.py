"""Writing the reports of a run's patients, its index and its summary.

A report is a pure function of the patient's manifest rows and stored results, so that it can be
written again at any time and comes out the same. Every file appears whole or not at all.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from pipeline.canonical import canonical_bytes
from pipeline.errors import NamingError, RetryableError
from pipeline.latent_map import LatentMap
from pipeline.latent_picture import MapPicture, PlacedImage
from pipeline.reference_images import ReferenceImages, reference_images_in
from pipeline.report import (
    MAP_NAME,
    IndexEntry,
    RunSummary,
    build_report,
    index_entry,
    index_page,
    patient_directory,
    report_page,
    summary_csv,
)
from pipeline.results import ImageResult, PatientReport
from worker import keys, telemetry
from worker.manifest import iterate_rows
from worker.place import Place
from worker.pseudonyms import pseudonyms
from worker.publish import Publisher, open_publisher
from worker.records import ManifestRow, Outcome, RunRecord
from worker.results import picture_key, read_analysis
from worker.runs import RowOutcome, forget_outcome, outcomes
from worker.shown import ShownNames, shown_names
from worker.store import Store
from worker.watched import is_newest

#: Distributions whose versions decide about the numbers.
_SOFTWARE = (
    "smear-screen",
    "lime",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "scikit-image",
    "scikit-learn",
    "tensorflow",
)

#: Picture of a field that every readable image has; the others are named by its explanations.
_FIELD = "field"

#: The overview of all patients, for people and for programs.
INDEX_NAME, SUMMARY_NAME = "index.html", "summary.csv"


class _Image(NamedTuple):
    """An image of a patient and the folder of its result, if there is one."""

    result: ImageResult
    folder: str | None


class _LostResultError(Exception):
    """A result that an outcome speaks of is not in the store."""


def write_reports(
    store: Store, run: RunRecord, out: Path | Place, *, reference_images: Path | None = None
) -> list[IndexEntry]:
    """Write the reports of all patients whose rows have outcomes, then index.html and summary.csv.

    The entry of each patient that was written, in the order of the manifest. Writing again changes
    nothing. Raises RetryableError where results were lost: their rows are then unfinished again.
    """
    publisher = open_publisher(out)
    software = software_versions()
    references = None if reference_images is None else reference_images_in(reference_images)
    shown = shown_names(store, pseudonymise=run.pseudonymise)
    entries: list[IndexEntry] = []
    placed: list[PlacedImage] = []
    lost = 0
    by_patient = groupby(outcomes(store, run), key=lambda one: one.row.patient)
    superseded = 0
    for patient, rows in by_patient:
        telemetry.turn(run.run_id)
        finished = _finished(rows)
        if finished is None:
            continue
        if not is_newest(store, run, patient):
            superseded += 1
            continue
        images = []
        for position, row, outcome in finished:
            try:
                images.append(_image(store, shown, row, outcome))
            except _LostResultError:
                forget_outcome(store, run, position)
                lost += 1
        if len(images) < len(finished):
            continue
        report = _report(shown.patient(patient), images, run, software)
        _write_patient(store, publisher, report, images, references)
        entry = index_entry(report)
        if run.partial:
            store.replace(_entry_key(store, run, patient), canonical_bytes(entry))
        entries.append(entry)
        placed += _placed(report)
    _write_index(store, publisher, run, entries, placed, software)
    publisher.close()
    if lost:
        raise RetryableError(
            f"{lost} stored results were missing or damaged and have to be made anew"
        )
    if len(entries) + superseded == run.patients:
        store.create(keys.reported(run.run_id), canonical_bytes({}))
    return entries


def rewrite_index(store: Store, run: RunRecord, publisher: Publisher) -> None:
    """Write index.html and summary.csv of the run anew, from the reports that were written.

    Raises ConfigurationError where one of them is damaged.
    """
    entries: list[IndexEntry] = []
    placed: list[PlacedImage] = []
    software = software_versions()
    shown = shown_names(store, pseudonymise=run.pseudonymise)
    for patient in dict.fromkeys(row.patient for _, row in iterate_rows(store, run)):
        name = f"patients/{patient_directory(shown.patient(patient))}/report.json"
        data = publisher.read(name)
        if data is not None:
            report = _read_report(name, data)
            entries.append(index_entry(report))
            placed += _placed(report)
            software = report.software
    _write_index(store, publisher, run, entries, placed, software)


def _read_report(name: str, data: bytes) -> PatientReport:
    try:
        return PatientReport.model_validate_json(data)
    except ValidationError:
        raise NamingError(
            f"{name} is damaged or of another version: give the same `screen submit` again to "
            "write it anew, then this command"
        ) from None


def _write_index(
    store: Store,
    publisher: Publisher,
    run: RunRecord,
    entries: list[IndexEntry],
    placed: list[PlacedImage],
    software: dict[str, str],
) -> None:
    """The overview: of the run's patients, or of all patients of an archive that is watched."""
    summary = _summary(store, run, software)
    latent_map = None if run.partial else _draw_map(store, run, placed)
    if run.partial:
        folder = keys.entries(pseudonyms(store).archive(run.root))
        found = (store.read(key) for key in store.list(folder))
        entries = [IndexEntry.model_validate_json(data) for data in found if data is not None]
        entries.sort(key=lambda entry: entry.patient)
        totals = {"patients": len(entries), "images": sum(entry.images for entry in entries)}
        summary = summary.model_copy(update=totals)
    publisher.write(SUMMARY_NAME, summary_csv(entries))
    if latent_map is not None:
        publisher.write(MAP_NAME, latent_map)
    publisher.write(INDEX_NAME, index_page(entries, summary, latent_map).encode())


def software_versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    found = {"python": platform.python_version()}
    for name in _SOFTWARE:
        # Which of them are installed is part of the answer.
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _entry_key(store: Store, run: RunRecord, patient: str) -> str:
    names = pseudonyms(store)
    return keys.entry(names.archive(run.root), names.patient(patient))


def _finished(rows: Iterable[RowOutcome]) -> list[tuple[int, ManifestRow, Outcome]] | None:
    """The rows of a patient with their outcomes, or None if one has none."""
    found = []
    complete = True
    for position, row, outcome in rows:
        if outcome is None:
            complete = False
        else:
            found.append((position, row, outcome))
    return found if complete else None


def _image(store: Store, shown: ShownNames, row: ManifestRow, outcome: Outcome) -> _Image:
    source = shown.source(row)
    if outcome.result is None:
        error = shown.error(outcome.error) if outcome.error is not None else None
        return _Image(ImageResult(source=source, status="failed", error=error), None)
    analysis = read_analysis(store, outcome.result)
    if analysis is None:
        raise _LostResultError
    return _Image(ImageResult(source=source, **dict(analysis)), outcome.result)


def _report(
    patient: str, images: list[_Image], run: RunRecord, software: dict[str, str]
) -> PatientReport:
    report = build_report(
        patient, [image.result for image in images], run.model, run.options, software
    )
    counts = report.counts
    if not counts.ok + counts.failed == counts.images == len(images):
        raise AssertionError(
            f"{counts.ok} ok and {counts.failed} failed images are not the {len(images)} images "
            "of the manifest"
        )
    return report


def _write_patient(
    store: Store,
    publisher: Publisher,
    report: PatientReport,
    images: list[_Image],
    references: ReferenceImages | None,
) -> None:
    folder = f"patients/{patient_directory(report.patient)}"
    folders = {image.result.source: image.folder for image in images}

    def picture(source: str, name: str) -> bytes | None:
        result = folders[source]
        return None if result is None else store.read(picture_key(result, name))

    kept = set()
    for number, image in enumerate(report.images, start=1):
        for name in _picture_names(image):
            data = picture(image.source, name)
            if data is not None:
                file_name = f"{number:03}-{name.removesuffix('.png')}.png"
                publisher.write(f"{folder}/pictures/{file_name}", data)
                kept.add(file_name)
    data = canonical_bytes(report)
    _keep_earlier(publisher, folder, data)
    publisher.write(f"{folder}/report.html", report_page(report, picture, references).encode())
    publisher.write(f"{folder}/report.json", data)
    publisher.remove_others(f"{folder}/pictures", kept)


def _keep_earlier(publisher: Publisher, folder: str, data: bytes) -> None:
    """Keep a report that is about to be replaced by another: somebody may have acted on it.

    Called again after an interruption it finds the same report, and keeps it once.
    """
    before = publisher.read(f"{folder}/report.json")
    if before is None or before == data:
        return
    kept = sorted(publisher.folders(f"{folder}/revisions"))
    if kept and publisher.read(f"{folder}/revisions/{kept[-1]}/report.json") == before:
        return
    number = f"{int(kept[-1]) + 1 if kept else 1:03}"
    page = publisher.read(f"{folder}/report.html")
    if page is not None:
        publisher.write(f"{folder}/revisions/{number}/report.html", page)
    publisher.write(f"{folder}/revisions/{number}/report.json", before)


def _placed(report: PatientReport) -> Iterator[PlacedImage]:
    """The images of a patient that have a place in the latent map."""
    for image in report.images:
        at = image.map_position
        if at is not None and image.label is not None and image.confidence is not None:
            yield PlacedImage(at.x, at.y, image.label, image.confidence.flag)


def _draw_map(store: Store, run: RunRecord, placed: list[PlacedImage]) -> bytes | None:
    """All images of the run among the references; None if there is no map, or nothing to show."""
    stored = store.read(keys.latent_map(run)) if placed else None
    return None if stored is None else MapPicture.of(LatentMap.load(BytesIO(stored))).of_run(placed)


def _picture_names(image: ImageResult) -> Iterator[str]:
    if image.status == "ok":
        yield _FIELD
        if image.explanations is not None:
            yield from image.explanations.pictures


def _summary(store: Store, run: RunRecord, software: dict[str, str]) -> RunSummary:
    return RunSummary(
        run_id=run.run_id,
        root=shown_names(store, pseudonymise=run.pseudonymise).root(run.root),
        manifest_digest=run.manifest_digest,
        patients=run.patients,
        images=run.images,
        ignored=run.ignored,
        model=run.model,
        options=run.options,
        software=software,
    )
