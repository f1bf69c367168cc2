"""``screen samples`` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.samples import samples
from pipeline.errors import ConfigurationError


def test_samples_are_written_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    result = CliRunner().invoke(samples, [str(folder), "--patients", "1", "--fields", "1"])
    assert result.exit_code == 0
    assert "1 synthetic fields of 1 patients" in result.output
    assert str(folder) in result.output
    assert (folder / "S-001" / "field-01.png").exists()


def test_json_names_every_image(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "s"), "--patients", "2", "--fields", "1", "--seed", "4", "--json"]
    result = CliRunner().invoke(samples, arguments)
    answer = json.loads(result.output)
    assert answer["images"] == ["S-001/field-01.png", "S-002/field-01.png"]
    assert answer["patients"] == 2
    assert answer["white_cells"] > 0
    assert answer["directory"] == str(tmp_path / "s")


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slide.jpg").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="holds no samples"):
        CliRunner().invoke(samples, [str(tmp_path)], catch_exceptions=False)


def test_numbers_out_of_range_are_refused_as_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(samples, [str(tmp_path / "s"), "--patients", "0"])
    assert result.exit_code == 2
    assert not (tmp_path / "s").exists()


def test_help_shows_an_example_and_every_option() -> None:
    text = CliRunner().invoke(samples, ["--help"]).output
    for word in ("Example: screen samples", "--patients", "--fields", "--seed", "--json"):
        assert word in text


def test_importing_the_command_imports_nothing_heavy() -> None:
    heavy = "{'numpy', 'cv2', 'PIL', 'tensorflow', 'skimage'}"
    program = f"import sys, cli.samples; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
