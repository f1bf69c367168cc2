"""The ``screen`` command. Commands are loaded when they are called, heavy libraries later still."""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any

import click

from cli.options import wants_json
from cli.output import FailedError, StoppedError, WrongUsageError
from pipeline.errors import ScreenError

#: Where each command lives, in the order of the help.
COMMANDS = {
    "submit": "cli.submit:submit",
    "status": "cli.status:status",
    "runs": "cli.runs:runs",
    "show": "cli.show:show",
    "identify": "cli.identify:identify",
    "explain": "cli.explain:explain",
    "resume": "cli.runs:resume",
    "retry": "cli.runs:retry",
    "cancel": "cli.runs:cancel",
    "purge": "cli.purge:purge",
    "erase": "cli.erase:erase",
    "feed": "cli.feed:feed",
    "watch": "cli.watch:watch",
    "worker": "cli.worker:worker",
    "health": "cli.health:health",
    "doctor": "cli.doctor:doctor",
    "samples": "cli.samples:samples",
    "schema": "cli.schema:schema",
    "train": "cli.train:train",
    "recipes": "cli.recipes:recipes",
    "evaluate": "cli.evaluate:evaluate",
    "audit": "cli.audit:audit",
    "references": "cli.references:references",
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is asked for; reports errors alike for all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what went wrong is said in one way, and as JSON to programs."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if wants_json(ctx):
                raise WrongUsageError(error) from error
            raise
        except ScreenError as error:
            raise FailedError.of(error, as_json=wants_json(ctx)) from error
        except KeyboardInterrupt as error:
            raise StoppedError("stopped", as_json=wants_json(ctx)) from error


@click.group(
    cls=LazyGroup,
    epilog="A run that was interrupted, by whatever, goes on when the same `screen submit` is "
    "given again. Exit status: 0 everything done, 1 the command could not do its work, 2 wrong "
    "usage, 3 finished but some images failed.",
)
@click.version_option(package_name="smear-screen", prog_name="screen")
def cli() -> None:
    """Screen images of peripheral blood smears for acute lymphoblastic leukaemia.

    One report per patient, with the reasons for every decision. Research use only; not a diagnosis.

    \b
    screen submit ./slides/ --out ./reports     screen an archive, one folder per patient
    screen status                               how far it is
    screen show P-17                            what was found
    """


def main() -> None:
    """Entry point of ``screen`` and ``smear-screen``."""
    for stream in (sys.stdout, sys.stderr):
        # A file name may hold what the terminal cannot show; that must not end a run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    cli()


if __name__ == "__main__":
    main()
