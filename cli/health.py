"""``screen health``."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.output import COULD_NOT_WORK, DONE, duration, print_json


@click.command(epilog="Examples: screen health; screen health --json")
@json_option
@click.pass_context
def health(context: click.Context, as_json: bool) -> None:
    """Check the workers, feeders and watchers on this machine.

    For a container's health check. Exits with 0 if all of this user's are well, with 1 if one takes
    nothing though messages wait (deaf), is at one message for longer than allowed (stuck), has
    stopped saying anything (silent), or if there is none. A broker that is away makes none ill.
    """
    from worker.health import read_health
    from worker.settings import load_settings

    found = read_health(load_settings())
    if as_json:
        print_json(
            {
                "healthy": found.healthy,
                "processes": [beat.model_dump(mode="json") for beat in found.processes],
            }
        )
    else:
        for beat in found.processes:
            verdict = "ok" if beat.healthy else "ILL"
            click.echo(
                f"{verdict}  {beat.role} {beat.process}: {beat.state}, last took or finished "
                f"something {duration(beat.idle_seconds)} ago"
            )
        if not found.processes:
            click.echo("No worker, feeder or watcher of this user runs on this machine.")
    context.exit(DONE if found.healthy else COULD_NOT_WORK)
