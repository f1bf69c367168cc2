"""What the store knows of a watched source: which run has the newest list of a patient's images."""

from __future__ import annotations

from pydantic import Field

from pipeline.results import Record
from worker import keys
from worker.pseudonyms import pseudonyms
from worker.records import RunRecord
from worker.store import Store


class Watched(Record):
    """Which run holds the newest list of a patient's images."""

    run_id: str
    rows: str = Field(description="digest of the list")
    revision: int = Field(ge=1, description="how often the list was submitted")


def read_watched(store: Store, root: str, patient: str) -> Watched | None:
    """The newest list of a patient; None if none was submitted."""
    data = store.read(watched_key(store, root, patient))
    return None if data is None else Watched.model_validate_json(data)


def watched_key(store: Store, root: str, patient: str) -> str:
    """Where that is kept."""
    names = pseudonyms(store)
    return keys.watched(names.archive(root), names.patient(patient))


def is_newest(store: Store, run: RunRecord, patient: str) -> bool:
    """Whether no later run holds a newer list of the patient's images."""
    if not run.partial:
        return True
    watched = read_watched(store, run.root, patient)
    return watched is None or watched.run_id == run.run_id
