"""The command as a whole: fast help, one way to report errors, exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.metadata import entry_points, version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import cli.main
from cli.main import COMMANDS
from pipeline.errors import ConfigurationError, RetryableError

REPOSITORY = Path(__file__).resolve().parents[2]

HEAVY = ("tensorflow", "keras", "boto3", "celery", "skimage", "sklearn", "cv2", "lime", "redis")

#: Calls the command and prints which heavy libraries were imported on the way.
PROBE = f"""
import sys
from cli.main import main
try:
    main()
except SystemExit as ending:
    assert not ending.code, ending.code
finally:
    print("LOADED", sorted(set(sys.modules) & set({HEAVY!r})))
"""


def probe(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    return done.stdout


def test_help_is_fast() -> None:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        probe("--help")
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_no_heavy_library(arguments: list[str]) -> None:
    output = probe(*arguments)
    assert "Usage:" in output
    assert output.rstrip().endswith("LOADED []")


@pytest.mark.parametrize("name", ["screen", "smear-screen"])
def test_the_command_is_installed_under_both_names(name: str) -> None:
    [entry] = entry_points(group="console_scripts", name=name)
    assert entry.load() is cli.main.main


def test_the_package_cli_is_ours() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import cli, cli.main; print(cli.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert Path(done.stdout.strip()) == REPOSITORY / "cli" / "__init__.py"


def test_version() -> None:
    result = CliRunner().invoke(cli.main.cli, ["--version"])
    assert result.output == f"screen, version {version('smear-screen')}\n"


def test_an_unknown_command_is_wrong_usage() -> None:
    result = CliRunner().invoke(cli.main.cli, ["sbumit"])
    assert result.exit_code == 2
    assert "No such command" in result.stderr


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command ``fail`` that raises what the test puts into the list."""
    raised: list[BaseException] = []

    @click.command()
    @cli.options.json_option
    def fail(as_json: bool) -> None:
        """Fail."""
        raise raised[0]

    monkeypatch.setattr(sys.modules["cli"], "failing", fail, raising=False)
    monkeypatch.setitem(COMMANDS, "fail", "cli:failing")
    return raised


def test_an_error_on_purpose_says_what_to_do_and_exits_with_1(failing: list[BaseException]) -> None:
    failing.append(ConfigurationError("slides is not there; check the path"))
    result = CliRunner().invoke(cli.main.cli, ["fail"])
    assert result.exit_code == 1
    assert result.stderr == "Error: slides is not there; check the path\n"
    assert not result.stdout


def test_a_passing_fault_says_that_trying_again_helps(failing: list[BaseException]) -> None:
    failing.append(RetryableError("the disk is full"))
    result = CliRunner().invoke(cli.main.cli, ["fail"])
    assert result.exit_code == 1
    assert "the same command goes on" in result.stderr


def test_programs_get_errors_as_json(failing: list[BaseException]) -> None:
    failing.append(ConfigurationError("Größe\n"))
    result = CliRunner().invoke(cli.main.cli, ["fail", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"error": {"kind": "configuration", "message": "Größe\n"}}
    assert result.stdout.isascii()


def test_wrong_usage_is_json_too(failing: list[BaseException]) -> None:
    failing.append(click.UsageError("no such thing"))
    result = CliRunner().invoke(cli.main.cli, ["fail", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["kind"] == "usage"


def test_ctrl_c_exits_with_130(failing: list[BaseException]) -> None:
    failing.append(KeyboardInterrupt())
    result = CliRunner().invoke(cli.main.cli, ["fail"])
    assert result.exit_code == 130
    assert "stopped" in result.stderr


def test_a_fault_of_the_software_is_not_dressed_up(failing: list[BaseException]) -> None:
    failing.append(ZeroDivisionError("a bug"))
    result = CliRunner().invoke(cli.main.cli, ["fail"])
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


def test_names_that_the_terminal_cannot_show_do_not_end_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "submit", "/nowhere/患者"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
        cwd=REPOSITORY,
        check=False,
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
