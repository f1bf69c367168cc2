"""``screen schema``: the published formats."""

from __future__ import annotations

import json

import click


@click.command(epilog="Example: screen schema report > report.schema.json")
@click.argument("name", type=click.Choice(["report"]), default="report")
def schema(name: str) -> None:
    """Print the JSON Schema of a published format (report: report.json of a patient)."""
    from pipeline.report.schema import report_schema

    formats = {"report": report_schema}
    click.echo(json.dumps(formats[name](), indent=2, sort_keys=True))
