"""``index.html`` and ``summary.csv``: patients in the order in which to look at them."""

from __future__ import annotations

import csv
import io
import random

import pytest

from pipeline.labels import LABELS
from pipeline.report import RunSummary, index_entry, index_page, summary_csv
from pipeline.report.index import attention_key, report_link
from pipeline.report.summary import COLUMNS
from pipeline.results import DISCLAIMER, AnalysisOptions, PatientReport
from tests.pipeline.report_builder import (
    MODEL,
    SOFTWARE,
    failed_image,
    ok_image,
    report_on,
    series,
)
from tests.pipeline.test_report_page import HOSTILE, Page

#: In the order in which they belong.
ORDERED = [
    report_on(series(30, "pre_b"), "many malignant fields"),
    report_on(series(6, "pre_b"), "few malignant fields"),
    report_on(series(1, "pro_b", cells=200), "one malignant field"),
    report_on([*series(9), *series(6, "pro_b")], "mixed, less than half malignant"),
    report_on([failed_image()], "nothing readable"),
    report_on(series(2), "two benign fields"),
    report_on(series(6, cells=5), "few white cells"),
    report_on(series(6), "six benign fields"),
    report_on(series(60), "sixty benign fields"),
]


def run_of(reports: list[PatientReport], *, patients: int | None = None) -> RunSummary:
    return RunSummary(
        run_id="ab" * 32,
        root="file:///srv/slides",
        manifest_digest="cd" * 32,
        patients=len(reports) if patients is None else patients,
        images=sum(report.counts.images for report in reports),
        ignored=7,
        model=MODEL,
        options=AnalysisOptions(),
        software=SOFTWARE,
    )


def page_of(reports: list[PatientReport], *, patients: int | None = None) -> Page:
    entries = [index_entry(report) for report in reports]
    return Page(index_page(entries, run_of(reports, patients=patients)))


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))


def test_the_most_suspicious_and_least_certain_come_first() -> None:
    shuffled = [index_entry(report) for report in ORDERED]
    random.Random(1).shuffle(shuffled)
    found = [entry.patient for entry in sorted(shuffled, key=attention_key)]
    assert found == [report.patient for report in ORDERED]


def test_page_and_table_have_the_same_order_whatever_came_in() -> None:
    shuffled = random.Random(2).sample(ORDERED, len(ORDERED))
    expected = [report.patient for report in ORDERED]
    assert [row["patient"] for row in rows_of(summary_csv(shuffled))] == expected
    links = [link["href"] for link in page_of(shuffled).all("a")]
    assert links[:-1] == [report_link(index_entry(report)) for report in ORDERED]
    assert links[-1] == "summary.csv"


def test_equal_patients_are_ordered_by_name() -> None:
    entries = [index_entry(report_on([], patient)) for patient in ("b", "a", "B")]
    assert [entry.patient for entry in sorted(entries, key=attention_key)] == ["B", "a", "b"]


def test_the_index_shows_run_and_totals() -> None:
    words = page_of(ORDERED).words
    assert DISCLAIMER in words
    assert "9 patients" in words
    assert f"{sum(report.counts.images for report in ORDERED)} images" in words
    assert "ab" * 32 in words
    assert MODEL.bundle_digest in words
    assert "7 other files ignored" in words
    assert "Not complete." not in words


def test_patients_without_a_report_yet_are_not_passed_over() -> None:
    assert "9 of 12 patients have a report so far" in page_of(ORDERED, patients=12).words


def test_links_survive_percent_encoded_directories() -> None:
    entry = index_entry(report_on([], "Müller/1"))
    assert entry.directory == "M%C3%BCller%2F1"
    assert report_link(entry) == "patients/M%25C3%25BCller%252F1/report.html"
    page = page_of([report_on([], "Müller/1")])
    assert report_link(entry) in [link["href"] for link in page.all("a")]


def test_hostile_patients_stay_text() -> None:
    page = page_of([report_on([ok_image()], HOSTILE)])
    assert "script" not in {tag for tag, _ in page.elements}
    assert "img" not in {tag for tag, _ in page.elements}
    assert "\\u202E" in page.words


def test_an_empty_run_has_a_page() -> None:
    assert "0 patients" in page_of([]).words


def test_a_synthetic_run_says_so() -> None:
    assert "Synthetic images." in page_of([report_on([ok_image(synthetic=True)])]).words
    assert "Synthetic images." not in page_of(ORDERED).words


# --- summary.csv --------------------------------------------------------------------------------


def test_a_row_has_the_numbers_of_its_report() -> None:
    report = report_on([*series(12), *series(2, "pro_b", "low"), failed_image()], "P-9")
    (row,) = rows_of(summary_csv([report]))
    assert tuple(row) == COLUMNS
    assert row["patient"] == row["directory"] == "P-9"
    assert (row["call"], row["flag"]) == (report.call, report.flag)
    assert row["reasons"] == " ".join(report.reasons)
    numbers = ("images", "ok", "failed", "high", "judged", "white_cells")
    assert [int(row[name]) for name in numbers] == [15, 14, 1, 12, 12, 168]
    assert [int(row[label]) for label in LABELS] == [12, 0, 0, 2]
    assert float(row["malignant_share"]) == 0
    assert float(row["malignant_share_high"]) == pytest.approx(0.2425, abs=1e-4)
    assert "not a diagnosis" in row["use"]


def test_reports_and_entries_give_the_same_table() -> None:
    assert summary_csv(ORDERED) == summary_csv([index_entry(report) for report in ORDERED])


def test_lines_end_as_rfc_4180_has_it_and_names_cannot_break_them() -> None:
    data = summary_csv([report_on([], 'a\r\nb,"c"')])
    assert data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r") == 2
    (row,) = rows_of(data)
    assert row["patient"] == 'a\\r\\nb,"c"'


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_a_name_is_never_a_formula(start: str) -> None:
    (row,) = rows_of(summary_csv([report_on([], f"{start}1+1")]))
    assert row["patient"] == f"'{start}1+1"


@pytest.mark.parametrize("start", ["\t", "\r", "\n", " "])
def test_a_formula_cannot_hide_behind_space(start: str) -> None:
    (row,) = rows_of(summary_csv([report_on([], f"{start}=1+1")]))
    assert row["patient"].startswith("\\")


def test_undecodable_names_are_written_as_escapes() -> None:
    (row,) = rows_of(summary_csv([report_on([], "a\udcff")]))
    assert row["patient"] == "a\\uDCFF"


def test_what_is_unknown_is_empty() -> None:
    (row,) = rows_of(summary_csv([report_on([])]))
    assert row["malignant_share"] == row["malignant_share_low"] == ""
