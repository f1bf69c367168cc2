"""Which patients were erased: a record that names nobody, and keeps them from coming back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import Field

from pipeline.canonical import canonical_bytes
from pipeline.errors import ConfigurationError
from pipeline.results import Record
from worker import keys
from worker.pseudonyms import pseudonyms
from worker.store import Store


class Erasure(Record):
    """One erasure of a patient."""

    started: str = Field(description="ISO 8601, UTC")
    finished: str | None = Field(default=None, description="null: it was interrupted")
    version: str = Field(description="of the program that began it")
    runs: dict[str, str | None] = Field(
        default_factory=dict,
        description="each run that held the patient, and the run of its other patients; null: none",
    )
    objects: int = Field(
        default=0, description="files removed; those of a run at which it was killed are not in it"
    )


class ErasedPatient(Record):
    """What is known of a patient who was erased."""

    patient: str = Field(description="keyed hash of the name")
    erasures: list[Erasure] = Field(min_length=1)
    readmitted: str | None = Field(
        default=None, description="since when the patient's images are taken in again"
    )

    @property
    def begun(self) -> Erasure | None:
        """The erasure that was interrupted."""
        return self.erasures[-1] if self.erasures[-1].finished is None else None


def read_erased(store: Store, patient: str) -> ErasedPatient | None:
    """The record of a patient; None: never erased."""
    data = store.read(keys.erased(pseudonyms(store).patient(patient)))
    return None if data is None else ErasedPatient.model_validate_json(data)


def write_erased(store: Store, record: ErasedPatient) -> None:
    """Keep the record."""
    store.replace(keys.erased(record.patient), canonical_bytes(record))


def kept_out(store: Store, patients: Iterable[str]) -> set[str]:
    """Those of the patients that were erased and not readmitted: nothing of them is taken in."""
    present = set(store.list(keys.ERASED))
    if not present:
        return set()
    names = pseudonyms(store)
    suspects = {one for one in patients if keys.erased(names.patient(one)) in present}
    return {one for one in suspects if _is_kept_out(read_erased(store, one))}


def readmit(store: Store, patient: str) -> ErasedPatient:
    """Take in the patient's images again from now on; the record of the erasure stays.

    Raises ConfigurationError if the patient was not erased, or not to the end.
    """
    record = read_erased(store, patient)
    if record is None:
        raise ConfigurationError(f"patient {patient!r} was not erased from {store.uri}")
    if record.begun is not None:
        raise ConfigurationError(
            f"the erasure of patient {patient!r} was interrupted: finish it first, with "
            "`screen erase --yes`"
        )
    record = record.model_copy(update={"readmitted": now()})
    write_erased(store, record)
    return record


def now() -> str:
    """The time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_kept_out(record: ErasedPatient | None) -> bool:
    return record is not None and record.readmitted is None
