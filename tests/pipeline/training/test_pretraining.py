"""Pretraining on kinds of cells: the tree of labels, what is injected, and the weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ConfigurationError
from pipeline.segment import no_cells, segment
from pipeline.training import run
from pipeline.training.injection import measures_of, nothing_of, second_half
from pipeline.training.kinds import KINDS, NOTHING, label_weights, labels_of, outputs_of
from pipeline.training.pretraining import read_kinds
from pipeline.training.recipe import ExtraLoss
from pipeline.training.recipes import RECIPES
from pipeline.training.run import TrainingOptions
from tests.pipeline.training.test_fit import build_small, train

SIDE = 200


def crop(rng: np.random.Generator, radius: int) -> np.ndarray:
    """A stained cell in the middle of a pale field."""
    pixels = np.full((SIDE, SIDE, 3), (228, 215, 220), np.uint8)
    centre = (SIDE // 2 + int(rng.integers(-4, 5)), SIDE // 2)
    cv2.circle(pixels, centre, radius + 6, (190, 170, 205), -1)
    cv2.circle(pixels, centre, radius, (110, 60, 140), -1)
    return pixels + rng.integers(0, 8, pixels.shape, np.uint8)


def write_kinds(root: Path, number: int = 10) -> Path:
    rng = np.random.default_rng(0)
    for radius, kind in ((6, "lymphocyte"), (10, "monocyte")):
        (root / kind).mkdir(parents=True)
        for i in range(number):
            Image.fromarray(crop(rng, radius)).save(root / kind / f"{i:02d}.png")
    return root


def test_every_class_has_one_label_at_every_level():
    classes = [*KINDS, "monocyte/2", NOTHING]
    for level, outputs in enumerate((3, 6, 10)):
        found = labels_of(level, classes)
        assert found.shape == (10, outputs) == (10, len(outputs_of(level, classes)))
        assert (found.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(labels_of(2, classes), np.eye(10))
    lineages = labels_of(1, classes)
    np.testing.assert_array_equal(
        lineages[classes.index("monocyte")], lineages[classes.index("monocyte/2")]
    )
    assert labels_of(0, classes)[classes.index("platelet")].tolist() == [0, 1, 0]


def test_a_label_weighs_all_images_over_its_own():
    images = {"neutrophil": 30, "basophil": 10, "platelet": 20}
    assert label_weights(0, images) == [60 / 40, 60 / 20, 60.0]
    assert label_weights(2, images) == [2.0, 6.0, 3.0]


def test_a_patch_of_nothing_has_no_cell_and_the_size_of_the_image():
    pixels = crop(np.random.default_rng(0), 12)
    cells = segment(pixels)
    assert len(cells.cells) == 1
    patch = nothing_of(pixels, cells)
    assert patch is not None and patch.shape == pixels.shape and patch.dtype == np.uint8
    assert patch.min() > 200
    assert nothing_of(pixels, no_cells(pixels)) is None
    large = crop(np.random.default_rng(0), 60)
    assert nothing_of(large, segment(large)) is None


def test_the_measures_are_those_of_the_largest_cell():
    pixels = crop(np.random.default_rng(0), 20)
    found = measures_of(segment(pixels))
    assert found is not None and found.shape == (6,)
    assert found[0] == pytest.approx(np.log(np.pi * 23**2), abs=0.35)
    assert measures_of(no_cells(pixels)) is None


def test_two_kinds_in_one_class_are_told_apart_and_one_is_not_split():
    rng = np.random.default_rng(3)
    one = rng.normal(size=(60, 4)) * [1.0, 0.1, 5.0, 2.0]
    assert second_half(one, 0) is None
    two = np.concatenate([one, one[:25] + np.array([8.0, 0.8, 40.0, 16.0])])
    half = second_half(two, 0)
    assert half is not None
    np.testing.assert_array_equal(half, np.arange(85) >= 60)
    few = np.concatenate([one, one[:4] + 40.0])
    assert second_half(few, 0) is None
    assert second_half(two[55:65], 0) is None


def test_kinds_are_read_with_nothing_cut_from_images_of_the_same_fold(tmp_path):
    data = write_kinds(tmp_path / "data")
    images, classes = read_kinds(data, tmp_path / "work")
    assert classes.names == ("monocyte", "lymphocyte", NOTHING)
    fold_of = {f"{i.label}-{i.path.stem}.png": i.fold for i in images if i.label != NOTHING}
    patches = [image for image in images if image.label == NOTHING]
    assert len(patches) == 10
    assert all(image.fold == fold_of[image.path.name] for image in patches)
    before = {image.path: image.path.stat().st_mtime_ns for image in patches}
    again, _ = read_kinds(data, tmp_path / "work")
    assert again == images
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_folder_without_kinds_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="basophil"):
        read_kinds(tmp_path, tmp_path / "work")


def test_only_inner_layers_may_have_a_loss(tmp_path):
    import keras

    class Size(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return keras.ops.sum(y_pred**2, axis=-1)

    recipe = replace(
        RECIPES["all-net"],
        build=build_small,
        batch_size=8,
        learning_rate=0.02,
        augment=None,
        loss=None,
        extra_losses=(ExtraLoss("embedding", lambda images: Size()),),
    )
    _, records = train(recipe, tmp_path, epochs=6)
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    assert 0 <= records[-1]["accuracy"] <= 1


@pytest.mark.slow
def test_pretrained_weights_start_a_training(tmp_path):
    data = write_kinds(tmp_path / "data")
    chosen = TrainingOptions(
        "dss-pretrain-resnet18", data, tmp_path / "out", tmp_path / "work", epochs=1
    )
    trained = run.train(chosen)
    weights = tmp_path / "out" / "backbone.keras"
    assert trained.bundle is None and str(weights) in trained.tested
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["classes"] == ["monocyte", "lymphocyte", NOTHING]
    assert np.sum(record["test"]["confusion"]) == record["test"]["images"]
    network = RECIPES["dss-resnet18"].build(2)
    read = RECIPES["dss-resnet18"].read_weights
    assert read is not None
    before = np.array(network.get_layer("stage4_block2_conv2").kernel)
    read(network, weights)
    assert (np.array(network.get_layer("stage4_block2_conv2").kernel) != before).any()
