"""Which images of a run failed, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.results import ImageError
from worker.manifest import read_row
from worker.records import ManifestRow, RunRecord
from worker.results import error_of
from worker.runs import read_outcome, shard_state
from worker.store import Store

#: Failures that come from the manifest or from a file that is not what was listed: trying again is
#: useless, submitting again lists the archive as it is now.
NEEDS_NEW_LISTING = frozenset(
    {"outside_root", "not_a_file", "unsupported_format", "missing", "changed"}
)


class Failure(NamedTuple):
    """A failed image and the reason."""

    row: ManifestRow
    error: ImageError


def failures(store: Store, run: RunRecord) -> Iterator[Failure]:
    """The failed images in manifest order; only outcomes that may be failures are opened."""
    for shard in range(run.shards):
        for position in sorted(shard_state(store, run, shard).failed):
            outcome = read_outcome(store, run, position)
            if outcome is not None and outcome.status == "failed":
                yield Failure(read_row(store, run, position), error_of(store, outcome))
