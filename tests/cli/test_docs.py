"""Help and documentation cover every command and every option."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.main import COMMANDS, cli

DOCS = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command


def section(name: str) -> str:
    """The part of the page under the command's heading."""
    text = DOCS.read_text("utf-8")
    match = re.search(rf"^## screen {name}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert match, f"docs/cli.md has no section '## screen {name}'"
    return match[1]


def parameters(command: click.Command) -> Iterator[click.Parameter]:
    """Of the command and of the commands in its group."""
    yield from command.params
    if isinstance(command, click.Group):
        for part in command.commands.values():
            yield from parameters(part)


def options() -> list[tuple[str, click.Option]]:
    return [
        (name, parameter)
        for name, command in commands()
        for parameter in parameters(command)
        if isinstance(parameter, click.Option)
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_an_example_and_a_section(name: str) -> None:
    command = dict(commands())[name]
    assert command.help and len(command.help) > 20
    assert "Example" in (command.epilog or "")
    assert f"screen {name}" in (command.epilog or "")
    assert section(name).strip()
    for part, inner in getattr(command, "commands", {}).items():
        assert inner.help and len(inner.help) > 20
        assert f"Example: screen {name} {part}" in (inner.epilog or "")
        assert f"screen {name} {part}" in section(name)


@pytest.mark.parametrize(
    ("name", "option"), [pytest.param(*one, id=f"{one[0]} {one[1].opts[-1]}") for one in options()]
)
def test_every_option_has_help_and_is_documented(name: str, option: click.Option) -> None:
    assert option.help and len(option.help) > 10
    for spelling in option.opts:
        assert f"`{spelling}" in section(name), f"docs/cli.md: screen {name} lacks {spelling}"


def test_the_page_documents_nothing_that_is_gone() -> None:
    text = DOCS.read_text("utf-8")
    assert re.findall(r"^## screen (\S+)$", text, re.MULTILINE) == list(COMMANDS)
    for name, command in commands():
        known = {spelling for parameter in parameters(command) for spelling in parameter.opts}
        documented = set(re.findall(r"^\| `(--[a-z0-9-]+)", section(name), re.MULTILINE))
        assert documented <= known, f"screen {name} has no {documented - known}"


def test_the_page_has_the_answer_of_every_exit_status() -> None:
    text = DOCS.read_text("utf-8")
    for status in (0, 1, 2, 3, 130):
        assert f"| {status} |" in text
