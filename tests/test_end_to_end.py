"""The whole program with the shipped network on synthetic smears, from the command line."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from PIL import Image

from benchmarks.rig.redis_server import RedisServer
from pipeline.bundle import load_bundle
from pipeline.report import report_schema
from pipeline.samples import write_samples
from pipeline.training.data import read_folds


def screen(
    *arguments: str | Path, seconds: float = 280, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


def report_bytes(out: Path) -> dict[str, bytes]:
    paths = [*sorted(out.glob("patients/*/report.json")), out / "summary.csv"]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two synthetic patients with two fields each."""
    directory = tmp_path_factory.mktemp("end-to-end") / "slides"
    write_samples(directory, patients=2, fields=2, seed=7)
    return directory


@pytest.fixture(scope="module")
def reports(slides: Path) -> Path:
    """Reports of ``slides``, without explanations, by two local processes."""
    out = slides.parent / "reports"
    result = screen("submit", slides, "--out", out, "--explain", "none", "--processes", "2")
    assert result.returncode == 0, result.stderr
    return out


def test_every_patient_has_a_valid_report_that_says_it_is_synthetic(slides, reports):
    written = sorted(reports.glob("patients/*/report.json"))
    assert len(written) == 2
    for path in written:
        report = json.loads(path.read_bytes())
        jsonschema.validate(report, report_schema())
        assert report["synthetic"]
        assert "not a diagnosis" in report["disclaimer"]
        assert report["counts"]["ok"] == report["counts"]["images"] == 2
        for image in report["images"]:
            assert image["geometry"]["method"] == "whole_field"
            assert image["cells"]
            assert sum(image["probabilities"].values()) == pytest.approx(1, abs=1e-5)
            assert len(image["confidence"]["neighbours"]) == 5
        page = path.with_name("report.html").read_text(encoding="utf-8")
        assert report["patient"] in page
    assert (reports / "index.html").exists()


def test_one_process_gives_the_same_bytes_as_two(slides, reports, tmp_path):
    out = tmp_path / "reports"
    result = screen("submit", slides, "--out", out, "--explain", "none", "--processes", "1")
    assert result.returncode == 0, result.stderr
    assert report_bytes(out) == report_bytes(reports)


def test_celery_gives_the_same_bytes_as_local_processes(
    slides: Path, reports: Path, redis_server: RedisServer, tmp_path: Path
):
    out = tmp_path / "reports"
    environment = {**os.environ, "SCREEN_BROKER_URL": redis_server.url}
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "worker", "--processes", "2"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        options = ("--out", out, "--explain", "none")
        result = screen("submit", slides, *options, SCREEN_BROKER_URL=redis_server.url)
        assert result.returncode == 0, result.stderr
    finally:
        worker.terminate()
        worker.wait(timeout=60)
    assert report_bytes(out) == report_bytes(reports)
    # Patients are named by folders and files; neither may reach the log.
    assert b"S-00" not in (tmp_path / "worker.log").read_bytes()


@pytest.mark.slow
def test_explanations_are_numbers_and_pictures(slides, tmp_path):
    out = tmp_path / "reports"
    field = next(slides.glob("S-001/*"))
    result = screen("submit", field, "--patient", "P-17", "--out", out)
    assert result.returncode == 0, result.stderr
    report = json.loads((out / "patients/P-17/report.json").read_bytes())
    explanations = report["images"][0]["explanations"]
    assert explanations["lime"]["samples"] == 4000
    assert 1 <= len(explanations["lime"]["top_regions"]) <= 5
    assert len(explanations["grad_cam"]["map"]) == 28
    pictures = sorted(path.name for path in (out / "patients/P-17/pictures").iterdir())
    layers = ["field", "grad_cam", "latent_map", "score_cam", "similarity", "tile", "top_regions"]
    layers += ["weights"]
    assert pictures == [f"001-{name}.png" for name in layers]
    for name in pictures:
        content = (out / "patients/P-17/pictures" / name).read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_published_network_trains_from_the_command_line(
    shared_data: Callable[[str], Path], tmp_path: Path
):
    """Two epochs on every fifth image: a usable bundle, not a good one."""
    data = tmp_path / "data"
    listed = read_folds(shared_data("taleqani"), shared_data("splits/taleqani.csv"))
    for image in listed[::5]:
        folder = data / image.path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / image.path.name).symlink_to(image.path)
    result = screen(
        *("train", "--data", data, "--out", tmp_path / "bundle", "--epochs", "2"),
        *("--calibration-groups", "4"),
        seconds=1700,
    )
    assert result.returncode == 0, result.stderr
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.record.training["test"]["images"] > 100
    assert "accuracy" in bundle.record.tested
