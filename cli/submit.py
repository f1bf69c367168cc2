"""``screen submit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import (
    PlaceType,
    explain_option,
    lime_options,
    pseudonymise_option,
    work_options,
)
from cli.output import print_json
from worker.place import Place

if TYPE_CHECKING:
    from worker.planning import Plan
    from worker.records import Priority, RunRecord
    from worker.store import Store


@click.command(
    epilog="""\b
Examples:
  screen submit ./slides/ --out ./reports
  screen submit a.jpg b.tif --patient P-17
  screen submit ./slides/ --patients patients.csv
  screen submit ./slides/ --patient-pattern '(?P<patient>[A-Z]\\d+)_.*'

Exit status: 0 everything done, 1 could not work, 3 some images failed.
"""
)
@click.argument("paths", nargs=-1, required=True, metavar="PATHS...", type=PlaceType())
@click.option("--patient", metavar="P", help="All images belong to this patient.")
@click.option(
    "--patients",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="CSV",
    help="Table with the columns file (path below the archive's root) and patient; it must name "
    "every image. UTF-8; comma, semicolon or tab.",
)
@click.option(
    "--patient-pattern",
    metavar="RE",
    help="Regular expression that matches the whole path of every image below the archive's root; "
    "its group (?P<patient>...) is the patient.",
)
@explain_option
@lime_options
@click.option(
    "--priority",
    type=click.Choice(["high", "normal", "low"]),
    default="normal",
    show_default=True,
    help="Which runs workers prefer where several wait.",
)
@click.option(
    "--no-wait",
    is_flag=True,
    help="Leave the work to `screen feed` or to a worker started with --feed, and return.",
)
@pseudonymise_option
@work_options
@click.pass_context
def submit(
    context: click.Context,
    paths: tuple[Path | Place, ...],
    patient: str | None,
    patients: Path | None,
    patient_pattern: str | None,
    explain: str,
    lime: dict[str, Any],
    priority: Priority,
    no_wait: bool,
    pseudonymise: bool,
    out: Path | Place,
    bundle: Path | None,
    broker: str | None,
    processes: int | None,
    reference_images: Path | None,
    as_json: bool,
) -> None:
    """Screen an archive, one report per patient.

    PATHS is one folder, or s3://bucket/prefix, in which every first-level folder is a patient
    (images beside the folders belong to the patient _root), or single files of one --patient.

    Given again after an interruption, the command goes on where it was; given again for a finished
    archive, it processes nothing.
    """
    from cli.work import Work, bring_to_end
    from pipeline.bundle import find_bundle, read_latent_map, read_model_record
    from pipeline.results import AnalysisOptions
    from worker.manifest import freeze
    from worker.runs import set_priority, uncancel
    from worker.settings import load_settings
    from worker.store import open_store

    settings = load_settings(broker_url=broker, bundle=bundle, processes=processes)
    directory = find_bundle(settings.bundle).resolve()
    model = read_model_record(directory)
    planned = make_plan(paths, out=out, patient=patient, patients=patients, pattern=patient_pattern)
    for note in planned.notes:
        click.echo(f"Note: {note}", err=True)
    store = open_store(str(out), create=True)
    check_case(out, planned)
    left_out = note_erased(store, planned)
    run = freeze(
        store,
        (row for row in planned.rows() if row.patient not in left_out),
        root=planned.root.as_uri(),
        bundle=str(directory),
        model=model,
        options=AnalysisOptions.model_validate({"explain": explain, **lime}),
        ignored=planned.ignored,
        latent_map=read_latent_map(directory),
        pseudonymise=pseudonymise,
    )
    note_space(store, run, out, planned.notes)
    uncancel(store, run)
    set_priority(store, run, priority)
    if no_wait:
        _hand_over(run, out, planned.notes, as_json=as_json)
        return
    work = Work(store, run, out, settings, reference_images, as_json, planned.notes)
    context.exit(bring_to_end(work))


def _hand_over(run: RunRecord, out: Path | Place, notes: list[str], *, as_json: bool) -> None:
    """Say what was submitted, and who is to work at it."""
    if as_json:
        print_json(
            {
                "run_id": run.run_id,
                "out": str(out),
                "images": run.images,
                "patients": run.patients,
                "ignored": run.ignored,
                "notes": notes,
            }
        )
        return
    click.echo(
        f"Run {run.run_id}: {run.images} images of {run.patients} patients are waiting. "
        f"`screen feed --out {out}` works at them, `screen status --out {out}` tells how far it is."
    )


def make_plan(
    paths: tuple[Path | Place, ...],
    *,
    out: Path | Place,
    patient: str | None,
    patients: Path | None,
    pattern: str | None,
) -> Plan:
    """List what was submitted: one folder, or the files of one patient."""
    from pipeline.errors import ConfigurationError
    from worker.planning import plan, plan_files

    buckets = [path for path in paths if isinstance(path, Place)]
    if buckets and len(paths) > 1:
        raise ConfigurationError(
            f"{buckets[0]} is one of several places: submit one folder or one s3://bucket/prefix"
        )
    if len(paths) == 1 and (isinstance(paths[0], Place) or not paths[0].is_file()):
        return plan(paths[0], patients=patients, pattern=pattern, patient=patient, leave_out=out)
    files = [path for path in paths if isinstance(path, Path)]
    folders = [path for path in files if path.is_dir()]
    if folders:
        raise ConfigurationError(
            f"{folders[0]} is one of several paths and a folder: submit the one folder that "
            "contains all patients' folders, or single files of one --patient"
        )
    if patients is not None or pattern is not None:
        raise ConfigurationError(
            "--patients and --patient-pattern are for a folder; single files need --patient"
        )
    if patient is None:
        raise ConfigurationError(
            f"{paths[0]} is a single file: say whose it is with --patient, or submit its folder"
        )
    return plan_files(files, patient)


def note_erased(store: Store, planned: Plan) -> set[str]:
    """Patients that were erased from these reports, which are not taken in again by themselves."""
    from worker.erased import kept_out
    from worker.patients import some_of

    found = kept_out(store, set(planned.patients))
    if found:
        planned.notes.append(
            f"{len(found)} patients were erased from these reports and are left out: "
            f"{some_of(sorted(found))}; `screen erase PATIENT --readmit` lets one in again"
        )
        click.echo(f"Note: {planned.notes[-1]}", err=True)
    return found


def note_space(store: Store, run: RunRecord, out: Path | Place, notes: list[str]) -> None:
    """Say so where the results will not fit; a full disk pauses a run and loses nothing."""
    from worker.runs import progress
    from worker.space import estimate

    if not isinstance(out, Path):
        return
    space = estimate(progress(store, run).remaining, run.options.explain, out)
    if not space.fits:
        notes.append(f"the results will not fit into {out}: {space}; make room while it runs")
        click.echo(f"Note: {notes[-1]}", err=True)


def check_case(out: Path | Place, planned: Plan) -> None:
    """Refuse patients whose reports would overwrite each other on a Windows share."""
    from pipeline.errors import ConfigurationError
    from pipeline.report import case_conflicts

    # The store is there, under this name; under the other only where case does not count.
    if not isinstance(out, Path) or not (out / "STORE").exists():
        return
    conflicts = case_conflicts(set(planned.patients))
    if conflicts:
        names = ", ".join(repr(name) for name in conflicts[0])
        raise ConfigurationError(
            f"{out} does not tell upper from lower case, so that the reports of {names} would "
            "overwrite each other: choose an --out on another file system"
        )
