"""Removing a run from the store, and of its results those that no other run refers to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.errors import ConfigurationError
from worker import keys
from worker.manifest import iterate_rows
from worker.pseudonyms import pseudonyms
from worker.records import RunRecord
from worker.runs import cancel, is_cancelled, list_runs, outcomes, progress
from worker.store import Store


class Purge(NamedTuple):
    """What is to be removed: folders of results, then other keys, the run's record last."""

    results: list[str]
    records: list[str]
    #: Results that stay because other runs refer to them.
    shared: int


def plan_purge(store: Store, run: RunRecord) -> Purge:
    """What removing the run would remove. Raises ConfigurationError while it is being worked at."""
    if not is_cancelled(store, run) and not progress(store, run).finished:
        raise ConfigurationError(
            f"run {run.run_id} is not finished: stop it with `screen cancel {run.run_id}`, then "
            "purge it"
        )
    results, listed, patients = _referred_to(store, run)
    shared = 0
    for other in list_runs(store):
        if other.run.run_id == run.run_id:
            continue
        used = _referred_to(store, other.run)
        shared += len(results & used[0])
        results -= used[0]
        listed -= used[1]
        patients -= used[2]
    own = [key for prefix in keys.folders_of(run.run_id) for key in store.list(prefix)]
    present = [key for key in (*keys.files_of(run.run_id), *own) if store.exists(key)]
    # While it is purged the run is cancelled, so that nobody works at it.
    last = [keys.cancelled(run.run_id), keys.run(run.run_id)]
    records = sorted(listed) + sorted(patients) + present + last
    return Purge(sorted(results), records, shared)


def carry_out(store: Store, run: RunRecord, purge: Purge) -> int:
    """Remove it; the number of values removed. After an interruption it can be planned again."""
    cancel(store, run, "it is being purged")
    removed = 0
    for key in _values(store, purge):
        store.delete(key)
        removed += 1
    return removed


def _values(store: Store, purge: Purge) -> Iterator[str]:
    # Results first: as long as the run's outcomes are there, they tell which these were.
    for folder in purge.results:
        yield from store.list(folder)
    yield from purge.records


def _referred_to(store: Store, run: RunRecord) -> tuple[set[str], set[str], set[str]]:
    """Folders of results, and keys of listed files and patients, that the run refers to."""
    results = {one.outcome.result for one in outcomes(store, run) if one.outcome is not None}
    names = pseudonyms(store)
    listed, patients = set(), set()
    for _, row in iterate_rows(store, run):
        listed.add(keys.seen(names.file(row, run)))
        patients.add(keys.patient(names.patient(row.patient)))
    return {folder for folder in results if folder is not None}, listed, patients
