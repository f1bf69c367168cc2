"""``screen schema``."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from cli.schema import schema
from tests.pipeline.report_builder import schema_text


@pytest.mark.parametrize("arguments", [[], ["report"]])
def test_schema_prints_the_published_schema(arguments: list[str]) -> None:
    result = CliRunner().invoke(schema, arguments)
    assert result.exit_code == 0
    assert result.output == schema_text()
    assert json.loads(result.output)["$id"] == "urn:smear-screen:report:1"


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    result = CliRunner().invoke(schema, ["summary"])
    assert result.exit_code == 2
    assert "report" in result.output
