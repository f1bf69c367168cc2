"""One patient, one run: the aggregation rule, report.json's contents, pages and tables."""

from __future__ import annotations

from pipeline.report.aggregate import build_report
from pipeline.report.index import MAP_NAME, IndexEntry, RunSummary, index_entry, index_page
from pipeline.report.names import case_conflicts, patient_directory
from pipeline.report.page import PictureSource, report_page
from pipeline.report.schema import report_schema
from pipeline.report.summary import summary_csv

__all__ = [
    "MAP_NAME",
    "IndexEntry",
    "PictureSource",
    "RunSummary",
    "build_report",
    "case_conflicts",
    "index_entry",
    "index_page",
    "patient_directory",
    "report_page",
    "report_schema",
    "summary_csv",
]
