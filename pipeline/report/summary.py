"""``summary.csv``: one row per patient, in the order of the index."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from pipeline.canonical import rounded
from pipeline.labels import LABELS
from pipeline.report.index import IndexEntry, attention_key, index_entry
from pipeline.report.names import visible
from pipeline.results import PatientReport

#: Columns are kept and added to at the end, never renamed or moved.
COLUMNS = (
    "patient",
    "directory",
    "call",
    "flag",
    "reasons",
    "images",
    "ok",
    "failed",
    "high",
    "judged",
    "white_cells",
    *LABELS,
    "malignant_share",
    "malignant_share_low",
    "malignant_share_high",
    "synthetic",
    "bundle_digest",
    "use",
)

USE = "research use only; not a diagnosis"

#: A cell that begins so is run as a formula by spreadsheet programs (OWASP, CSV injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def summary_csv(reports: Iterable[PatientReport | IndexEntry]) -> bytes:
    """The table as RFC 4180 has it: UTF-8, CRLF, quotes where needed, one line per patient.

    Characters that do not show (line ends among them) are escaped as on the pages, and a text that
    a spreadsheet would run as a formula gets a leading apostrophe; ``directory`` is exact. Floats
    are rounded as in canonical JSON.
    """
    entries = [
        report if isinstance(report, IndexEntry) else index_entry(report) for report in reports
    ]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for entry in sorted(entries, key=attention_key):
        writer.writerow(_row(entry))
    return buffer.getvalue().encode("utf-8")


def _row(entry: IndexEntry) -> list[str]:
    interval = entry.malignant_share_interval
    return [
        _guarded(visible(entry.patient)),
        entry.directory,
        entry.call,
        entry.flag,
        " ".join(entry.reasons),
        *(
            str(count)
            for count in (
                entry.images,
                entry.ok,
                entry.failed,
                entry.high,
                entry.judged,
                entry.white_cells,
                *(entry.by_label[label] for label in LABELS),
            )
        ),
        _number(entry.malignant_share),
        _number(interval.low if interval else None),
        _number(interval.high if interval else None),
        "yes" if entry.synthetic else "no",
        entry.bundle_digest,
        USE,
    ]


def _guarded(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _number(value: float | None) -> str:
    return "" if value is None else repr(rounded(value))
