"""Calling the command line, in this process or in a fresh one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import cli
from tests.cli.analysers import write_bundle_record

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Screen:
    """The command ``screen`` with a bundle, in a folder with an archive and reports."""

    folder: Path
    analyser: str = "tests.cli.analysers:Judging"

    @property
    def slides(self) -> Path:
        return self.folder / "slides"

    @property
    def out(self) -> Path:
        return self.folder / "reports"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    def environment(self) -> dict[str, str]:
        paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
        return {
            "PYTHONPATH": paths,
            "SCREEN_OUT": str(self.out),
            "SCREEN_BUNDLE": str(self.bundle),
            "SCREEN_ANALYSER": self.analyser,
            "SCREEN_PROCESSES": "1",
            "SCREEN_RECONCILE_SECONDS": "0.5",
        }

    def add(self, *names: str) -> None:
        for name in names:
            path = self.slides / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"image {name}")

    def __call__(self, *arguments: str | Path) -> Result:
        """In this process; an unexpected exception fails the test."""
        runner = CliRunner(env=self.environment())
        return runner.invoke(cli, [str(one) for one in arguments], catch_exceptions=False)

    def json(self, *arguments: str | Path, status: int = 0) -> Any:
        result = self(*arguments, "--json")
        assert result.exit_code == status, result.output
        return json.loads(result.stdout)

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        """In a fresh process."""
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", *(str(one) for one in arguments)],
            env={**os.environ, **self.environment(), **options.pop("env", {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **{"cwd": REPOSITORY, **options},
        )

    def computed(self) -> int:
        """Images the analyser was called with."""
        file = self.bundle / "computed"
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def screen(tmp_path: Path) -> Screen:
    made = Screen(tmp_path)
    made.slides.mkdir()
    write_bundle_record(made.bundle)
    return made
