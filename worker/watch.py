"""Watching a folder or a place in a bucket: images that arrive become runs by themselves.

Listing is the truth: every pass looks at everything that is there, so that nothing is missed that
came while nobody watched, and nothing depends on a notification. What a source looked like is
remembered for as long as the process lives; what was submitted is known from the store.
"""

from __future__ import annotations

import csv
import io
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.canonical import canonical_bytes, digest
from pipeline.errors import ConfigurationError, RetryableError, ScreenError
from pipeline.results import AnalysisOptions, ModelRecord
from worker import keys, logs
from worker.erased import kept_out
from worker.finished import Clearance
from worker.health import Rounds
from worker.lease import Lease
from worker.manifest import freeze, iterate_rows, read_run
from worker.patients import FILE_COLUMN, ROOT_PATIENT
from worker.place import Place
from worker.planning import EmptyArchiveError, Plan
from worker.pseudonyms import pseudonyms
from worker.publish import read_published
from worker.records import ManifestRow, RunRecord
from worker.store import Store
from worker.watched import Watched, read_watched, watched_key

logger = logging.getLogger(__name__)

#: A file of this name in a patient's folder: nothing more is to come.
MARKER = "_complete"

#: A table of this name in a patient's folder, with a column ``file``: what is to come.
EXPECTED = "_manifest.csv"

#: A hundred thousand names; whoever can write into the source must not fill the memory.
_MOST_TABLE_BYTES = 16 * 1024**2

Rows = tuple[ManifestRow, ...]


class Waits(NamedTuple):
    """How long a patient's images must have stayed as they are, in seconds."""

    #: Where a marker or a table says that all are there.
    still: float
    #: Where nothing says so.
    quiet: float


@dataclass
class _Seen:
    """A patient's images as they were listed, and since when they have been so.

    ``settled``: that list was submitted, by whomever, and needs no further look.
    """

    rows: Rows
    since: float
    settled: bool = False


class Watcher:
    """One source, and what was seen of it."""

    def __init__(
        self,
        source: Path | Place,
        store: Store,
        *,
        model: ModelRecord,
        bundle: str,
        options: AnalysisOptions,
        waits: Waits,
        latent_map: bytes | None = None,
        pseudonymise: bool = False,
    ) -> None:
        self._source = source
        self._root = source.as_uri()
        self._store = store
        self._model = model
        self._bundle = bundle
        self._options = options
        self._latent_map = latent_map
        self._pseudonymise = pseudonymise
        self._waits = waits
        self._seen: dict[str, _Seen] = {}
        self._left_out = 0

    def take_in(self, planned: Plan) -> RunRecord | None:
        """Look at a listing of the whole source; the run of the patients that are complete now."""
        now = time.monotonic()
        listed = _by_patient(planned.rows())
        for patient in self._kept_out(listed):
            del listed[patient]
        self._seen = {
            patient: self._observed(patient, rows, now) for patient, rows in listed.items()
        }
        due = {
            patient: seen.rows
            for patient, seen in self._seen.items()
            if not seen.settled and now - seen.since >= self._wait(patient, seen.rows)
        }
        run = self._submit(due, planned.ignored)
        for patient in due:
            self._seen[patient].settled = True
        return run

    def _kept_out(self, patients: Iterable[str]) -> set[str]:
        """Patients that were erased: nothing of them is submitted."""
        found = kept_out(self._store, patients)
        if len(found) != self._left_out:
            self._left_out = len(found)
            logger.warning("%d patients are left out, because they were erased", len(found))
        return found

    def _observed(self, patient: str, rows: Rows, now: float) -> _Seen:
        before = self._seen.get(patient)
        return before if before is not None and before.rows == rows else _Seen(rows, now)

    def _wait(self, patient: str, rows: Rows) -> float:
        """How long the images must have stayed as they are."""
        try:
            return self._wait_by_folder(patient, rows)
        except ConfigurationError as error:
            # One patient's marker or table cannot be used: the others do not wait for that.
            logger.error("a patient has to wait: %s", logs.cause(error))
            return float("inf")

    def _wait_by_folder(self, patient: str, rows: Rows) -> float:
        folder = "" if patient == ROOT_PATIENT else f"{patient}/"
        if not all(row.source.startswith(folder) for row in rows):
            # Patients are no folders here: there is no place for a marker.
            return self._waits.quiet
        if read_published(self._source, f"{folder}{MARKER}", most=0) is not None:
            return self._waits.still
        table = read_published(self._source, f"{folder}{EXPECTED}", most=_MOST_TABLE_BYTES + 1)
        if table is None:
            return self._waits.quiet
        if len(table) > _MOST_TABLE_BYTES:
            raise ConfigurationError(f"{EXPECTED} is larger than {_MOST_TABLE_BYTES} bytes")
        missing = names_expected(table) - {row.source.removeprefix(folder) for row in rows}
        if missing:
            # What was judged may have been taken away since.
            before = self._rows_of(self._before(patient), patient)
            missing -= {row.source.removeprefix(folder) for row in before}
        return float("inf") if missing else self._waits.still

    def _submit(self, due: Mapping[str, Rows], ignored: int) -> RunRecord | None:
        """Freeze what is new of it into a run."""
        rows: list[ManifestRow] = []
        records: dict[str, Watched] = {}
        for patient, listed in due.items():
            before = self._before(patient)
            whole = _together(self._rows_of(before, patient), listed)
            found = digest([row.model_dump(mode="json") for row in whole])
            if before is not None and before.rows == found:
                continue
            rows += whole
            revision = 1 if before is None else before.revision + 1
            records[patient] = Watched(run_id="", rows=found, revision=revision)
        if not rows:
            return None
        run = freeze(
            self._store,
            rows,
            root=self._root,
            bundle=self._bundle,
            model=self._model,
            options=self._options,
            ignored=ignored,
            latent_map=self._latent_map,
            partial=True,
            pseudonymise=self._pseudonymise,
        )
        for patient, record in records.items():
            named = record.model_copy(update={"run_id": run.run_id})
            key = watched_key(self._store, self._root, patient)
            self._store.replace(key, canonical_bytes(named))
        logger.info("run %s: %d images of %d patients", run.run_id, run.images, run.patients)
        return run

    def _before(self, patient: str) -> Watched | None:
        return read_watched(self._store, self._root, patient)

    def _rows_of(self, before: Watched | None, patient: str) -> Rows:
        """What was submitted of the patient last."""
        if before is None or not self._store.exists(keys.run(before.run_id)):
            # Never, or in a run that was purged.
            return ()
        run = read_run(self._store, before.run_id)
        return tuple(row for _, row in iterate_rows(self._store, run) if row.patient == patient)


def _by_patient(rows: Iterable[ManifestRow]) -> dict[str, Rows]:
    found: dict[str, list[ManifestRow]] = {}
    for row in rows:
        found.setdefault(row.patient, []).append(row)
    return {patient: tuple(those) for patient, those in found.items()}


def _together(before: Rows, listed: Rows) -> Rows:
    """What is there now, and what was there: an image that was judged stays in the report.

    One that lies under a name that is new (same size, same version) is the same image, and one that
    was replaced under its name is gone.
    """
    present, known = {row.source for row in listed}, {row.source for row in before}
    moved = Counter(_content(row) for row in listed if row.source not in known)
    gone = []
    for row in before:
        if row.source in present:
            continue
        if moved[_content(row)]:
            moved[_content(row)] -= 1
        else:
            gone.append(row)
    return tuple(sorted((*listed, *gone), key=lambda row: (row.source, row.raw or "")))


def _content(row: ManifestRow) -> tuple[int, str]:
    """What an image is known by when its name is another; a copy has its ETag, but its own id."""
    return row.size, row.version.partition(" ")[0]


def names_expected(table: bytes) -> set[str]:
    """What a table says is to come. Raises ConfigurationError where it says nothing."""
    reader = csv.DictReader(io.StringIO(table.decode("utf-8-sig", "replace"), newline=""))
    try:
        if FILE_COLUMN not in (reader.fieldnames or ()):
            raise ConfigurationError(f"{EXPECTED} has no column {FILE_COLUMN!r}")
        return {row[FILE_COLUMN].strip() for row in reader if row[FILE_COLUMN]}
    except csv.Error as error:
        raise ConfigurationError(f"{EXPECTED} is no table: {error}") from None


def watch(
    source: Path | Place,
    store: Store,
    watcher: Watcher,
    list_source: Callable[[], Plan],
    *,
    every_seconds: float,
    pause: Callable[[float], object],
    stop: threading.Event,
    clearance: Clearance | None = None,
    rounds: Rounds | None = None,
) -> None:
    """Look at the source again and again until told to stop.

    ``pause`` waits so many seconds, or less if something is said to have arrived. Of several that
    watch the same source one looks, and another goes on when it is gone. ``clearance`` deals with
    the images whose report is published, ``rounds`` is told what goes on.
    """
    rounds = rounds or Rounds()
    key = keys.watch_lease(pseudonyms(store).archive(source.as_uri()))
    lease = Lease(store, key, renew_seconds=every_seconds / 2)
    try:
        while not stop.is_set():
            rounds.look()
            try:
                if lease.hold():
                    found = list_source()
                    watcher.take_in(found)
                    if clearance is not None:
                        clearance.take(found.rows())
            except EmptyArchiveError:
                # Before the first image, and after the last was moved away.
                logger.debug("nothing is there yet")
            except ScreenError as error:
                logger.error("the source cannot be looked at now: %s", logs.cause(error))
            rounds.rest(every_seconds)
            pause(every_seconds)
    finally:
        with suppress(RetryableError):
            lease.release()
