"""``screen watch``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.options import (
    PlaceType,
    bundle_option,
    explain_option,
    lime_options,
    log_format_option,
    log_level_option,
    out_option,
    pseudonymise_option,
)
from worker.place import Place


@click.command(
    epilog="""\b
Examples:
  screen watch ./incoming/ --out ./reports
  screen watch s3://laboratory/incoming --out s3://laboratory/reports --quiet 1800
"""
)
@click.argument("source", type=PlaceType(file_okay=False), metavar="SOURCE")
@out_option
@bundle_option
@click.option(
    "--patients",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="CSV",
    help="As for `screen submit`.",
)
@click.option("--patient-pattern", metavar="RE", help="As for `screen submit`.")
@explain_option
@lime_options
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks at everything that is there.",
)
@click.option(
    "--still",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="A patient whose folder says that all images are there (_complete, _manifest.csv) is "
    "taken once nothing has changed for so long.",
)
@click.option(
    "--quiet",
    type=click.FloatRange(min=0),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="Any other patient is taken once nothing has changed for so long.",
)
@click.option(
    "--queue",
    metavar="URL",
    help="SQS queue of the bucket's events: look as soon as something is told of.",
)
@pseudonymise_option
@click.option(
    "--when-reported",
    type=click.Choice(["tag", "move"]),
    help="What to do with images whose report is published: add the tags screen=reported and "
    "screen-run=ID (buckets), or move them to --move-to. Without it they are left alone; those "
    "that failed always are.",
)
@click.option(
    "--move-to",
    type=PlaceType(file_okay=False),
    metavar="PLACE",
    help="Folder, or s3://bucket/prefix, to which images are moved; nothing there is replaced.",
)
@click.option("--other-bucket", is_flag=True, help="Allow --move-to in another bucket.")
@log_level_option
@log_format_option
def watch(
    source: Path | Place,
    out: Path | Place,
    bundle: Path | None,
    patients: Path | None,
    patient_pattern: str | None,
    explain: str,
    lime: dict[str, Any],
    every: float,
    still: float,
    quiet: float,
    queue: str | None,
    pseudonymise: bool,
    when_reported: str | None,
    move_to: Path | Place | None,
    other_bucket: bool,
    log_level: str,
    log_format: str | None,
) -> None:
    """Submit what arrives in a folder or bucket, patient by patient.

    Until it is told to stop; `screen feed`, or a worker with --feed, does the work. Everything that
    is there is looked at again and again, so that nothing is missed that came while nobody watched.
    Nothing in SOURCE is changed unless --when-reported asks for it.
    """
    from pipeline.bundle import find_bundle, read_latent_map, read_model_record
    from pipeline.results import AnalysisOptions
    from worker import logs
    from worker.observe import observed_watcher
    from worker.planning import Plan, plan
    from worker.settings import load_settings
    from worker.store import open_store
    from worker.watch import Waits, Watcher
    from worker.watch import watch as watch_source

    if when_reported == "move" and patients is not None:
        raise click.UsageError("--patients names files where they are: it excludes moving them")
    if when_reported is None and (move_to is not None or other_bucket):
        raise click.UsageError("--move-to and --other-bucket are for --when-reported move")
    settings = load_settings(bundle=bundle, log_format=log_format)
    logs.configure(settings.log_format, log_level.upper())
    directory = find_bundle(settings.bundle).resolve()
    source = source.resolve() if isinstance(source, Path) else source
    store = open_store(str(out), create=True)
    watcher = Watcher(
        source,
        store,
        model=read_model_record(directory),
        bundle=str(directory),
        options=AnalysisOptions.model_validate({"explain": explain, **lime}),
        waits=Waits(still, quiet),
        latent_map=read_latent_map(directory),
        pseudonymise=pseudonymise,
    )
    clearance = None
    if when_reported is not None:
        from worker.finished import Clearance, open_handling

        handling = open_handling(when_reported, source, out, move_to, across=other_bucket)
        clearance = Clearance(source, store, handling)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pause: Callable[[float], object] = stop.wait
    if queue is not None:
        from worker.notifications import Notifications

        pause = Notifications(queue, stop).wait

    def list_source() -> Plan:
        return plan(source, patients=patients, pattern=patient_pattern, leave_out=out)

    with observed_watcher(settings) as rounds:
        watch_source(
            source,
            store,
            watcher,
            list_source,
            every_seconds=every,
            pause=pause,
            stop=stop,
            clearance=clearance,
            rounds=rounds,
        )
