"""Where everything lies in the store. Keys are made of hashes and numbers, never of names.

Hashes of names are those of ``worker.pseudonyms``, which cannot be found by trying names.

::

    schema.json                               which layout this is
    names.json                                whether reports carry names or pseudonyms
    private/names                             key of the hashes of names, for the owner only
    results/<k2>/<result key>/analysis.json   one image's analysis, and its pictures beside it
    seen/<k2>/<file>.json                     which content a listed file had when it was read
    patients/<k2>/<patient>.json              a patient's name, and which archive the report is of
    maps/<bundle digest>.npz                  where the references of a bundle lie, to be drawn
    runs/<run>.json                           the run; written last, after its manifest
    manifests/<run>/<shard>.jsonl             frozen rows, sorted by patient, then source
    done/<run>/<shard>/<row>.json             outcome of a row, write-once
    failed/<run>/<shard>/<row>.json           hint: the outcome may be a failure
    cancelled/<run>.json                      nothing more is to be done, and why
    priority/<run>.json                       how urgent the run is, where that was said
    reported/<run>.json                       the reports of all its patients were written
    lease/<run>.json                          who feeds the run; lease/watch-<source>.json: who
                                              watches the source
    watched/<source>/<patient>.json           which run holds the newest list of a patient's images
    entries/<root>/<patient>.json             what the index says of a patient
    erased/<patient>.json                     when a patient was erased, and from which runs
    attempts/<run>/<shard>/<row>-<token>.json left behind by a worker that died at the row
    log/...                                   times and hosts; nothing is ever computed from it
"""

from __future__ import annotations

from pipeline.canonical import digest
from pipeline.results import SCHEMA_VERSION
from worker.records import RunRecord

SCHEMA = "schema.json"

#: Key of the hashes of names.
NAMES_KEY = "private/names"

NAMES_IN_REPORTS = "names.json"

#: Rows of a manifest shard, and outcomes of a folder: few enough to list at once on a file share.
SHARD_ROWS = 1000

#: Of the hash of an archive: a store knows few of them.
_ARCHIVE_DIGITS = 20


def result(sha256: str, run: RunRecord) -> str:
    """Folder of the analysis of this content under the run's model and options."""
    key = digest(
        {
            "sha256": sha256,
            "bundle": run.model.bundle_digest,
            "options": run.options.model_dump(mode="json"),
            "schema": SCHEMA_VERSION,
        }
    )
    return f"results/{key[:2]}/{key}/"


def analysis(result_key: str) -> str:
    """The analysis inside a result's folder."""
    return f"{result_key}analysis.json"


def seen(file: str) -> str:
    """Which content the listed file had, by its hash."""
    return f"seen/{file[:2]}/{file}.json"


def patient(patient: str) -> str:
    """Name and archive of the patient with this hash."""
    return f"patients/{patient[:2]}/{patient}.json"


def latent_map(run: RunRecord) -> str:
    """Where the references of the run's bundle lie."""
    return f"maps/{run.model.bundle_digest}.npz"


RUNS = "runs/"


def run(run_id: str) -> str:
    """The run's record."""
    return f"runs/{run_id}.json"


def manifest(run_id: str, shard: int) -> str:
    """One shard of the manifest."""
    return f"manifests/{run_id}/{shard:05}.jsonl"


def done_shard(run_id: str, shard: int) -> str:
    """Folder of the outcomes of a shard."""
    return f"done/{run_id}/{shard:05}/"


def done(run_id: str, position: int) -> str:
    """Outcome of one row."""
    shard, row = divmod(position, SHARD_ROWS)
    return f"{done_shard(run_id, shard)}{row:03}.json"


def failed_shard(run_id: str, shard: int) -> str:
    """Folder of the hints at failures of a shard."""
    return f"failed/{run_id}/{shard:05}/"


def failed(run_id: str, position: int) -> str:
    """Hint that the row's outcome may be a failure."""
    shard, row = divmod(position, SHARD_ROWS)
    return f"{failed_shard(run_id, shard)}{row:03}.json"


def attempts_run(run_id: str) -> str:
    """Folder of all attempt markers of a run."""
    return f"attempts/{run_id}/"


def attempts_shard(run_id: str, shard: int) -> str:
    """Folder of the attempt markers of a shard: few, as markers live no longer than the work."""
    return f"attempts/{run_id}/{shard:05}/"


def attempts(run_id: str, position: int) -> str:
    """What the keys of the attempt markers of one row start with."""
    shard, row = divmod(position, SHARD_ROWS)
    return f"{attempts_shard(run_id, shard)}{row:03}-"


def cancelled(run_id: str) -> str:
    """Exists while the run is cancelled."""
    return f"cancelled/{run_id}.json"


def priority(run_id: str) -> str:
    """How urgent the run is."""
    return f"priority/{run_id}.json"


def reported(run_id: str) -> str:
    """Exists once all reports of the run were written."""
    return f"reported/{run_id}.json"


def lease(run_id: str) -> str:
    """Who feeds the run."""
    return f"lease/{run_id}.json"


def watch_lease(source: str) -> str:
    """Who watches the source with this hash."""
    return f"lease/watch-{source[:_ARCHIVE_DIGITS]}.json"


def watched(source: str, patient: str) -> str:
    """The newest list of a patient's images in a watched source, by their hashes."""
    return f"watched/{source[:_ARCHIVE_DIGITS]}/{patient}.json"


def cleared(source: str, patient: str) -> str:
    """Up to which run a patient's images were tagged or moved, by their hashes."""
    return f"cleared/{source[:_ARCHIVE_DIGITS]}/{patient}.json"


def entries(root: str) -> str:
    """Folder of what the index says of the patients of the archive with this hash."""
    return f"entries/{root[:_ARCHIVE_DIGITS]}/"


def entry(root: str, patient: str) -> str:
    """What the index says of a patient, by the hashes of archive and name."""
    return f"{entries(root)}{patient}.json"


ERASED = "erased/"


def erased(patient: str) -> str:
    """Record of the erasure of the patient with this hash."""
    return f"{ERASED}{patient}.json"


def submitted(run_id: str) -> str:
    """Side log: when the run was last submitted."""
    return f"log/runs/{run_id}.json"


def row_log(run_id: str, position: int) -> str:
    """Side log: where and how long the row was processed."""
    shard, row = divmod(position, SHARD_ROWS)
    return f"log/rows/{run_id}/{shard:05}/{row:03}.json"


def folders_of(run_id: str) -> list[str]:
    """Folders in which everything is the run's; the manifest is the last of them."""
    kinds = ("done", "failed", "attempts", "log/rows", "manifests")
    return [f"{kind}/{run_id}/" for kind in kinds]


def files_of(run_id: str) -> list[str]:
    """Further keys of the run, without its record and its cancellation."""
    makers = (priority, reported, lease, submitted)
    return [maker(run_id) for maker in makers]


def position(shard: int, key: str) -> int:
    """Position of the row that a key of ``done``, ``failed`` or ``attempts`` belongs to."""
    row = key.rsplit("/", 1)[1].removesuffix(".json").split("-", 1)[0]
    return shard * SHARD_ROWS + int(row)
