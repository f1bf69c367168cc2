"""``screen show``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import json_option, out_option
from worker.place import Place

if TYPE_CHECKING:
    from pipeline.results import ImageResult, PatientReport


@click.command(epilog="Examples: screen show P-17 --out ./reports; screen show _root --json")
@click.argument("patient", metavar="PATIENT")
@out_option
@json_option
def show(patient: str, out: Path | Place, as_json: bool) -> None:
    """Show what was found for a patient.

    The call, what it rests on, and a line for every image. PATIENT is the name, or the pseudonym in
    reports that carry such. --json prints the patient's report.json
    as it is.
    """
    from pydantic import ValidationError

    from pipeline.errors import ConfigurationError
    from pipeline.report import patient_directory
    from pipeline.results import PatientReport
    from worker.publish import read_published

    directory = patient_directory(patient)
    data = read_published(out, f"patients/{directory}/report.json")
    if data is None:
        directory = patient_directory(_pseudonym(patient, out))
        data = read_published(out, f"patients/{directory}/report.json")
    if data is None:
        raise ConfigurationError(_not_found(patient, out))
    folder = out / "patients" / directory
    path = folder / "report.json"
    if as_json:
        click.echo(data.decode("ascii", "backslashreplace"), nl=False)
        return
    try:
        report = PatientReport.model_validate_json(data)
    except ValidationError as error:
        raise ConfigurationError(
            f"{path} is damaged or of another version ({error.error_count()} problems): give the "
            "same `screen submit` again to write it anew"
        ) from None
    for line in summary_lines(report, folder):
        click.echo(line)


def summary_lines(report: PatientReport, folder: Path | Place) -> list[str]:
    """The report in a few lines of text."""
    from pipeline.report.names import visible
    from pipeline.report.words import CALL_NAMES, reason_in_words

    counts = report.counts
    lines = [
        f"Patient {visible(report.patient)}"
        + (" (synthetic images: no patient)" if report.synthetic else ""),
        f"Call: {CALL_NAMES[report.call]}, confidence {report.flag}",
        report.statement,
    ]
    lines += [f"  {reason}: {reason_in_words(reason)}" for reason in report.reasons]
    labels = ", ".join(f"{label} {number}" for label, number in counts.by_label.items() if number)
    lines.append(
        f"Images: {counts.images} ({counts.ok} ok, {counts.failed} failed)"
        + (f"; {labels}" if labels else "")
    )
    lines += [f"  {_image_line(image)}" for image in report.images]
    lines += [
        f"Model: {report.model.name} {report.model.bundle_digest[:12]}. {report.model.tested}",
        f"Report: {folder / 'report.html'}",
        report.disclaimer,
    ]
    return lines


def _image_line(image: ImageResult) -> str:
    from pipeline.report.names import visible

    name = visible(image.source)
    if image.status == "failed":
        error = image.error
        return f"{name}: failed" + (f", {error.reason}: {visible(error.message)}" if error else "")
    probability = (image.probabilities or {}).get(image.label) if image.label else None
    parts = [
        f"{image.label} {probability:.3f}" if probability is not None else str(image.label),
        f"{len(image.cells)} white cell{'' if len(image.cells) == 1 else 's'}",
    ]
    if image.confidence is not None:
        reasons = f" ({' '.join(image.confidence.reasons)})" if image.confidence.reasons else ""
        parts.append(f"confidence {image.confidence.flag}{reasons}")
    return f"{name}: {', '.join(parts)}"


def _pseudonym(patient: str, out: Path | Place) -> str:
    """What reports call the patient; the name where the store cannot be asked."""
    from pipeline.errors import ConfigurationError
    from worker.shown import shown_in
    from worker.store import open_store

    try:
        return shown_in(open_store(str(out))).patient(patient)
    except ConfigurationError:
        return patient


def _not_found(patient: str, out: Path | Place) -> str:
    """There is no such report: which are there?"""
    from difflib import get_close_matches
    from urllib.parse import unquote

    from worker.publish import published_folders

    known = sorted(unquote(name) for name in published_folders(out, "patients"))
    if not known:
        return f"{out} has no reports; name the --out of a `screen submit` that has finished"
    similar = get_close_matches(patient, known, n=5, cutoff=0.5) or known[:5]
    hint = f"; similar: {', '.join(repr(name) for name in similar)}" if similar else ""
    return (
        f"{out} has no report of patient {patient!r}{hint}. Reports are written when all images of "
        "the run are done: `screen status` tells how far it is"
    )
