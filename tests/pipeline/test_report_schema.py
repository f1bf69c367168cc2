"""The published schema, and the documentation that is generated from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator

from pipeline.canonical import canonical_bytes
from pipeline.report import report_schema
from pipeline.report.summary import COLUMNS
from pipeline.report.words import FAILURE_MENDS, IMAGE_REASONS, PATIENT_REASONS
from pipeline.results import ImageResult, PatientReport
from tests.pipeline.report_builder import (
    DOCS,
    EXAMPLE_END,
    EXAMPLE_START,
    example_report,
    example_text,
    failed_image,
    ok_image,
    report_on,
    schema_text,
)
from tests.pipeline.test_report_aggregate import patients

REWRITE = "python -m tests.pipeline.report_builder writes it anew"


def violations(document: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(report_schema()).iter_errors(document)]


def test_the_schema_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(report_schema())


def test_the_example_and_a_hostile_report_satisfy_the_schema() -> None:
    hostile = report_on([ok_image("\udcff\n.jpg", tiles=3), failed_image("<b>")], "\x00\u202e")
    for report in (example_report(), hostile):
        assert violations(json.loads(canonical_bytes(report))) == []


@settings(max_examples=25, deadline=None)
@given(patients())
def test_every_report_satisfies_the_schema(images: list[ImageResult]) -> None:
    assert violations(json.loads(canonical_bytes(report_on(images)))) == []


def test_a_report_survives_its_canonical_bytes() -> None:
    data = canonical_bytes(example_report())
    again = PatientReport.model_validate_json(data)
    assert canonical_bytes(again) == data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("call",), "malignant"),
        (("flag",), "medium"),
        (("unknown",), 1),
        (("schema_version",), 2),
        (("counts", "malignant_share"), 1.5),
        (("images", 0, "label"), None),
        (("images", 0, "probabilities", "normal"), 0.1),
        (("images", 0, "error"), {"reason": "truncated", "message": "both ok and failed"}),
        (("images", 2, "error"), None),
        (("images", 2, "label"), "benign"),
    ],
)
def test_the_schema_refuses_what_no_report_says(path: tuple[Any, ...], value: Any) -> None:
    document = json.loads(canonical_bytes(example_report()))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert violations(document)


@pytest.mark.parametrize("name", ["patient", "call", "flag", "counts", "images"])
def test_public_names_are_required(name: str) -> None:
    document = json.loads(canonical_bytes(example_report()))
    del document[name]
    assert violations(document)


def test_the_published_schema_is_current() -> None:
    published = (DOCS / "schema" / "report.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), REWRITE


def test_the_documented_example_is_current() -> None:
    page = (DOCS / "report.md").read_text(encoding="utf-8")
    example = page.split(EXAMPLE_START)[1].split(EXAMPLE_END)[0]
    assert example == example_text(), REWRITE


def test_the_documentation_names_every_code_column_and_field() -> None:
    page = (DOCS / "report.md").read_text(encoding="utf-8")
    text = page.split(EXAMPLE_START)[0] + page.split(EXAMPLE_END)[1]
    definitions = report_schema()["$defs"].values()
    fields = {name for definition in definitions for name in definition.get("properties", {})}
    fields |= set(report_schema()["properties"])
    wanted = {*PATIENT_REASONS, *IMAGE_REASONS, *FAILURE_MENDS, *COLUMNS, *fields}
    assert sorted(name for name in wanted if f"`{name}`" not in text) == []
