"""Removing a run from the store, and of its results those that no other run refers to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.errors import ConfigurationError
from worker import keys
from worker.manifest import is_whole
from worker.process import Seen
from worker.pseudonyms import pseudonyms
from worker.records import RunRecord
from worker.runs import cancel, is_cancelled, list_runs, outcomes, progress
from worker.store import Store

#: Why a run is cancelled while it is purged.
PURGED = "it is being purged"


class Purge(NamedTuple):
    """What is to be removed: folders of results, then other keys, the run's record last."""

    results: list[str]
    records: list[str]
    #: Results that stay because other runs refer to them.
    shared: int


def plan_purge(store: Store, run: RunRecord) -> Purge:
    """What removing the run would remove. Raises ConfigurationError while it is being worked at."""
    # Of a purge that was interrupted: what the manifest leads to was gone before it.
    whole = is_whole(store, run)
    if whole and not is_cancelled(store, run) and not progress(store, run).finished:
        raise ConfigurationError(
            f"run {run.run_id} is not finished: stop it with `screen cancel {run.run_id}`, then "
            "purge it"
        )
    results, listed, patients = _referred_to(store, run) if whole else (set(), set(), set())
    shared = 0
    for other, _ in list_runs(store):
        if other.run_id == run.run_id or _is_being_purged(store, other):
            continue
        used = _referred_to(store, other)
        shared += len(results & used[0])
        results -= used[0]
        listed -= used[1]
        patients -= used[2]
    files = [key for key in keys.files_of(run.run_id) if store.exists(key)]
    # The manifest last: as long as it is there, it leads to everything else.
    own = [key for prefix in keys.folders_of(run.run_id) for key in store.list(prefix)]
    # While it is purged the run is cancelled, so that nobody works at it.
    last = [keys.cancelled(run.run_id), keys.run(run.run_id)]
    records = sorted(listed) + sorted(patients) + files + own + last
    return Purge(sorted(results), records, shared)


def carry_out(store: Store, run: RunRecord, purge: Purge) -> int:
    """Remove it; the number of values removed. After an interruption it can be planned again."""
    cancel(store, run, PURGED)
    removed = 0
    for key in _values(store, purge):
        store.delete(key)
        removed += 1
    return removed


def _is_being_purged(store: Store, run: RunRecord) -> bool:
    return is_cancelled(store, run) and not is_whole(store, run)


def _values(store: Store, purge: Purge) -> Iterator[str]:
    # Results first: as long as the run's outcomes are there, they tell which these were.
    for folder in purge.results:
        yield from store.list(folder)
    yield from purge.records


def _referred_to(store: Store, run: RunRecord) -> tuple[set[str], set[str], set[str]]:
    """Folders of results, and keys of listed files and patients, that the run refers to."""
    names = pseudonyms(store)
    results: set[str] = set()
    listed: set[str] = set()
    patients: set[str] = set()
    for _, row, outcome in outcomes(store, run):
        file = keys.seen(names.file(row, run))
        listed.add(file)
        patients.add(keys.patient(names.patient(row.patient)))
        if outcome is not None and outcome.result is not None:
            results.add(outcome.result)
        elif outcome is None and (seen := store.read(file)) is not None:
            # A worker was killed after it had judged the image.
            results.add(keys.result(Seen.model_validate_json(seen).sha256, run))
    return results, listed, patients
