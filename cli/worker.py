"""``screen worker``."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import (
    PlaceType,
    broker_option,
    bundle_option,
    log_format_option,
    log_level_option,
    processes_option,
)
from worker.place import Place


@click.command(
    epilog="Example: SCREEN_BROKER_URL=redis://server:6379/0 screen worker --processes 8"
)
@broker_option
@bundle_option
@processes_option
@click.option(
    "--feed",
    "outs",
    multiple=True,
    envvar="SCREEN_FEED",
    show_envvar=True,
    type=PlaceType(file_okay=False),
    metavar="DIRECTORY",
    help="Also do the work of `screen feed` for this folder of reports, unless another does; may "
    "be given more than once.",
)
@log_level_option
@log_format_option
@click.pass_context
def worker(
    context: click.Context,
    broker: str | None,
    bundle: Path | None,
    processes: int | None,
    outs: tuple[Path | Place, ...],
    log_level: str,
    log_format: str | None,
) -> None:
    """Work at images that others submit.

    Until it is told to stop. Needs a Redis broker, and must see the archive and the folder of the
    reports under the same paths as the machine that submits. Start as many as you like, at any
    time, on any machine; stopping one (Ctrl-C, or kill) loses nothing.
    """
    from worker.celery_app import run_worker
    from worker.settings import load_settings

    settings = load_settings(
        broker_url=broker, bundle=bundle, processes=processes, log_format=log_format
    )
    context.exit(run_worker(settings, outs=outs, log_level=log_level.upper()))
