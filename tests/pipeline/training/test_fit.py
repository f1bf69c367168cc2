"""The training loop on a small network: it learns, and an interruption changes nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.labels import LABELS
from pipeline.preprocess import Preprocessing
from pipeline.training.augment import random_affine
from pipeline.training.data import LabelledImage
from pipeline.training.fit import EpochBatches, fit, learning_rate_at
from pipeline.training.recipes import RECIPES, Recipe

SIZE = 16


def build_small():
    import keras

    image = keras.Input((SIZE, SIZE, 3))
    hidden = keras.layers.Conv2D(4, 3, activation="relu", name="features")(image)
    hidden = keras.layers.GlobalAveragePooling2D(name="embedding")(hidden)
    return keras.Model(image, keras.layers.Dense(4, activation="softmax", dtype="float32")(hidden))


@pytest.fixture
def recipe() -> Recipe:
    return replace(
        RECIPES["all-net"],
        build=build_small,
        preprocessing=Preprocessing(input_size=SIZE, tile_size=SIZE),
        epochs=4,
        batch_size=8,
        learning_rate=0.02,
        embedding_layer="embedding",
        feature_map_layer="features",
    )


IMAGES = tuple(
    LabelledImage(Path(f"{label}-{number}"), label, f"{label}-{number}", 0)
    for label in LABELS
    for number in range(6)
)


def load(path: Path) -> np.ndarray:
    """A plain field whose colour tells the class."""
    label, number = path.name.rsplit("-", 1)
    pixels = np.full((SIZE, SIZE, 3), 40 + int(number), np.uint8)
    pixels[..., LABELS.index(label) % 3] += np.uint8(80 + 60 * (LABELS.index(label) == 3))
    return pixels


def test_all_net_has_the_published_number_of_parameters():
    assert RECIPES["all-net"].build().count_params() == 1_097_604


def test_training_lowers_the_loss_and_reports_every_epoch(recipe, tmp_path):
    _, records = fit(recipe, IMAGES, load, tmp_path, epochs=12, seed=1)
    assert [record["epoch"] for record in records] == list(range(1, 13))
    assert records[-1]["loss"] < 0.8 * records[0]["loss"]


def test_an_interrupted_training_ends_with_the_same_weights(recipe, tmp_path):
    whole, _ = fit(recipe, IMAGES, load, tmp_path / "whole", epochs=4, seed=1)

    class InterruptedTrainingError(Exception):
        pass

    def interrupt(record: dict[str, float]) -> None:
        if record["epoch"] == 2:
            raise InterruptedTrainingError

    with pytest.raises(InterruptedTrainingError):
        fit(recipe, IMAGES, load, tmp_path / "parts", epochs=4, seed=1, on_epoch=interrupt)
    parts, records = fit(recipe, IMAGES, load, tmp_path / "parts", epochs=4, seed=1)
    assert len(records) == 4
    for one, other in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_only_benign_images_are_augmented_and_every_image_is_seen_as_it_is(recipe):
    batches = EpochBatches(IMAGES, recipe, load, seed=1, epoch=0)
    labels = np.concatenate([batches[index][1] for index in range(len(batches))])
    assert np.bincount(labels).tolist() == [12, 6, 6, 6]
    first, again = batches[0], batches[0]
    np.testing.assert_array_equal(first[0], again[0])
    assert first[0].dtype == np.float32
    assert first[0].min() >= 0 and first[0].max() <= 1


def test_the_learning_rate_is_constant_and_then_falls_to_almost_nothing(recipe):
    rates = [learning_rate_at(recipe, epoch, 50) for epoch in range(50)]
    assert rates[:30] == [0.02] * 30
    assert all(later < earlier for earlier, later in pairwise(rates[29:]))
    assert 0 < rates[-1] < 0.001


def test_augmentation_moves_the_picture_but_keeps_its_shape_and_colours():
    rng = np.random.default_rng(0)
    image = np.zeros((64, 64, 3), np.uint8)
    image[20:40, 24:44] = (10, 200, 90)
    moved = random_affine(image, rng)
    assert moved.shape == image.shape and moved.dtype == np.uint8
    assert (moved != image).any()
    assert 250 < (moved[..., 1] > 100).sum() < 700  # 400 pixels, zoomed by 0.8 to 1.2 each way
