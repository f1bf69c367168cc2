"""``screen samples``: synthetic smears to try the software with."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(
    epilog="Example: screen samples ./samples && screen submit ./samples --out ./reports"
)
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--patients",
    type=click.IntRange(1, 500),
    default=4,
    show_default=True,
    help="Number of patient folders.",
)
@click.option(
    "--fields",
    type=click.IntRange(1, 50),
    default=3,
    show_default=True,
    help="Images of each patient; the one with few cells has one less.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=2025,
    show_default=True,
    help="The same seed gives the same files.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def samples(directory: Path, patients: int, fields: int, seed: int, as_json: bool) -> None:
    """Render synthetic blood smears with a known truth into DIR.

    One folder per patient (many blasts, normal, mixed, few cells, ...), and truth.json with every
    white cell. The images are marked as synthetic and so are reports on them. DIR must be new,
    empty, or hold samples already.
    """
    from pipeline.samples import write_samples

    written = write_samples(directory, patients=patients, fields=fields, seed=seed)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "directory": str(written.directory),
                    "patients": written.patients,
                    "white_cells": written.white_cells,
                    "images": list(written.sources),
                    "truth": "truth.json",
                },
                sort_keys=True,
            )
        )
        return
    click.echo(
        f"{len(written.sources)} synthetic fields of {written.patients} patients with "
        f"{written.white_cells} white cells are in {written.directory}"
    )
