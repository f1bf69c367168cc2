"""Model bundles: written, checked, refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.bundle import (
    Bundle,
    BundleRecord,
    default_bundle,
    find_bundle,
    load_bundle,
    read_model_record,
    write_bundle,
)
from pipeline.calibration_part import QUALITY_FIELDS, CalibrationPart
from pipeline.confidence import Thresholds
from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS
from pipeline.neighbours import References
from pipeline.preprocess import Preprocessing
from pipeline.quality import QualityLimits

SHIPPED_BUNDLE_LIMIT = 15_000_000


@pytest.fixture(scope="module")
def record() -> BundleRecord:
    shipped = json.loads((default_bundle() / "bundle.json").read_text())
    return BundleRecord(
        name="small",
        labels=LABELS,
        preprocessing=Preprocessing(input_size=16, tile_size=16),
        embedding_layer="embedding",
        feature_map_layer="features",
        thresholds=Thresholds.model_validate(shipped["thresholds"]),
        quality_limits=QualityLimits.model_validate(shipped["quality_limits"]),
        tested="never",
        training={"seed": 1},
        files={},
    )


@pytest.fixture
def bundle(tmp_path: Path, record: BundleRecord) -> Bundle:
    import keras

    image = keras.Input((16, 16, 3))
    features = keras.layers.Conv2D(2, 3, name="features")(image)
    hidden = keras.layers.GlobalAveragePooling2D(name="embedding")(features)
    model = keras.Model(image, keras.layers.Dense(4, activation="softmax")(hidden))
    references = References(
        np.eye(4, 2, dtype=np.float32), np.arange(4, dtype=np.int8), tuple("abcd")
    )
    return write_bundle(tmp_path / "small", model, references, "# Card\n", record)


def test_a_written_bundle_reads_back_and_scores_images(bundle):
    again = load_bundle(bundle.directory)
    assert again.digest == bundle.digest
    embeddings, scores = again.load_network().embed_and_score(np.zeros((1, 16, 16, 3), np.float32))
    assert embeddings.shape == (1, 2)
    assert scores.sum() == pytest.approx(1)


def test_the_digest_covers_thresholds_references_and_network(bundle, record, tmp_path):
    changed = record.model_copy(update={"tested": "differently"})
    model = bundle.load_network().model
    other = write_bundle(tmp_path / "other", model, bundle.references, "", changed)
    assert other.digest != bundle.digest
    fewer = References(
        bundle.references.embeddings[:3], bundle.references.labels[:3], bundle.references.ids[:3]
    )
    third = write_bundle(tmp_path / "third", model, fewer, "", record)
    assert third.digest not in {bundle.digest, other.digest}


@pytest.mark.parametrize("name", ["network.keras", "references.npz"])
def test_a_changed_file_is_refused_by_name(bundle, name):
    path = bundle.directory / name
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ConfigurationError, match=name):
        load_bundle(bundle.directory)


def test_calibration_images_are_kept_under_the_digest_and_older_bundles_have_none(
    bundle, record, tmp_path
):
    with pytest.raises(ConfigurationError, match="--data"):
        bundle.load_calibration()
    part = CalibrationPart(
        embeddings=np.ones((3, 2), np.float32),
        probabilities=np.full((3, 4), 0.25),
        qualities=np.zeros((3, len(QUALITY_FIELDS))),
        labels=np.zeros(3, np.int8),
        visible=np.ones(3),
        scale_known=np.ones(3, bool),
        patients=np.array([0, 0, 1]),
        sources=("training set",) * 3,
    )
    model = bundle.load_network().model
    kept = write_bundle(tmp_path / "kept", model, bundle.references, "", record, part)
    assert kept.digest != bundle.digest
    again = load_bundle(kept.directory).load_calibration()
    np.testing.assert_array_equal(again.embeddings, part.embeddings)
    assert again.sources == part.sources
    assert [case.patient for case in again.cases(bundle.references)] == [0, 0, 1]
    with pytest.raises(ConfigurationError, match="another version"):
        replace(part, qualities=np.zeros((3, 5)))
    (kept.directory / "calibration.npz").write_bytes(b"changed")
    with pytest.raises(ConfigurationError, match=r"calibration\.npz"):
        load_bundle(kept.directory)


def test_a_folder_that_is_no_bundle_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ConfigurationError, match="screen train"):
        read_model_record(tmp_path)


def test_a_bundle_of_another_schema_is_refused_not_misread(bundle):
    path = bundle.directory / "bundle.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "bundle_schema": 99}))
    with pytest.raises(ConfigurationError, match="schema 99"):
        load_bundle(bundle.directory)


def test_an_interrupted_write_leaves_no_valid_bundle(bundle, record):
    class FailingModel:
        def save(self, path: Path) -> None:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_bundle(bundle.directory, FailingModel(), bundle.references, "", record)
    with pytest.raises(ConfigurationError):
        load_bundle(bundle.directory)


def test_a_shipped_bundle_is_found_by_its_name_and_a_folder_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = default_bundle().parent
    assert find_bundle(None) == default_bundle()
    assert find_bundle(Path("all-net")) == shipped / "all-net"
    assert find_bundle(Path("nowhere")) == Path("nowhere")
    assert find_bundle(Path("../all-net")) == Path("../all-net")
    Path("all-net").mkdir()
    assert find_bundle(Path("all-net")) == Path("all-net")


def test_the_default_bundle_is_the_one_that_looks_at_white_cells_alone():
    shipped = load_bundle(default_bundle())
    assert shipped.model.name == "white-cells"
    assert shipped.record.preprocessing.view == "white_cells"


@pytest.mark.parametrize("name", ["white-cells", "all-net"])
def test_a_shipped_bundle_is_whole_small_and_comes_with_its_card(name):
    shipped = load_bundle(default_bundle().parent / name)
    assert shipped.model.name == name
    files = list(shipped.directory.iterdir())
    assert sum(path.stat().st_size for path in files) < SHIPPED_BUNDLE_LIMIT
    card = (shipped.directory / "MODEL_CARD.md").read_text(encoding="utf-8")
    accuracy = shipped.record.training["test"]["accuracy"]["share"]
    assert f"{accuracy:.1%}" in card
    assert "haematogones" in card
    assert "leakage between patients cannot be excluded" in card


def test_naming_a_model_needs_no_tensorflow():
    code = (
        "import sys; from pipeline.bundle import *; read_model_record(default_bundle()); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
