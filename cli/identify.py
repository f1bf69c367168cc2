"""``screen identify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.options import json_option, out_option
from cli.output import print_json
from worker.place import Place


@click.command(epilog="Example: screen identify patient-3fa94c0d12ab88ff --out ./reports")
@click.argument("code", metavar="PSEUDONYM")
@out_option
@json_option
def identify(code: str, out: Path | Place, as_json: bool) -> None:
    """Tell whose a pseudonym is.

    PSEUDONYM is that of a patient or an image in reports that were made with --pseudonymise, or a
    keyed hash of a patient in the store. Needs the store, and for an image its key.
    """
    from pipeline.errors import ConfigurationError
    from pipeline.report.names import visible
    from worker.shown import IMAGE, images_behind, patient_behind
    from worker.store import open_store

    store = open_store(str(out))
    answer: dict[str, Any]
    if code.startswith(IMAGE):
        found = list(images_behind(store, code))
        first = found[0] if found else None
        answer = {
            "patient": first and first.row.patient,
            "source": first and first.row.source,
            "root": first and first.run.root,
            "runs": {one.run.run_id: one.position for one in found},
        }
    else:
        claim = patient_behind(store, code)
        answer = {"patient": claim and claim.patient, "root": claim and claim.root}
    if answer["patient"] is None:
        raise ConfigurationError(f"{out} knows no patient and no image {code!r}")
    if as_json:
        print_json(answer)
        return
    source = f", image {visible(answer['source'])}" if "source" in answer else ""
    click.echo(f"Patient {visible(answer['patient'])}{source}, of {visible(answer['root'])}")
