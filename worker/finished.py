"""What becomes of images whose report is published, where somebody asked for it: tag them, or move.

The store says which images those are, so that a watcher that was killed goes on where it was, and
only an image that still is the one that was judged is touched. One that failed stays as it is: it
may be mended and tried again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from pipeline.canonical import canonical_bytes
from pipeline.errors import ConfigurationError
from pipeline.results import Record
from worker import keys, logs
from worker.manifest import read_run
from worker.place import Place
from worker.pseudonyms import pseudonyms
from worker.records import ManifestRow
from worker.runs import outcomes
from worker.store import Store
from worker.watched import read_watched

logger = logging.getLogger(__name__)


class Handling(Protocol):
    """What is done with one image. Doing it again changes nothing."""

    @property
    def name(self) -> str:
        """What it is called in the store."""
        ...

    def __call__(self, row: ManifestRow, run_id: str) -> bool:
        """False where the image has to stay as it is. Raises ScreenError."""
        ...


class Cleared(Record):
    """A patient's images were dealt with, as far as they can be."""

    run_id: str
    handling: str


class Clearance:
    """Deals with the images of a watched source, patient by patient."""

    def __init__(self, source: Path | Place, store: Store, handling: Handling) -> None:
        self._root = source.as_uri()
        self._store = store
        self._handling = handling
        #: Of each patient, the run whose images were dealt with.
        self._done: dict[str, str] = {}

    def take(self, listed: Iterable[ManifestRow]) -> None:
        """Look at a listing of the whole source, and deal with what is reported."""
        by_patient: dict[str, dict[str, ManifestRow]] = defaultdict(dict)
        for row in listed:
            by_patient[row.patient][_name(row)] = row
        for run_id, patients in self._due(by_patient).items():
            for patient, judged in self._judged(run_id, patients):
                present = by_patient[patient]
                try:
                    self._deal_with(
                        run_id, [one for one in judged if present.get(_name(one)) == one]
                    )
                except ConfigurationError as error:
                    # The other patients' images need not wait for a person.
                    logger.error("run %s: images stay for now: %s", run_id, logs.cause(error))
                    continue
                cleared = Cleared(run_id=run_id, handling=self._handling.name)
                self._store.replace(self._key(patient), canonical_bytes(cleared))
                self._done[patient] = run_id

    def _due(self, patients: Iterable[str]) -> Mapping[str, set[str]]:
        """Patients to deal with, by the run with the newest list of their images."""
        found: dict[str, set[str]] = defaultdict(set)
        for patient in patients:
            watched = read_watched(self._store, self._root, patient)
            if watched is None or self._done.get(patient) == watched.run_id:
                continue
            if self._cleared(patient, watched.run_id):
                self._done[patient] = watched.run_id
            else:
                found[watched.run_id].add(patient)
        reported = self._store.exists
        return {run_id: due for run_id, due in found.items() if reported(keys.reported(run_id))}

    def _cleared(self, patient: str, run_id: str) -> bool:
        data = self._store.read(self._key(patient))
        if data is None:
            return False
        return Cleared.model_validate_json(data) == Cleared(
            run_id=run_id, handling=self._handling.name
        )

    def _key(self, patient: str) -> str:
        names = pseudonyms(self._store)
        return keys.cleared(names.archive(self._root), names.patient(patient))

    def _judged(self, run_id: str, patients: set[str]) -> Iterator[tuple[str, list[ManifestRow]]]:
        """What is in the reports of these patients, without what failed."""
        found: dict[str, list[ManifestRow]] = {patient: [] for patient in sorted(patients)}
        for _, row, outcome in outcomes(self._store, read_run(self._store, run_id)):
            if row.patient in patients and outcome is not None and outcome.status == "ok":
                found[row.patient].append(row)
        yield from found.items()

    def _deal_with(self, run_id: str, rows: list[ManifestRow]) -> None:
        done = sum(self._handling(row, run_id) for row in rows)
        if done:
            logger.info("run %s: %d reported images: %s", run_id, done, self._handling.name)
        if done < len(rows):
            logger.warning(
                "run %s: %d reported images stay as they are: they changed, or something else has "
                "their name where they were to go",
                run_id,
                len(rows) - done,
            )


def open_handling(
    what: str, source: Path | Place, out: Path | Place, target: Path | Place | None, *, across: bool
) -> Handling:
    """How images are dealt with: ``tag``, or ``move`` to ``target``.

    ``across``: into another bucket, too. Raises ConfigurationError where that makes no sense.
    """
    if what == "tag":
        if target is not None:
            raise ConfigurationError("--move-to is for --when-reported move")
        if not isinstance(source, Place):
            raise ConfigurationError("files have no tags: use --when-reported move, with --move-to")
        from worker.s3_finished import Tagging

        return Tagging(source)
    if target is None:
        raise ConfigurationError("--when-reported move needs --move-to: where the images go")
    for place, called in ((source, "SOURCE"), (out, "--out")):
        if _overlap(place, target):
            raise ConfigurationError(
                f"--move-to {target} must neither lie within {called} nor contain it"
            )
    if isinstance(source, Path) and isinstance(target, Path):
        from worker.moving import Moving

        return Moving(source, target)
    if isinstance(source, Path) or isinstance(target, Path):
        raise ConfigurationError("--move-to and SOURCE must both be folders, or both s3://...")
    if source.bucket != target.bucket and not across:
        raise ConfigurationError(
            f"the images would leave the bucket {source.bucket} for {target.bucket}: "
            "say --other-bucket if that is meant"
        )
    from worker.s3_finished import MovingObjects

    return MovingObjects(source, target)


def _overlap(one: Path | Place, other: Path | Place) -> bool:
    if isinstance(one, Path) and isinstance(other, Path):
        first, second = one.resolve(), other.resolve()
        return first.is_relative_to(second) or second.is_relative_to(first)
    if isinstance(one, Place) and isinstance(other, Place):
        return one.contains(other) or other.contains(one)
    return False


def _name(row: ManifestRow) -> str:
    return row.raw or row.source
