"""``screen explain`` with the shipped model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.explain import LAYERS, MAP
from pipeline.explain.pictures import GAP
from pipeline.samples import write_samples


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, patients=1, fields=1, seed=2025)
    return next(folder.glob("*/*.png"))


def screen(*arguments: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which may choose TensorFlow's threads."""
    command = [sys.executable, "-m", "cli.main", "explain", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)


def test_an_image_is_explained_with_a_picture_for_each_explanation(
    image: Path, tmp_path: Path
) -> None:
    result = screen(image, "--out", tmp_path / "why", "--lime-samples", 200)
    assert result.returncode == 0, result.stderr
    assert "oneDNN" not in result.stderr
    for words in ("LIME: 200 samples", "Score-CAM", "not a diagnosis"):
        assert words in result.stdout
    for name in LAYERS:
        with Image.open(tmp_path / "why" / f"{name}.png") as picture:
            assert max(picture.size) == 900
            # The field's own proportions, not the square the network is shown.
            assert picture.size[0] > picture.size[1]


def test_json_names_the_pictures(image: Path, tmp_path: Path) -> None:
    options = ("--lime-samples", 200, "--lime-superpixels", "slic", "--lime-hidden", "black")
    result = screen(image, "--out", tmp_path / "why", *options, "--json")
    answer = json.loads(result.stdout)
    assert answer["explanations"]["lime"]["samples"] == 200
    assert [Path(path).stem for path in answer["pictures"]] == [*LAYERS, *MAP]
    assert len(answer["map_position"]["neighbours"]) == 5


def test_references_at_hand_show_what_makes_them_similar(image: Path, tmp_path: Path) -> None:
    plain = screen(image, "--out", tmp_path / "first", "--lime-samples", 50, "--json")
    nearest = [one["id"] for one in json.loads(plain.stdout)["explanations"]["similarity"]]
    pictures = tmp_path / "references"
    file = pictures / f"{nearest[0]}.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(image.read_bytes())
    unreadable = pictures / f"{nearest[1]}.png"
    unreadable.parent.mkdir(parents=True, exist_ok=True)
    unreadable.write_bytes(b"no image")
    options = ("--lime-samples", 50, "--reference-images", pictures)
    result = screen(image, "--out", tmp_path / "why", *options)
    assert result.returncode == 0, result.stderr
    assert f"Metric-Grad-CAM: the image, and the reference {nearest[0]}" in result.stdout
    broken = f"Note: the reference {nearest[1]} in {pictures}: the content is no image"
    assert broken in result.stderr
    for missing in nearest[2:]:
        assert f"Note: the reference {missing} is not in {pictures}" in result.stderr
    with Image.open(tmp_path / "why" / "similarity_1.png") as both:
        # The image itself stands in for the reference: both sides show the same field.
        side = (both.width - GAP) // 2
        left, right = (
            np.asarray(both.convert("L").crop((start, 0, start + side, both.height)), float)
            for start in (0, side + GAP)
        )
    assert np.corrcoef(left.ravel(), right.ravel())[0, 1] > 0.8


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_bytes(b"no image")
    result = screen(tmp_path / "notes.jpg")
    assert result.returncode == 1
    assert "notes.jpg: the content is no image" in result.stderr
