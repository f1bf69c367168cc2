"""``screen evaluate`` on the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from cli import evaluate as module
from cli.main import cli
from tests.pipeline.evaluation.labelled_folders import write_folder


def screen(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    root = tmp_path_factory.mktemp("labelled")
    write_folder(root, per_class=6)
    return root


def test_a_baseline_is_evaluated_and_its_figures_are_said(labelled, tmp_path):
    arguments = ("--data", labelled, "--out", tmp_path / "out", "--recipe", "nearest-colour")
    result = screen(*arguments, "--protocol", "random", "--resamples", 100)
    assert result.exit_code == 0, result.output
    assert "accuracy, four classes" in result.stdout
    assert "EVALUATION.md" in result.stdout
    found = screen(*arguments, "--protocol", "random", "--resamples", 100, "--json")
    evaluation = json.loads(found.stdout)
    assert evaluation["images"] == 24
    assert evaluation["model"]["recipe"] == "nearest-colour"
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written["split"]["protocol"] == "random"


def test_a_bundle_and_a_recipe_are_one_too_many(labelled, tmp_path):
    result = screen("--data", labelled, "--out", tmp_path, "--recipe", "x", "--bundle", tmp_path)
    assert result.exit_code == 2 and "not both" in result.output


def test_folds_are_numbers(labelled, tmp_path):
    result = screen("--data", labelled, "--out", tmp_path, "--folds", "one")
    assert result.exit_code == 2 and "0,1,2" in result.output


def test_what_cannot_be_done_is_said_as_json_too(labelled, tmp_path):
    result = screen(
        "--data", labelled, "--out", tmp_path, "--recipe", "majority", "--protocol", "elsewhere",
        "--json",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "learn from" in json.loads(result.stdout)["error"]["message"]


def test_the_choices_are_those_of_the_pipeline():
    from pipeline.evaluation.examples import TRUTHS
    from pipeline.evaluation.protocols import PROTOCOLS

    assert tuple(PROTOCOLS) == module.PROTOCOLS
    assert tuple(TRUTHS) == module.TRUTHS
