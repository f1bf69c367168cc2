from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.rig.laboratory import Laboratory
from pipeline.errors import RetryableError
from pipeline.labels import CLASS_COLOURS
from pipeline.latent_map import LatentMap
from pipeline.latent_picture import MARGIN, SIDE
from pipeline.results import PatientReport
from tests.worker.test_process import work
from worker import finalise, keys, runs
from worker.finalise import write_reports


def finish(laboratory: Laboratory) -> dict[str, bytes]:
    run = work(laboratory)
    write_reports(laboratory.store, run, laboratory.out)
    return laboratory.reports()


def report(laboratory: Laboratory, patient: str) -> PatientReport:
    path = laboratory.out / "patients" / patient / "report.json"
    return PatientReport.model_validate_json(path.read_bytes())


def test_every_image_of_every_patient_is_in_a_report(laboratory: Laboratory) -> None:
    laboratory.fill(3, 4)
    laboratory.add("P01/bad.jpg", "bad 1")
    laboratory.add("P02/copy.jpg", "image 0 0")
    finish(laboratory)
    found = report(laboratory, "P01")
    assert (found.counts.images, found.counts.ok, found.counts.failed) == (5, 4, 1)
    assert [image.source for image in found.images] == [
        *(f"P01/00{number}.jpg" for number in range(4)),
        "P01/bad.jpg",
    ]
    assert found.images[4].error is not None
    assert found.images[4].error.reason == "truncated"
    assert report(laboratory, "P02").counts.images == 5


def test_pages_summary_and_pictures_are_beside_the_reports(laboratory: Laboratory) -> None:
    laboratory.fill(2, 2)
    names = set(finish(laboratory))
    assert names == {
        "index.html",
        "summary.csv",
        *(
            f"patients/P0{patient}/{name}"
            for patient in range(2)
            for name in (
                "report.json",
                "report.html",
                "pictures/001-field.png",
                "pictures/002-field.png",
            )
        ),
    }
    rows = list(csv.DictReader(io.StringIO((laboratory.out / "summary.csv").read_text("utf-8"))))
    assert Counter(row["patient"] for row in rows) == {"P00": 1, "P01": 1}


def test_writing_again_touches_nothing(laboratory: Laboratory) -> None:
    laboratory.fill(2, 2)
    finish(laboratory)
    times = {path: path.stat().st_mtime_ns for path in laboratory.out.rglob("*.*")}
    write_reports(laboratory.store, runs.load_run(laboratory.store), laboratory.out)
    after = {path: path.stat().st_mtime_ns for path in laboratory.out.rglob("*.*")}
    assert after == times


def test_a_patient_who_is_not_complete_has_no_report_yet(laboratory: Laboratory) -> None:
    laboratory.fill(2, 3)
    run = work(laboratory)
    runs.forget_outcome(laboratory.store, run, 4)
    entries = write_reports(laboratory.store, run, laboratory.out)
    assert [entry.patient for entry in entries] == ["P00"]
    assert not (laboratory.out / "patients" / "P01").exists()


def test_pictures_of_images_that_are_gone_are_removed(laboratory: Laboratory) -> None:
    laboratory.fill(1, 3)
    finish(laboratory)
    (laboratory.archive / "P00" / "001.jpg").unlink()
    names = finish(laboratory)
    pictures = [name for name in names if name.endswith(".png")]
    assert pictures == [f"patients/P00/pictures/00{number}-field.png" for number in (1, 2)]
    third = json.loads(names["patients/P00/report.json"])["images"][1]["sha256"]
    assert names["patients/P00/pictures/002-field.png"].endswith(third.encode())


@pytest.mark.parametrize("patient", ["Müller, Jürgen", "line\nbreak", "100% P.1", "x" * 200])
def test_a_patient_of_any_name_has_a_report(laboratory: Laboratory, patient: str) -> None:
    laboratory.add(f"{patient}/a.jpg", "image a")
    finish(laboratory)
    (path,) = (laboratory.out / "patients").glob("*/report.json")
    assert PatientReport.model_validate_json(path.read_bytes()).patient == patient
    assert path.resolve().is_relative_to(laboratory.out.resolve())


def test_a_result_that_was_lost_is_made_again(laboratory: Laboratory) -> None:
    laboratory.fill(1, 3)
    before = finish(laboratory)
    run = runs.load_run(laboratory.store)
    key = next(key for key in laboratory.store.list("results/") if key.endswith("analysis.json"))
    laboratory.store.delete(key)
    with pytest.raises(RetryableError, match="made anew"):
        write_reports(laboratory.store, run, laboratory.out)
    assert runs.progress(laboratory.store, run).remaining == 1
    work(laboratory, run)
    write_reports(laboratory.store, run, laboratory.out)
    assert laboratory.reports() == before


def test_all_images_of_a_run_are_on_one_map_that_needs_no_bundle(laboratory: Laboratory) -> None:
    laboratory.fill(2, 3)
    run = work(laboratory)
    places = np.linspace(0, 1, 40, dtype=np.float32).reshape(-1, 2)
    file = laboratory.folder / "map.npz"
    LatentMap(places, np.zeros(20, np.int8)).save(file)
    laboratory.store.create(keys.latent_map(run), file.read_bytes())
    shutil.rmtree(laboratory.bundle)
    write_reports(laboratory.store, run, laboratory.out)
    before = laboratory.reports()
    picture = laboratory.out / "latent_map.png"
    assert 'href="latent_map.png"' in (laboratory.out / "index.html").read_text()
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    for shown in (*report(laboratory, "P00").images, *report(laboratory, "P01").images):
        at = shown.map_position
        assert at is not None
        assert shown.label is not None
        row, column = (round(MARGIN + value * (SIDE - 2 * MARGIN)) for value in (at.y, at.x))
        colour = CLASS_COLOURS[shown.label]
        wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        assert np.abs(pixels[row, column] - wanted).max() < 30
    write_reports(laboratory.store, run, laboratory.out)
    assert laboratory.reports() == before


def test_without_a_map_there_is_no_picture_and_no_link(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    assert "latent_map.png" not in finish(laboratory)
    assert b"latent_map" not in (laboratory.out / "index.html").read_bytes()


def test_reference_pictures_come_from_their_folder_only(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    run = work(laboratory)
    references = laboratory.folder / "references"
    for label in ("benign", "early_b", "pre_b", "pro_b"):
        (references / label).mkdir(parents=True)
        (references / label / "1.jpg").write_bytes(b"\xff\xd8\xff\xe0 reference")
    write_reports(laboratory.store, run, laboratory.out, reference_images=references)
    page = (laboratory.out / "patients" / "P00" / "report.html").read_text()
    assert "data:image/jpeg" in page


# --- killed while writing --------------------------------------------------------------------


def test_nothing_of_an_unfinished_file_stays(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    parts = laboratory.out / ".parts"
    laboratory.store.create("a.json", b"")
    parts.mkdir()
    (parts / "left").write_bytes(b"half")
    os.utime(parts / "left", (0, 0))
    finish(laboratory)
    assert not parts.exists()


def test_counts_are_checked_before_a_report_is_written(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory.fill(1, 2)
    run = work(laboratory)
    real = finalise.build_report

    def forgetful(patient: str, images: list[object], *rest: object) -> PatientReport:
        return real(patient, images[1:], *rest)

    monkeypatch.setattr(finalise, "build_report", forgetful)
    with pytest.raises(AssertionError, match="not the 2 images"):
        write_reports(laboratory.store, run, laboratory.out)
    assert not Path(laboratory.out / "patients").exists()
