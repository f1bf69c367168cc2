"""``screen audit`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import cli
from pipeline.results import AnalysisOptions
from tests.pipeline.evaluation.smears import (
    bundle_of,
    explained,
    looks_at_background,
    write_smears,
)
from tests.pipeline.evaluation.test_audit import table_of


@pytest.fixture(scope="module")
def smears(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_smears(tmp_path_factory.mktemp("smears"), 1)


@pytest.fixture
def screen(smears: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command with a model that looks at the background."""

    def open_analyser(_: str, options: AnalysisOptions) -> Any:
        return looks_at_background if options.explain == "none" else explained

    monkeypatch.setattr("pipeline.analyse.open_analyser", open_analyser)
    monkeypatch.setattr("pipeline.bundle.load_bundle", lambda _: bundle_of())
    table = table_of(smears, tmp_path)

    def call(*arguments: str) -> Result:
        fixed = ["--data", smears, "--splits", table, "--test-fold", "0", "--out", tmp_path / "out"]
        words = ["audit", *(str(one) for one in fixed), *arguments]
        return CliRunner().invoke(cli, words, catch_exceptions=False)

    return call


def test_every_verdict_is_a_line_and_progress_stays_apart(screen: Any, tmp_path: Path) -> None:
    result = screen("--changes", "bar_erased, mirror")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "UNKNOWN white cells erased: not measured"
    assert lines[3].startswith("UNKNOWN scale bar: 0.0% of decisions change")
    assert lines[-1] == f"All figures: {tmp_path / 'out' / 'AUDIT.md'}"
    assert "8 of 8 judgements" in result.stderr
    assert screen("--explained", "0", "--changes", "mirror").exit_code == 0


def test_strict_fails_where_a_verdict_does(screen: Any) -> None:
    arguments = ("--changes", "white_cells_flat", "--limit", "2")
    assert screen(*arguments).exit_code == 0
    strict = screen(*arguments, "--strict")
    assert "FAIL white cells badly erased: 100.0%" in strict.stdout
    assert strict.exit_code == 3


def test_json_is_the_report(screen: Any) -> None:
    answer = json.loads(screen("--changes", "mirror", "--json").stdout)
    assert answer["model"]["name"] == "stub"
    assert answer["images"] == {"benign": 1, "early_b": 1, "pre_b": 0, "pro_b": 0}
    assert answer["explanations"]["doubted"]["n"] == 2


def test_a_wrong_change_is_said_before_the_model_is_loaded(screen: Any) -> None:
    result = screen("--changes", "erase_everything")
    assert result.exit_code == 1
    assert "no change is called erase_everything" in result.stderr
    assert "white_cells_erased" in result.stderr
