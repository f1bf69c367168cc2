"""``screen explain`` with the shipped model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from cli.explain import LAYERS, explain
from pipeline.samples import write_samples


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, patients=1, fields=1, seed=2025)
    return next(folder.glob("*/*.png"))


def test_an_image_is_explained_with_a_picture_for_each_explanation(
    image: Path, tmp_path: Path
) -> None:
    arguments = [str(image), "--out", str(tmp_path / "why"), "--samples", "200"]
    result = CliRunner().invoke(explain, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for words in ("LIME: 200 samples", "Score-CAM", "not a diagnosis"):
        assert words in result.output
    for name in LAYERS:
        with Image.open(tmp_path / "why" / f"{name}.png") as picture:
            assert max(picture.size) == 900
            # The field's own proportions, not the square the network is shown.
            assert picture.size[0] > picture.size[1]

    again = CliRunner().invoke(explain, [*arguments, "--json"], catch_exceptions=False)
    answer = json.loads(again.stdout)
    assert answer["explanations"]["lime"]["samples"] == 200
    assert [Path(path).stem for path in answer["pictures"]] == list(LAYERS)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    from cli.main import cli

    (tmp_path / "notes.jpg").write_bytes(b"no image")
    result = CliRunner().invoke(cli, ["explain", str(tmp_path / "notes.jpg")])
    assert result.exit_code == 1
    assert "notes.jpg: the content is no image" in result.output
