"""Runs as the store knows them: which there are, how far they are, trying again, cancelling."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from pipeline.canonical import canonical_bytes
from pipeline.errors import ConfigurationError
from pipeline.results import Record
from worker import attempts, keys
from worker.manifest import iterate_rows, positions, read_run
from worker.records import ManifestRow, Outcome, Priority, Progress, RunRecord
from worker.store import Store


class _Urgency(Record):
    priority: Priority


class Submitted(NamedTuple):
    """A run and when it was last submitted (None if the side log is lost)."""

    run: RunRecord
    time: datetime | None


class RowOutcome(NamedTuple):
    """A manifest row and what became of it (None: not finished)."""

    position: int
    row: ManifestRow
    outcome: Outcome | None


class ShardState(NamedTuple):
    """Which rows of a shard have an outcome, and which of these are failures."""

    done: frozenset[int]
    failed: frozenset[int]


def list_runs(store: Store) -> list[Submitted]:
    """All runs, the one submitted last first."""
    ids = [key.removeprefix(keys.RUNS).removesuffix(".json") for key in store.list(keys.RUNS)]
    found = [Submitted(read_run(store, run_id), _submitted(store, run_id)) for run_id in ids]
    long_ago = datetime.fromtimestamp(0, UTC)
    return sorted(found, key=lambda one: (one.time or long_ago, one.run.run_id), reverse=True)


def load_run(store: Store, run_id_prefix: str | None = None) -> RunRecord:
    """The run whose id starts so; None: the one submitted last.

    Raises ConfigurationError if there is no such run, or more than one.
    """
    found = list_runs(store)
    if run_id_prefix is None:
        if not found:
            raise ConfigurationError("nothing was submitted yet; start with `screen submit`")
        return found[0].run
    matching = [one.run for one in found if one.run.run_id.startswith(run_id_prefix)]
    if len(matching) != 1:
        known = ", ".join(one.run.run_id for one in found) or "none"
        raise ConfigurationError(
            f"{len(matching)} runs start with {run_id_prefix!r}; the runs are: {known}"
        )
    return matching[0]


def progress(store: Store, run: RunRecord) -> Progress:
    """How far the run is: a listing; only outcomes that may be failures are opened."""
    done = failed = 0
    for shard in range(run.shards):
        state = shard_state(store, run, shard)
        done += len(state.done)
        failed += len(state.failed)
    return Progress(run_id=run.run_id, images=run.images, ok=done - failed, failed=failed)


def shard_state(store: Store, run: RunRecord, shard: int) -> ShardState:
    """Positions of a shard's rows that are finished, and of those that failed.

    Hints are written before the outcome, so that no failure is without one; a hint without a failed
    outcome was left by a worker that was killed or came second.
    """
    # In this order: a failure that appears in between is in neither list or in both.
    done = frozenset(
        keys.position(shard, key) for key in store.list(keys.done_shard(run.run_id, shard))
    )
    hints = [keys.position(shard, key) for key in store.list(keys.failed_shard(run.run_id, shard))]
    failed = frozenset(
        position for position in hints if position in done and _failed(store, run, position)
    )
    return ShardState(done, failed)


def read_outcome(store: Store, run: RunRecord, position: int) -> Outcome | None:
    """What became of a row; None: it is not finished."""
    data = store.read(keys.done(run.run_id, position))
    return None if data is None else Outcome.model_validate_json(data)


def outcomes(store: Store, run: RunRecord) -> Iterator[RowOutcome]:
    """Every row in manifest order with its outcome."""
    for position, row in iterate_rows(store, run):
        yield RowOutcome(position, row, read_outcome(store, run, position))


def retry_failed(store: Store, run: RunRecord) -> int:
    """Forget what failed, so that it is tried again; the number of rows.

    Stored failures of the same content are forgotten with it: who asks for another try has mended
    something, and an image that is still bad fails again with the same bytes.
    """
    retried = 0
    for shard in range(run.shards):
        for position in sorted(shard_state(store, run, shard).failed):
            outcome = read_outcome(store, run, position)
            if outcome is not None and outcome.result is not None:
                store.delete(keys.analysis(outcome.result))
            attempts.clear(store, run, position)
            forget_outcome(store, run, position)
            retried += 1
    return retried


def forget_outcome(store: Store, run: RunRecord, position: int) -> None:
    """Make a row unfinished again, and with it the reports."""
    store.delete(keys.reported(run.run_id))
    store.delete(keys.done(run.run_id, position))
    store.delete(keys.failed(run.run_id, position))


def cancel(store: Store, run: RunRecord, reason: str = "") -> None:
    """Nothing more of the run is started, by anybody, until ``uncancel``."""
    store.create(keys.cancelled(run.run_id), canonical_bytes({"reason": reason}))


def uncancel(store: Store, run: RunRecord) -> None:
    """Let a cancelled run go on."""
    store.delete(keys.cancelled(run.run_id))


def is_cancelled(store: Store, run: RunRecord) -> bool:
    """Whether the run was cancelled."""
    return store.exists(keys.cancelled(run.run_id))


def why_cancelled(store: Store, run: RunRecord) -> str:
    """Why the run was stopped; empty where somebody wanted it so."""
    try:
        return str(json.loads(store.read(keys.cancelled(run.run_id)) or b"{}").get("reason", ""))
    except ValueError:
        return ""


def set_priority(store: Store, run: RunRecord, level: Priority) -> None:
    """Say how urgent the run is, for everybody who feeds it."""
    store.replace(keys.priority(run.run_id), canonical_bytes(_Urgency(priority=level)))


def priority(store: Store, run: RunRecord) -> Priority:
    """How urgent the run is; ``normal`` where nothing was said."""
    data = store.read(keys.priority(run.run_id))
    return "normal" if data is None else _Urgency.model_validate_json(data).priority


def missing_positions(run: RunRecord, shard: int, done: frozenset[int]) -> list[int]:
    """Rows of a shard that are not finished."""
    return [position for position in positions(run, shard) if position not in done]


def _failed(store: Store, run: RunRecord, position: int) -> bool:
    outcome = read_outcome(store, run, position)
    return outcome is not None and outcome.status == "failed"


def _submitted(store: Store, run_id: str) -> datetime | None:
    """When the run was submitted; nothing depends on the side log, so that a broken one is none."""
    data = store.read(keys.submitted(run_id))
    try:
        return datetime.fromisoformat(json.loads(data or b"")["time"])
    except (ValueError, KeyError, TypeError):
        return None
