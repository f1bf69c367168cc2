"""``screen doctor``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options import json_option, out_option
from cli.output import COULD_NOT_WORK, DONE, print_json
from worker.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.checks import Check
    from worker.settings import Settings

_COLOURS = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}


@click.command(epilog="Examples: screen doctor; screen doctor --out /mnt/share/reports --json")
@out_option
@json_option
@click.pass_context
def doctor(context: click.Context, out: Path | Place, as_json: bool) -> None:
    """Check whether this machine can work.

    Looks at Python and the installed versions, TensorFlow, the model bundle, the folder of the
    reports, the broker, memory, and where each setting came from; says how to mend what is wrong.
    Exits with 1 if a check failed.
    """
    from cli.checks import check_settings, origins

    environment = dict(os.environ)
    settings, verdict = check_settings(environment)
    checks = []
    for check in (verdict, *_checks(settings, out)):
        checks.append(check)
        if not as_json:
            _print(check)
    sources = origins(settings, environment) if settings else {}
    failed = any(check.verdict == "FAIL" for check in checks)
    if as_json:
        print_json(
            {
                "healthy": not failed,
                "checks": [check._asdict() for check in checks],
                "settings": sources,
            }
        )
    else:
        click.echo("\nSettings:")
        for name, source in sources.items():
            click.echo(f"  {name:<36}{source['value'] or '(none)'}  ({source['from']})")
    context.exit(COULD_NOT_WORK if failed else DONE)


def _checks(settings: Settings | None, out: Path | Place) -> Iterator[Check]:
    from cli import checks

    yield checks.check_python()
    yield checks.check_versions()
    yield checks.check_tensorflow()
    yield from checks.check_store(out)
    if settings is not None:
        yield checks.check_bundle(settings)
        yield checks.check_broker(settings)
        yield checks.check_roots(settings)
        yield checks.check_machine(settings)


def _print(check: Check) -> None:
    verdict = click.style(check.verdict, fg=_COLOURS[check.verdict], bold=True)
    click.echo(f"{verdict}  {check.name:<11} {check.seen}")
    if check.mend:
        click.echo(f"      {'':<11} mend: {check.mend}")
