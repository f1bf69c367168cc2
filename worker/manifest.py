"""Freezing what was listed into a sorted, sharded manifest, and reading it back."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from pydantic import ValidationError

from pipeline.canonical import canonical_bytes, digest
from pipeline.errors import ConfigurationError, NamingError, StoreUnavailableError
from pipeline.results import SCHEMA_VERSION, AnalysisOptions, ModelRecord, Record
from worker import keys
from worker.pseudonyms import Pseudonyms, pseudonyms
from worker.records import ManifestRow, RunRecord
from worker.store import Store

#: Hexadecimal digits of a run's id: 80 bits, more than enough for the runs of one laboratory.
RUN_ID_DIGITS = 20

#: Shards kept in memory by ``read_row``: rows are handed out in order, so that few are in use.
_CACHED_SHARDS = 4


class PatientClaim(Record):
    """Whose the hash of a patient is, and which archive the report in this folder is about."""

    patient: str
    root: str


class NamesInReports(Record):
    """Whether the reports in this output folder carry pseudonyms: all of them, or none."""

    pseudonymise: bool


class Draft(NamedTuple):
    """A run that is not in a store yet, with the lines of its manifest."""

    run: RunRecord
    lines: list[bytes]
    patients: list[str]


def freeze(
    store: Store,
    rows: Iterable[ManifestRow],
    *,
    root: str,
    bundle: str,
    model: ModelRecord,
    options: AnalysisOptions,
    ignored: int,
    latent_map: bytes | None = None,
    partial: bool = False,
    pseudonymise: bool = False,
) -> RunRecord:
    """Freeze the rows into a run; the same content gives the same run.

    ``partial``: other runs hold the other patients of the archive. ``pseudonymise``: reports carry
    pseudonyms.

    ``latent_map``: file of the bundle's map of references, so that reports can be drawn without the
    bundle. Raises ConfigurationError where there are no rows, where two rows name the same file,
    where a patient's reports in this store come from another archive, or where reports that are
    there carry names and these would not, or the other way round.
    """
    _settle_names(store, pseudonymise)
    made = draft(
        rows,
        root=root,
        bundle=bundle,
        model=model,
        options=options,
        ignored=ignored,
        partial=partial,
        names=pseudonyms(store) if pseudonymise else None,
    )
    _claim_patients(store, made.patients, root)
    if latent_map is not None:
        store.create(keys.latent_map(made.run), latent_map)
    write(store, made)
    store.replace(keys.submitted(made.run.run_id), canonical_bytes(_submission()))
    return read_run(store, made.run.run_id)


def draft(
    rows: Iterable[ManifestRow],
    *,
    root: str,
    bundle: str,
    model: ModelRecord,
    options: AnalysisOptions,
    ignored: int,
    partial: bool = False,
    names: Pseudonyms | None = None,
) -> Draft:
    """The run that ``freeze`` would make; ``names``: those of its reports, if they carry any.

    Raises ConfigurationError where rows are missing or given twice.
    """
    lines, patients = _sorted_lines(rows)
    hasher = hashlib.sha256()
    for line in lines:
        hasher.update(line)
    manifest_digest = hasher.hexdigest()
    if names is not None:
        # Reports name the run and its manifest: who has them could try names.
        manifest_digest = names.manifest(manifest_digest)
    identity = {
        "schema": SCHEMA_VERSION,
        "manifest": manifest_digest,
        "root": root,
        "bundle": model.bundle_digest,
        "options": options.model_dump(mode="json"),
        **({"partial": True} if partial else {}),
        **({"pseudonymise": True} if names is not None else {}),
    }
    run = RunRecord(
        schema_version=SCHEMA_VERSION,
        run_id=digest(identity)[:RUN_ID_DIGITS],
        root=root,
        bundle=bundle,
        model=model,
        options=options,
        images=len(lines),
        patients=len(patients),
        ignored=ignored,
        shards=-(-len(lines) // keys.SHARD_ROWS),
        manifest_digest=manifest_digest,
        partial=partial,
        pseudonymise=names is not None,
    )
    return Draft(run, lines, patients)


def write(store: Store, made: Draft) -> None:
    """Write manifest and record, the record last: if this is killed, nothing counts."""
    run = made.run
    for shard in range(run.shards):
        first = shard * keys.SHARD_ROWS
        data = b"".join(made.lines[first : first + keys.SHARD_ROWS])
        store.create(keys.manifest(run.run_id, shard), data)
    store.create(keys.run(run.run_id), canonical_bytes(run))


def read_run(store: Store, run_id: str) -> RunRecord:
    """The record of a run whose whole id is known. Raises ConfigurationError if there is none."""
    data = store.read(keys.run(run_id))
    if data is None:
        raise ConfigurationError(f"there is no run {run_id}; `screen status` lists the runs")
    try:
        return RunRecord.model_validate_json(data)
    except ValidationError as error:
        raise ConfigurationError(
            f"the record of run {run_id} cannot be read ({error.error_count()} problems): it was "
            "written by another version of screen; submit again with another --out"
        ) from None


def read_rows(store: Store, run: RunRecord, shard: int) -> list[ManifestRow]:
    """All rows of one shard, in order."""
    return [
        ManifestRow.model_validate_json(line) for line in _shard_lines(store, run.run_id, shard)
    ]


def read_row(store: Store, run: RunRecord, position: int) -> ManifestRow:
    """The row at a position, counted from 0 over all shards."""
    shard, row = divmod(position, keys.SHARD_ROWS)
    return ManifestRow.model_validate_json(_shard_lines(store, run.run_id, shard)[row])


def positions(run: RunRecord, shard: int) -> range:
    """Positions of the rows of one shard."""
    first = shard * keys.SHARD_ROWS
    return range(first, min(first + keys.SHARD_ROWS, run.images))


def is_whole(store: Store, run: RunRecord) -> bool:
    """Whether the manifest is there; of a run that is being removed, part of it may be gone."""
    return all(store.exists(keys.manifest(run.run_id, shard)) for shard in range(run.shards))


def iterate_rows(store: Store, run: RunRecord) -> Iterator[tuple[int, ManifestRow]]:
    """Every row with its position; one shard is in memory at a time."""
    for shard in range(run.shards):
        yield from zip(positions(run, shard), read_rows(store, run, shard), strict=True)


@lru_cache(maxsize=_CACHED_SHARDS)
def _shard_lines(store: Store, run_id: str, shard: int) -> list[bytes]:
    """Lines of a shard. They are frozen, so that caching them cannot go wrong."""
    data = store.read(keys.manifest(run_id, shard))
    if data is None:
        raise StoreUnavailableError(f"shard {shard} of the manifest of run {run_id} is missing")
    return data.splitlines()


def _sorted_lines(rows: Iterable[ManifestRow]) -> tuple[list[bytes], list[str]]:
    """Canonical lines sorted by patient, then source; and the patients."""
    keyed = sorted(((row.patient, row.source, row.raw or ""), canonical_bytes(row)) for row in rows)
    if not keyed:
        raise ConfigurationError("no images were found: there is nothing to screen")
    for (first, _), (second, _) in pairwise(keyed):
        if first == second:
            raise NamingError(f"{first[1]!r} of patient {first[0]!r} is listed twice")
    patients = list(dict.fromkeys(patient for (patient, _, _), _ in keyed))
    return [line for _, line in keyed], patients


def _claim_patients(store: Store, patients: list[str], root: str) -> None:
    """Bind each patient's report in this output folder to one archive, or refuse all of them."""
    names = pseudonyms(store)
    claims = {keys.patient(names.patient(name)): name for name in patients}
    unclaimed = []
    for key, patient in claims.items():
        found = store.read(key)
        if found == b"":
            # The power failed before the claim reached the disk.
            store.delete(key)
        if not found:
            unclaimed.append(key)
        else:
            _check_claim(found, PatientClaim(patient=patient, root=root))
    for key in unclaimed:
        claim = PatientClaim(patient=claims[key], root=root)
        if not store.create(key, canonical_bytes(claim)):
            _check_claim(store.read(key) or b"", claim)


def is_pseudonymised(store: Store) -> bool:
    """Whether the reports in this output folder carry pseudonyms."""
    data = store.read(keys.NAMES_IN_REPORTS)
    return data is not None and NamesInReports.model_validate_json(data).pseudonymise


def _settle_names(store: Store, pseudonymise: bool) -> None:
    """The first run decides: a table of names beside pseudonyms would give them away."""
    store.create(keys.NAMES_IN_REPORTS, canonical_bytes(NamesInReports(pseudonymise=pseudonymise)))
    if is_pseudonymised(store) != pseudonymise:
        there = "names" if pseudonymise else "pseudonyms"
        mend = "leave out --pseudonymise" if pseudonymise else "give --pseudonymise"
        raise ConfigurationError(
            f"the reports in the output folder carry {there}: {mend}, or choose another --out"
        )


def _check_claim(found: bytes, claim: PatientClaim) -> None:
    if found != canonical_bytes(claim):
        raise NamingError(
            f"the output folder already has a report of patient {claim.patient!r} from another "
            "archive, which would be overwritten; choose another --out"
        )


def _submission() -> dict[str, str]:
    return {"time": datetime.now(UTC).isoformat(), "host": socket.gethostname()}
