"""What reports call patients, files and archives: by their names, or by pseudonyms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.results import ImageError
from worker import keys
from worker.manifest import PatientClaim, is_pseudonymised, iterate_rows
from worker.pseudonyms import Pseudonyms, pseudonyms
from worker.records import ManifestRow, RunRecord
from worker.runs import list_runs
from worker.store import Store

#: Of a hash, in reports: 64 bits, by which a million names are told apart.
DIGITS = 16

PATIENT, IMAGE, _ARCHIVE = "patient-", "image-", "archive-"

#: Its message is whatever a library says of the file.
_UNFORESEEN = "internal_error"


class ShownNames:
    """The names in reports; ``names``: from which pseudonyms are made, None: plain names."""

    def __init__(self, names: Pseudonyms | None) -> None:
        self._names = names

    def patient(self, name: str) -> str:
        """Of a patient."""
        return name if self._names is None else _short(PATIENT, self._names.patient(name))

    def source(self, row: ManifestRow) -> str:
        """Of an image."""
        return row.source if self._names is None else _short(IMAGE, self._names.source(row))

    def root(self, uri: str) -> str:
        """Of an archive."""
        return uri if self._names is None else _short(_ARCHIVE, self._names.archive(uri))

    def error(self, error: ImageError) -> ImageError:
        """Why an image failed."""
        if self._names is None or error.reason != _UNFORESEEN:
            return error
        return ImageError(reason=error.reason, message="the software failed on this image")


class Named(NamedTuple):
    """An image behind a pseudonym, in one of the runs that hold it."""

    run: RunRecord
    position: int
    row: ManifestRow


def shown_names(store: Store, *, pseudonymise: bool) -> ShownNames:
    """The names in the reports of a run."""
    return ShownNames(pseudonyms(store) if pseudonymise else None)


def shown_in(store: Store) -> ShownNames:
    """The names in all reports of the output folder."""
    return shown_names(store, pseudonymise=is_pseudonymised(store))


def patient_behind(store: Store, code: str) -> PatientClaim | None:
    """The patient with this pseudonym, or keyed hash, and whose archive it is."""
    digits = code.removeprefix(PATIENT)
    if len(digits) < DIGITS or not digits.isalnum():
        return None
    key = keys.patient(digits.lower())
    folder = key.rpartition("/")[0]
    for found in store.list(f"{folder}/"):
        if found.startswith(key.removesuffix(".json")):
            return PatientClaim.model_validate_json(store.read(found) or b"")
    return None


def images_behind(store: Store, code: str) -> Iterator[Named]:
    """The image with this pseudonym, in each run that holds it."""
    names = ShownNames(pseudonyms(store))
    for run, _ in list_runs(store):
        for position, row in iterate_rows(store, run):
            if names.source(row) == code:
                yield Named(run, position, row)


def _short(kind: str, hashed: str) -> str:
    return f"{kind}{hashed[:DIGITS]}"
