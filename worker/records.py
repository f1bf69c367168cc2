"""What the store keeps about a run: the frozen manifest and the outcome of each of its rows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.results import AnalysisOptions, ImageError, ModelRecord, Record

Priority = Literal["high", "normal", "low"]


class ManifestRow(Record):
    """One image as it was listed; the bytes have not been read."""

    source: str = Field(
        description="path below the root with / between parts; bytes that are not UTF-8 are shown "
        "as \\xNN"
    )
    raw: str | None = Field(
        default=None, description="percent-encoded path, where `source` does not name the file"
    )
    patient: str
    size: int = Field(ge=0, description="bytes")
    version: str = Field(
        description="modification time in ns; of an object its ETag, and where the bucket keeps "
        "versions a blank and the version's id"
    )
    refused: ImageError | None = Field(
        default=None, description="why the file must not be read (a link out of the root, ...)"
    )


class RunRecord(Record):
    """A run: what was asked for. Its id is a hash of manifest, model and options."""

    schema_version: int
    run_id: str
    root: str = Field(description="URI of the archive, file:///...")
    bundle: str = Field(description="where the model bundle was when the run was submitted")
    model: ModelRecord
    options: AnalysisOptions
    images: int
    patients: int
    ignored: int = Field(description="files that are no images, not part of the run")
    shards: int
    manifest_digest: str
    partial: bool = Field(
        default=False,
        description="it holds some patients of an archive that is watched; the others are in other "
        "runs, and one of them may hold a newer list of a patient's images",
    )
    pseudonymise: bool = Field(
        default=False, description="reports carry pseudonyms of patients, files and archive"
    )


class Outcome(Record):
    """What became of one manifest row; written once, when the row is finished."""

    status: Literal["ok", "failed"]
    result: str | None = Field(
        default=None, description="key of the stored analysis; null if the file was never read"
    )
    error: ImageError | None = Field(default=None, description="why, if there is no result")


class Progress(Record):
    """How far a run is, from the store alone."""

    run_id: str
    images: int
    ok: int
    failed: int

    @property
    def remaining(self) -> int:
        """Rows without an outcome."""
        return self.images - self.ok - self.failed

    @property
    def finished(self) -> bool:
        """Whether every row has an outcome."""
        return self.remaining == 0
