"""Erasing a patient from an output: reports, results, and every run that names the patient.

A manifest is frozen, so that no row is taken out of it. A run that holds the patient is replaced by
the run of its other patients, with the outcomes they had, and is then purged; the new one is what
submitting the archive without the patient would have made. Other patients' reports are not touched.

Every step can be done again: after an interruption the same command finishes.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from pipeline.canonical import canonical_bytes
from pipeline.errors import ConfigurationError
from pipeline.report import MAP_NAME, patient_directory
from worker import attempts, keys
from worker.erased import ErasedPatient, Erasure, now, read_erased, write_erased
from worker.finalise import INDEX_NAME, SUMMARY_NAME, rewrite_index
from worker.manifest import Draft, draft, is_whole, iterate_rows, read_run, write
from worker.place import Place
from worker.pseudonyms import pseudonyms
from worker.publish import Publisher, open_publisher
from worker.purge import PURGED, carry_out, plan_purge
from worker.records import ManifestRow, Outcome, RunRecord
from worker.runs import is_cancelled, list_runs, why_cancelled
from worker.shown import shown_in
from worker.store import Store
from worker.watched import Watched, watched_key

#: A run and those of its rows that stay, with their positions.
Rows = list[tuple[int, ManifestRow]]


class Found(NamedTuple):
    """What there is of a patient."""

    runs: list[RunRecord]
    images: int
    #: Published files: report, pictures, earlier revisions.
    files: int


def find(store: Store, out: Path | Place, patient: str, *, hard_limit: float) -> Found:
    """What would be erased. ``hard_limit``: seconds that an image may take.

    Raises ConfigurationError if there is nothing, or while somebody works at a run that holds the
    patient.
    """
    record = read_erased(store, patient)
    begun = record.begun if record is not None else None
    runs, images = [], 0
    for run, _ in list_runs(store):
        rows = _rows(store, run)
        those = sum(row.patient == patient for _, row in rows)
        if those or (begun is not None and run.run_id in begun.runs):
            _check_rests(store, run, hard_limit)
            runs.append(run)
            images += those
    publisher = open_publisher(out)
    files = len(publisher.files(_folder(store, patient)))
    publisher.close()
    if not runs and not files and begun is None:
        raise ConfigurationError(
            f"{out} has nothing of a patient {patient!r}: give the name as `screen show` knows it"
        )
    return Found(runs, images, files)


def erase(store: Store, out: Path | Place, patient: str, found: Found) -> ErasedPatient:
    """Erase what was found; the record of it. From the first step on the patient is kept out."""
    ledger = _Ledger(store, patient)
    for run in found.runs:
        rows = _rows(store, run)
        if is_whole(store, run):
            ledger.replaced(run, _replacement(store, run, patient, rows))
        names = pseudonyms(store)
        root, who = names.archive(run.root), names.patient(patient)
        for key in (keys.watched(root, who), keys.cleared(root, who), keys.entry(root, who)):
            store.delete(key)
        ledger.removed(carry_out(store, run, plan_purge(store, run)))
    store.delete(keys.patient(pseudonyms(store).patient(patient)))
    publisher = open_publisher(out)
    ledger.removed(publisher.remove(_folder(store, patient)))
    _renew_index(store, publisher, patient, ledger.erasure)
    publisher.close()
    return ledger.close()


class _Ledger:
    """The record of an erasure while it goes on."""

    def __init__(self, store: Store, patient: str) -> None:
        self._store = store
        record = read_erased(store, patient)
        self._earlier = record.erasures if record is not None else []
        self._who = pseudonyms(store).patient(patient)
        if record is not None and record.begun is not None:
            *self._earlier, self.erasure = record.erasures
        else:
            self.erasure = Erasure(started=now(), version=version("smear-screen"))
        self._write()

    def replaced(self, run: RunRecord, by: RunRecord | None) -> None:
        """The run is to be removed; the other one has its other patients."""
        runs = self.erasure.runs | {run.run_id: by.run_id if by is not None else None}
        self._note(runs=runs)

    def removed(self, objects: int) -> None:
        """So many more files are gone."""
        self._note(objects=self.erasure.objects + objects)

    def close(self) -> ErasedPatient:
        """Everything is gone."""
        self._note(finished=now())
        return self._record()

    def _note(self, **changes: object) -> None:
        self.erasure = self.erasure.model_copy(update=changes)
        self._write()

    def _write(self) -> None:
        write_erased(self._store, self._record())

    def _record(self) -> ErasedPatient:
        return ErasedPatient(patient=self._who, erasures=[*self._earlier, self.erasure])


def _folder(store: Store, patient: str) -> str:
    return f"patients/{patient_directory(shown_in(store).patient(patient))}"


def _rows(store: Store, run: RunRecord) -> Rows:
    """The run's rows; none where it was being purged and its manifest is no longer whole."""
    return list(iterate_rows(store, run)) if is_whole(store, run) else []


def _check_rests(store: Store, run: RunRecord, hard_limit: float) -> None:
    """Refuse a run whose images, or whose reports, somebody may be at."""
    if not is_whole(store, run):
        return
    if not is_cancelled(store, run) and not store.exists(keys.reported(run.run_id)):
        raise ConfigurationError(
            f"run {run.run_id} holds the patient and is not finished: let it finish "
            f"(`screen resume {run.run_id}`) or stop it (`screen cancel {run.run_id}`) first"
        )
    if any(True for _ in attempts.at_work(store, run, hard_limit=hard_limit)):
        raise ConfigurationError(
            f"workers are still at images of run {run.run_id}, which was cancelled: "
            "try again in a few minutes"
        )


# --- the run of the other patients --------------------------------------------------------------


def _replacement(store: Store, run: RunRecord, patient: str, rows: Rows) -> RunRecord | None:
    """Make the run without the patient; None if it would be empty. The old one stays as it is."""
    kept = [(position, row) for position, row in rows if row.patient != patient]
    if not kept:
        return None
    made = draft(
        (row for _, row in kept),
        root=run.root,
        bundle=run.bundle,
        model=run.model,
        options=run.options,
        ignored=run.ignored,
        partial=run.partial,
        names=pseudonyms(store) if run.pseudonymise else None,
    )
    if not store.exists(keys.run(made.run.run_id)):
        _hand_down(store, run, made, [position for position, _ in kept])
    if run.partial:
        _point_watcher(store, run, made)
    return made.run


def _hand_down(store: Store, run: RunRecord, made: Draft, positions: list[int]) -> None:
    """Give the new run what is known of the old one; its record last, so that nobody starts it."""
    old, new = run.run_id, made.run.run_id
    for there, here in enumerate(positions):
        data = store.read(keys.done(old, here))
        if data is not None:
            if Outcome.model_validate_json(data).status == "failed":
                store.create(keys.failed(new, there), canonical_bytes({}))
            store.create(keys.done(new, there), data)
    for maker in (keys.reported, keys.priority, keys.submitted):
        _copy(store, maker(old), maker(new))
    if why_cancelled(store, run) != PURGED:
        _copy(store, keys.cancelled(old), keys.cancelled(new))
    write(store, made)


def _copy(store: Store, old: str, new: str) -> None:
    data = store.read(old)
    if data is not None:
        store.replace(new, data)


def _point_watcher(store: Store, run: RunRecord, made: Draft) -> None:
    """The newest list of each other patient is in the new run, where it was in the old one."""
    for patient in made.patients:
        key = watched_key(store, run.root, patient)
        data = store.read(key)
        newest = Watched.model_validate_json(data) if data is not None else None
        if newest is not None and newest.run_id == run.run_id:
            moved = newest.model_copy(update={"run_id": made.run.run_id})
            store.replace(key, canonical_bytes(moved))


# --- the overview -------------------------------------------------------------------------------


def _renew_index(store: Store, publisher: Publisher, patient: str, erasure: Erasure) -> None:
    """Write index and summary anew, if they show the patient or a run that is gone."""
    page = publisher.read(INDEX_NAME) or b""
    table = publisher.read(SUMMARY_NAME) or b""
    present = [run.run_id for run, _ in list_runs(store)]
    shown = next((one for one in (*erasure.runs, *present) if one.encode() in page), None)
    directory = patient_directory(shown_in(store).patient(patient))
    listed = f",{directory},".encode() in table
    if shown not in erasure.runs and not listed:
        return
    run_id = erasure.runs.get(shown, shown) if shown is not None else None
    run = next(_shown_instead(store, run_id), None)
    if run is not None:
        rewrite_index(store, run, publisher)
        return
    for name in (INDEX_NAME, SUMMARY_NAME, MAP_NAME):
        publisher.remove(name)


def _shown_instead(store: Store, run_id: str | None) -> Iterator[RunRecord]:
    """The run to show; if it is gone, the one submitted last that has reports."""
    if run_id is not None and store.exists(keys.run(run_id)):
        yield read_run(store, run_id)
    for run, _ in list_runs(store):
        if store.exists(keys.reported(run.run_id)):
            yield run
