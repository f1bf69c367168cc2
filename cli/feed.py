"""``screen feed``."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from cli.options import (
    DEFAULT_OUT,
    PlaceType,
    broker_option,
    bundle_option,
    log_format_option,
    log_level_option,
    processes_option,
    reference_images_option,
)
from worker.place import Place


@click.command(
    epilog="""\b
Examples:
  screen feed --out /data/reports
  screen submit ./slides/ --no-wait && screen feed --until-done
"""
)
@click.option(
    "--out",
    "outs",
    multiple=True,
    default=[DEFAULT_OUT],
    show_default=True,
    envvar="SCREEN_OUT",
    show_envvar=True,
    type=PlaceType(file_okay=False),
    metavar="DIRECTORY",
    help="Folder of reports whose runs are brought to their end; may be given more than once.",
)
@bundle_option
@broker_option
@processes_option
@reference_images_option
@click.option("--until-done", is_flag=True, help="End when no run is left to do.")
@log_level_option
@log_format_option
def feed(
    outs: tuple[Path | Place, ...],
    bundle: Path | None,
    broker: str | None,
    processes: int | None,
    reference_images: Path | None,
    until_done: bool,
    log_level: str,
    log_format: str | None,
) -> None:
    """Bring all runs to their end that were submitted with --no-wait, or interrupted.

    Until it is told to stop: a service that nobody has to watch. Runs share the workers by
    priority, and their reports are written as each is finished. Any number may run at once, and
    killing one loses nothing.
    """
    from worker import logs
    from worker.feed import feed as feed_runs
    from worker.observe import observed_feeder
    from worker.settings import load_settings

    settings = load_settings(
        broker_url=broker, bundle=bundle, processes=processes, log_format=log_format
    )
    logs.configure(settings.log_format, log_level.upper())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with observed_feeder(settings):
        feed_runs(
            outs, settings, stop=stop, until_done=until_done, reference_images=reference_images
        )
