"""``screen erase``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.options import json_option, out_option
from cli.output import print_json
from worker.place import Place

NOT_TOUCHED = (
    "The images in the archive are not touched, nor are back-ups and earlier versions in a bucket."
)


@click.command(epilog="Examples: screen erase P-17; screen erase P-17 --yes")
@click.argument("patient", metavar="PATIENT")
@click.option("--yes", is_flag=True, help="Erase; without this, only say what would be erased.")
@click.option("--dry-run", is_flag=True, help="Only say what would be erased, as without --yes.")
@click.option(
    "--readmit",
    is_flag=True,
    help="Take in images of a patient again who was erased; the record of the erasure stays.",
)
@out_option
@json_option
def erase(
    patient: str, yes: bool, dry_run: bool, readmit: bool, out: Path | Place, as_json: bool
) -> None:
    """Erase a patient from reports and store, and keep a record that names nobody.

    Report, pictures and earlier revisions, results, and the patient's rows in every run: a run that
    holds the patient is replaced by the run of its other patients, whose reports stay as they are.
    Images are never touched; while they lie in an archive, they are left out of what is submitted
    or watched, until --readmit.
    """
    if yes + dry_run + readmit > 1:
        raise click.UsageError("--yes, --dry-run and --readmit exclude each other")
    from worker.erased import readmit as readmit_patient
    from worker.store import open_store

    store = open_store(str(out))
    if readmit:
        record = readmit_patient(store, patient)
        answer: dict[str, Any] = {"erased": None, "record": record.model_dump(mode="json")}
        words = "The next `screen submit`, or the watcher, takes the patient's images in again."
    else:
        answer, words = _erase(store, out, patient, yes=yes)
    if as_json:
        print_json(answer)
    else:
        click.echo(words)


def _erase(store: Any, out: Path | Place, patient: str, *, yes: bool) -> tuple[dict[str, Any], str]:
    """The answer, for programs and for people."""
    from worker.erase import erase as erase_patient
    from worker.erase import find
    from worker.settings import load_settings

    found = find(store, out, patient, hard_limit=load_settings().hard_limit_seconds)
    record = erase_patient(store, out, patient, found) if yes else None
    answer = {
        "runs": [run.run_id for run in found.runs],
        "images": found.images,
        "files": found.files,
        "erased": record is not None,
        "record": record.model_dump(mode="json") if record is not None else None,
    }
    what = f"{found.images} images in {len(found.runs)} runs, and {found.files} files of reports"
    if record is None:
        return answer, f"{what} would be erased; do it with --yes. {NOT_TOUCHED}"
    done = record.erasures[-1]
    return answer, (
        f"{what} were erased ({done.objects} files in all). {NOT_TOUCHED}\n"
        f"Record: store/erased/{record.patient}.json"
    )
