"""``screen recipes``."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.output import print_json


@click.command(epilog="Example: screen recipes")
@json_option
def recipes(as_json: bool) -> None:
    """List the networks that `screen train --recipe` can train, with source and published score."""
    from pipeline.training.listing import list_recipes

    found = list_recipes()
    if as_json:
        print_json([entry.model_dump() for entry in found])
        return
    width = max(len(entry.name) for entry in found)
    for entry in found:
        size = f"{entry.parameters:>11,} parameters" if entry.parameters else " " * 22
        click.echo(f"{entry.name:<{width}}  {size}  {entry.input}")
        indent = " " * (width + 2)
        click.echo(f"{indent}{entry.source}; published: {entry.published or 'no figure'}")
        if entry.weights:
            click.echo(f"{indent}weights {entry.weights}")
        if entry.command != "train":
            click.echo(f"{indent}trained by screen {entry.command}")
