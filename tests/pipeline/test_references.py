"""A laboratory's own images in a new version of a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.bundle import Bundle, BundleRecord, load_bundle, write_bundle
from pipeline.calibration_part import CalibrationPart
from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS
from pipeline.latent_map import LatentMap
from pipeline.neighbours import References
from pipeline.preprocess import Preprocessing
from pipeline.references import (
    OwnImage,
    add_references,
    divide,
    read_own_images,
    recalibrate,
    sets_of,
)

SIDE, IMAGES = 64, 16


def own(count: int, label: str = "benign", per_group: int = 1) -> list[OwnImage]:
    return [
        OwnImage(Path(f"{label}/{n:03}.png"), label, f"{label}-{n // per_group}")  # type: ignore[arg-type]
        for n in range(count)
    ]


def test_labels_are_folders_whatever_their_laboratory_calls_them(tmp_path):
    for folder in ("Healthy", "hem", "blast", "all", "pre", "notes"):
        (tmp_path / folder / "P-1").mkdir(parents=True)
        (tmp_path / folder / "P-1" / f"{folder}.png").touch()
    found = {image.path.stem: image.label for image in read_own_images(tmp_path)}
    assert found == {
        "Healthy": "benign",
        "hem": "benign",
        "blast": "malignant",
        "all": "malignant",
        "pre": "pre_b",
    }
    groups = {image.group for image in read_own_images(tmp_path, r"[^/]+/(?P<patient>[^/]+)/.*")}
    assert groups == {"P-1"}
    with pytest.raises(ConfigurationError, match="does not match"):
        read_own_images(tmp_path, r"(?P<patient>\d+)")
    with pytest.raises(ConfigurationError, match="regular expression"):
        read_own_images(tmp_path, r"(")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="folders named"):
        read_own_images(tmp_path / "empty")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_every_label_is_divided_and_no_patient_is_on_both_sides(share):
    images = [*own(40, "benign", 4), *own(60, "malignant", 3), *own(10, "pro_b")]
    references, calibration = divide(images, share, seed=1)
    assert sorted([*references, *calibration]) == sorted(images)
    assert not {i.group for i in references} & {i.group for i in calibration}
    for label, total in (("benign", 40), ("malignant", 60), ("pro_b", 10)):
        held = sum(image.label == label for image in calibration)
        assert held == pytest.approx(share * total, abs=2)
    assert divide(images[::-1], share, seed=1) == (references, calibration)
    assert divide(images, share, seed=2) != (references, calibration)


def test_one_patient_cannot_be_divided():
    with pytest.raises(ConfigurationError, match="cannot be divided"):
        divide(own(30, per_group=30), 0.5, seed=1)


def picture(rng: np.random.Generator, colour: int) -> np.ndarray:
    """A field whose mean brightness says what it is."""
    return np.clip(rng.normal(colour, 12, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Sees benign in bright and pro_b in dark images; calibrated on bright and dark ones alone."""
    import keras

    image = keras.Input((SIDE, SIDE, 3))
    features = keras.layers.Conv2D(1, 1, name="features")(image)
    hidden = keras.layers.GlobalAveragePooling2D(name="embedding")(features)
    model = keras.Model(image, keras.layers.Dense(4, activation="softmax")(hidden))
    model.get_layer("features").set_weights([np.full((1, 1, 3, 1), 1 / 3), np.zeros(1)])
    slopes = np.array([[20.0, -50, -50, -20]])
    model.layers[-1].set_weights([slopes, -slopes[0] / 2])
    rng = np.random.default_rng(0)
    truths = np.repeat([0, 3], 150)
    brightness = np.where(truths == 0, 0.9, 0.1) + rng.normal(0, 0.02, 300)
    embeddings = brightness[:, None].astype(np.float32)
    logits = (brightness[:, None] - 0.5) * slopes
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    references = References(embeddings, truths.astype(np.int8), tuple(f"r{n}" for n in range(300)))
    part = CalibrationPart(
        embeddings=embeddings + np.float32(0.001),
        probabilities=probabilities,
        qualities=np.tile([1.0, 0.5, 0.5, 0.01, 1.4, 0.5, 0.01, 0.01, 0.5], (300, 1)),
        labels=truths.astype(np.int8),
        visible=np.full(300, 0.1),
        scale_known=np.ones(300, bool),
        patients=np.full(300, -1),
        sources=("training set",) * 300,
    )
    thresholds = part.thresholds(references)
    record = BundleRecord(
        name="brightness",
        labels=LABELS,
        preprocessing=Preprocessing(input_size=SIDE, tile_size=SIDE),
        embedding_layer="embedding",
        feature_map_layer="features",
        thresholds=thresholds,
        quality_limits=part.quality_limits("field"),
        tested="never",
        training={},
        files={},
    )
    folder = tmp_path_factory.mktemp("bundle")
    return write_bundle(folder, model, references, "# Card\n", record, part)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey images, between what the bundle knows; the brighter are healthy. One is a copy."""
    root = tmp_path_factory.mktemp("laboratory")
    rng = np.random.default_rng(1)
    for folder, colour in (("healthy", 170), ("blast", 85)):
        (root / folder).mkdir()
        for number in range(IMAGES):
            cv2.imwrite(str(root / folder / f"{number}.png"), picture(rng, colour))
    shutil.copy(root / "blast" / "0.png", root / "blast" / "copy.png")
    (root / "blast" / "broken.png").write_bytes(b"no image")
    return root


def typicality(bundle: Bundle, part: CalibrationPart) -> list[bool]:
    """Whether each case is within the distance that the bundle allows."""
    limit = bundle.record.thresholds.max_distance
    return [case.neighbours.distance <= limit for case in part.cases(bundle.references)]


def in_a_row(references: References) -> LatentMap:
    """A map of references of one dimension, which has none of its own."""
    places = np.linspace(0, 1, len(references.ids), dtype=np.float32)
    return LatentMap(np.stack([places, places], axis=1), references.labels)


def test_own_references_make_a_new_version_that_knows_them(bundle, images, tmp_path, monkeypatch):
    before = {path.name: path.read_bytes() for path in bundle.directory.iterdir()}
    said: list[str] = []
    monkeypatch.setattr(LatentMap, "fit", in_a_row)
    found = read_own_images(images)
    few = {"root": images, "name": "our lab", "target_error": 0.1, "target_missed": 0.1}
    new = add_references(bundle, found, tmp_path / "new", **few, say=said.append)
    assert {path.name: path.read_bytes() for path in bundle.directory.iterdir()} == before
    assert new.digest != bundle.digest
    assert (new.directory / "network.keras").read_bytes() == before["network.keras"]
    assert any("broken.png" in message for message in said)

    added = new.record.training["references_added"][0]
    counts = {**added["references"]}
    assert set(counts) == {"benign", "malignant"}
    assert sum(counts.values()) + sum(added["calibration"].values()) == 2 * IMAGES
    assert added["skipped"] == 2
    assert len(set(added["sha256"])) == 2 * IMAGES
    ours = [name for name in new.references.ids if name.startswith("our lab/")]
    assert len(ours) == sum(counts.values())
    assert {one["name"] for one in sets_of(new)} == {"training set", "our lab"}
    assert new.latent_map is not None
    assert len(new.latent_map.points) == len(new.references.ids)

    own_part = new.load_calibration()
    rows = [row for row, source in enumerate(own_part.sources) if source == "our lab"]
    assert len(rows) == sum(added["calibration"].values())
    was = typicality(bundle, own_part)
    now = typicality(new, own_part)
    assert not any(was[row] for row in rows)
    assert np.mean([now[row] for row in rows]) > 0.8
    assert new.record.thresholds.sets["our lab"].coverage > 0.5
    assert "our lab" in (new.directory / "MODEL_CARD.md").read_text()
    assert "our lab" in new.record.tested

    again = add_references(bundle, found[::-1], tmp_path / "again", **few)
    assert again.digest == new.digest
    with pytest.raises(ConfigurationError, match="our lab: 16 calibration images"):
        add_references(bundle, found, tmp_path / "strict", root=images, name="our lab")
    with pytest.raises(ConfigurationError, match="another --name"):
        add_references(new, found, tmp_path / "third", root=images, name="our lab")
    with pytest.raises(ConfigurationError, match="nothing to add"):
        add_references(new, found, tmp_path / "third", root=images, name="the same")


def test_thresholds_follow_the_errors_asked_for(bundle, tmp_path):
    lenient = recalibrate(bundle, tmp_path / "lenient", target_error=0.05, target_missed=0.05)
    assert load_bundle(lenient.directory).record.thresholds.target_error == 0.05
    assert lenient.digest != bundle.digest
    with pytest.raises(ConfigurationError, match="at least 999"):
        recalibrate(bundle, tmp_path / "strict", target_error=0.001)


def test_a_bundle_is_never_overwritten(bundle, tmp_path):
    (tmp_path / "something").touch()
    for folder in (bundle.directory, tmp_path):
        with pytest.raises(ConfigurationError, match="new folder"):
            recalibrate(bundle, folder)
