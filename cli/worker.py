"""``screen worker``."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import broker_option, bundle_option, processes_option


@click.command(
    epilog="Example: SCREEN_BROKER_URL=redis://server:6379/0 screen worker --processes 8"
)
@broker_option
@bundle_option
@processes_option
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
    help="How much to say. Names of patients and files are never logged.",
)
@click.pass_context
def worker(
    context: click.Context,
    broker: str | None,
    bundle: Path | None,
    processes: int | None,
    log_level: str,
) -> None:
    """Work at images that others submit.

    Until it is told to stop. Needs a Redis broker, and must see the archive and the folder of the
    reports under the same paths as the machine that submits. Start as many as you like, at any
    time, on any machine; stopping one (Ctrl-C, or kill) loses nothing.
    """
    from worker.celery_app import run_worker
    from worker.settings import load_settings

    settings = load_settings(broker_url=broker, bundle=bundle, processes=processes)
    context.exit(run_worker(settings, log_level=log_level.upper()))
