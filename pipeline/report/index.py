"""The page of a run: patients in the order in which they should be looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal
from urllib.parse import quote

from pydantic import Field

from pipeline.labels import LABELS, Label
from pipeline.report.names import patient_directory
from pipeline.report.render import data_uri, render
from pipeline.report.words import CALL_MEANINGS, CALL_NAMES, reason_in_words
from pipeline.results import (
    DISCLAIMER,
    AnalysisOptions,
    Call,
    Flag,
    Interval,
    ModelRecord,
    PatientReport,
    Record,
    Share,
)

#: Picture of all images of the run among the references, beside the index.
MAP_NAME = "latent_map.png"

#: Order of the groups of the index; see ``attention_key``.
Group = Literal["suspicious", "not_assessable", "benign_low", "benign_high"]
GROUPS: tuple[Group, ...] = ("suspicious", "not_assessable", "benign_low", "benign_high")

GROUP_NAMES: dict[Group, str] = {
    "suspicious": "Malignant or mixed",
    "not_assessable": "Not assessable",
    "benign_low": "Benign, low confidence",
    "benign_high": "Benign, high confidence",
}


class IndexEntry(Record):
    """What index and summary say of a patient; a few hundred bytes, whatever the report's size."""

    patient: str
    directory: str = Field(description="below patients/; see patient_directory")
    synthetic: bool
    call: Call
    flag: Flag
    reasons: tuple[str, ...]
    images: int
    ok: int
    failed: int
    high: int
    judged: int
    white_cells: int
    by_label: dict[Label, int]
    malignant_share: Share | None
    malignant_share_interval: Interval | None
    bundle_digest: str

    @property
    def group(self) -> Group:
        """The part of the index in which the patient stands."""
        if self.call == "not_assessable":
            return "not_assessable"
        if self.call != "benign":
            return "suspicious"
        return "benign_low" if self.flag == "low" else "benign_high"


class RunSummary(Record):
    """What the index says of the run as a whole."""

    run_id: str
    root: str = Field(description="URI of the archive")
    manifest_digest: str
    patients: int = Field(description="patients in the manifest")
    images: int = Field(description="images in the manifest")
    ignored: int = Field(description="files that are no images, not part of the run")
    model: ModelRecord
    options: AnalysisOptions
    software: dict[str, str]


def index_entry(report: PatientReport) -> IndexEntry:
    """The part of a report that index and summary need."""
    counts = report.counts
    return IndexEntry(
        patient=report.patient,
        directory=patient_directory(report.patient),
        synthetic=report.synthetic,
        call=report.call,
        flag=report.flag,
        reasons=tuple(report.reasons),
        images=counts.images,
        ok=counts.ok,
        failed=counts.failed,
        high=counts.high,
        judged=counts.judged,
        white_cells=counts.white_cells,
        by_label={label: counts.by_label.get(label, 0) for label in LABELS},
        malignant_share=counts.malignant_share,
        malignant_share_interval=counts.malignant_share_interval,
        bundle_digest=report.model.bundle_digest,
    )


def attention_key(entry: IndexEntry) -> tuple[int, float, float, str]:
    """Sort key: most suspicious first, then least certain.

    Groups in the order of ``GROUPS``. Among suspicious patients the lower end of the interval of
    the malignant share comes down, so that a share that is both high and well supported leads;
    among benign ones the upper end, so that the least excluded malignancy leads. Ties go to more
    failed images, then to the name by code points.
    """
    interval = entry.malignant_share_interval
    if interval is None:
        weight = 0.0
    else:
        weight = interval.low if entry.group == "suspicious" else interval.high
    return GROUPS.index(entry.group), -weight, -float(entry.failed), entry.patient


def index_page(
    entries: Sequence[IndexEntry], run: RunSummary, latent_map: bytes | None = None
) -> str:
    """``index.html``: run, totals and one row per patient with a link to the report.

    ``latent_map``: the picture that lies beside the index as MAP_NAME.
    """
    ordered = sorted(entries, key=attention_key)
    groups = {group: [entry for entry in ordered if entry.group == group] for group in GROUPS}
    return render(
        "index.html.j2",
        title="Blood smear screening: patients",
        run=run,
        entries=ordered,
        groups=groups,
        group_names=GROUP_NAMES,
        calls=Counter(entry.call for entry in ordered),
        call_names=CALL_NAMES,
        call_meanings=CALL_MEANINGS,
        images=sum(entry.images for entry in ordered),
        failed=sum(entry.failed for entry in ordered),
        white_cells=sum(entry.white_cells for entry in ordered),
        synthetic=any(entry.synthetic for entry in ordered),
        links={entry.directory: report_link(entry) for entry in ordered},
        labels=LABELS,
        latent_map=data_uri(latent_map),
        map_name=MAP_NAME,
        in_words=reason_in_words,
        disclaimer=DISCLAIMER,
    )


def report_link(entry: IndexEntry) -> str:
    """Address of the patient's page below the index: the directory's own ``%`` needs encoding."""
    return f"patients/{quote(entry.directory)}/report.html"
