"""The training loop on a small network: it learns, and an interruption changes nothing."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS
from pipeline.preprocess import Preprocessing
from pipeline.training.augment import random_affine
from pipeline.training.batches import EpochBatches, PlainBatches
from pipeline.training.data import LabelledImage
from pipeline.training.fit import FitOptions, fit
from pipeline.training.recipe import (
    FOUR_CLASSES,
    TWO_CLASSES,
    ExtraLoss,
    Mixing,
    Optimiser,
    Recipe,
    Sampling,
    Selection,
    cross_entropy,
)
from pipeline.training.recipes import RECIPES
from pipeline.training.schedules import rates

SIZE = 16


def build_small(classes=4):
    import keras

    image = keras.Input((SIZE, SIZE, 3))
    hidden = keras.layers.Conv2D(4, 3, activation="relu", name="features")(image)
    hidden = keras.layers.GlobalAveragePooling2D(name="embedding")(hidden)
    hidden = keras.layers.Dropout(0.1)(hidden)
    output = keras.layers.Dense(classes, activation="softmax", dtype="float32")(hidden)
    return keras.Model(image, output)


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


BATCHES_DIGEST = "942ace00cccd99c37b5b33da19db0e2950a2cd55d300e09bccc9f3f5a1296986"

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


def train(recipe: Recipe, folder: Path, **options):
    chosen = {"epochs": 4, "seed": 1} | options
    on_epoch = chosen.pop("on_epoch", lambda record: None)
    validation = chosen.pop("validation", ())
    return fit(
        recipe,
        IMAGES,
        load,
        folder,
        FitOptions(**chosen),
        validation=validation,
        on_epoch=on_epoch,
    )


class InterruptedTrainingError(Exception):
    pass


def interrupt(record: dict[str, float]) -> None:
    if record["epoch"] == 2:
        raise InterruptedTrainingError


def batches(recipe: Recipe, epoch: int = 0, **options) -> EpochBatches:
    chosen = {"classes": FOUR_CLASSES, "seed": 1} | options
    return EpochBatches(IMAGES, recipe, load, epoch=epoch, **chosen)


def labels_shown(shown: EpochBatches) -> list[int]:
    return np.bincount(np.concatenate([shown[i][1] for i in range(len(shown))])).tolist()


def test_no_tuning_thread_is_waited_for_at_the_end_of_an_epoch(recipe):
    """Which tf.data has where Keras leaves the loading to it."""
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    plain = PlainBatches(IMAGES, load, classes=FOUR_CLASSES, batch_size=8)
    for shown in (batches(recipe), plain):
        assert PyDatasetAdapter(shown).get_tf_dataset().options().autotune.enabled is False


def test_images_are_joined_with_others_of_their_class(recipe):
    def marked(view, rng, label):
        return np.full((SIZE, SIZE, 3), LABELS.index(label), np.float32)

    def side_by_side(first, second):
        assert (first == second).all()
        return first + 10

    mixing = Mixing(0.5, side_by_side)
    shown = batches(replace(recipe, augment=marked, mixing=mixing, sampling=Sampling()))
    tops = np.concatenate([shown[i][0][:, 0, 0, 0] for i in range(len(shown))])
    joined = tops[tops >= 10]
    assert 0.2 < len(joined) / len(tops) < 0.8
    np.testing.assert_array_equal(shown[0][0], shown[0][0])


def test_training_lowers_the_loss_and_reports_every_epoch(recipe, tmp_path):
    _, records = train(recipe, tmp_path, epochs=12)
    assert [record["epoch"] for record in records] == list(range(1, 13))
    assert records[-1]["loss"] < 0.8 * records[0]["loss"]
    assert all(record["seconds"] >= 0 for record in records)


def test_an_interrupted_training_ends_with_the_same_weights(recipe, tmp_path):
    """Dropout and momentum included: random state and optimiser are in the checkpoint."""
    recipe = replace(recipe, optimiser=Optimiser("AdamW", weight_decay=0.01, clip_norm=1.0))
    whole, expected = train(recipe, tmp_path / "whole")
    with pytest.raises(InterruptedTrainingError):
        train(recipe, tmp_path / "parts", on_epoch=interrupt)
    parts, records = train(recipe, tmp_path / "parts")
    assert [r["loss"] for r in records] == pytest.approx([r["loss"] for r in expected], abs=1e-6)
    for one, other in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_another_trainings_checkpoint_is_refused(recipe, tmp_path):
    train(recipe, tmp_path, epochs=1)
    with pytest.raises(ConfigurationError, match="work-dir"):
        train(recipe, tmp_path, epochs=1, seed=2)


def test_only_benign_images_are_augmented_and_every_image_is_seen_as_it_is(recipe):
    shown = batches(recipe)
    assert labels_shown(shown) == [12, 6, 6, 6]
    first, again = shown[0], shown[0]
    np.testing.assert_array_equal(first[0], again[0])
    assert first[0].dtype == np.float32
    assert first[0].min() >= 0 and first[0].max() <= 1


def test_the_batches_of_all_net_are_those_the_shipped_network_was_trained_on(recipe):
    """Digest of the first epoch, taken before recipes could sample in other ways."""
    shown = batches(recipe)
    content = b"".join(shown[i][0].tobytes() + shown[i][1].tobytes() for i in range(len(shown)))
    assert hashlib.sha256(content).hexdigest() == BATCHES_DIGEST


def test_classes_are_filled_up_or_cut_to_the_number_asked_for(recipe):
    recipe = replace(recipe, sampling=Sampling(images_per_class=9))
    assert labels_shown(batches(recipe)) == [9, 9, 9, 9]
    recipe = replace(recipe, sampling=Sampling(images_per_class=4))
    assert labels_shown(batches(recipe)) == [4, 4, 4, 4]
    assert batches(recipe)._visits != batches(recipe, epoch=1)._visits
    assert labels_shown(batches(recipe, classes=TWO_CLASSES)) == [4, 4]


def test_augmentation_may_change_the_size_and_read_more_than_the_view(recipe):
    def example(path: Path) -> np.ndarray:
        return np.dstack([load(path), np.full((SIZE, SIZE), 255, np.uint8)])

    def doubled(view: np.ndarray, rng: np.random.Generator, label: str) -> np.ndarray:
        return np.repeat(np.repeat(view[..., :3], 2, 0), 2, 1).astype(np.float32) / 255

    recipe = replace(recipe, example=example, augment=doubled, sampling=Sampling())
    assert batches(recipe)[0][0].shape == (8, 2 * SIZE, 2 * SIZE, 3)


def test_two_classes_see_every_subtype_as_malignant(recipe, tmp_path):
    network, _ = train(recipe, tmp_path, epochs=1, classes=TWO_CLASSES)
    assert network.output_shape == (None, 2)
    assert TWO_CLASSES.number_of("benign") == 0 and TWO_CLASSES.number_of("pro_b") == 1
    with pytest.raises(ValueError, match="other"):
        TWO_CLASSES.number_of("other")


def test_training_stops_early_and_keeps_the_best_epoch(recipe, tmp_path):
    """The measured images have the wrong labels: learning makes them worse from the start."""
    wrong = [replace(image, label=LABELS[(LABELS.index(image.label) + 1) % 4]) for image in IMAGES]
    recipe = replace(recipe, selection=Selection(validation_groups=1, patience=3))
    network, records = train(recipe, tmp_path / "one", epochs=30, validation=wrong)
    losses = [record["validation_loss"] for record in records]
    best = losses.index(min(losses))
    assert len(records) == best + 4 < 30
    network.compile(loss="sparse_categorical_crossentropy")
    views = np.stack([load(image.path) for image in wrong]).astype(np.float32) / 255
    labels = np.array([LABELS.index(image.label) for image in wrong])
    found = network.evaluate(views, labels, verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx(min(losses), abs=1e-5)


def test_a_stopped_training_stays_stopped(recipe, tmp_path):
    recipe = replace(recipe, selection=Selection(validation_groups=1, patience=1))
    wrong = [replace(image, label=LABELS[(LABELS.index(image.label) + 1) % 4]) for image in IMAGES]
    one, first = train(recipe, tmp_path, epochs=30, validation=wrong)
    other, second = train(recipe, tmp_path, epochs=30, validation=wrong)
    assert first == second
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_loss_may_look_at_an_inner_layer(recipe, tmp_path):
    import keras

    def shrinking(images: dict[str, int]) -> keras.losses.Loss:
        class Shrinking(keras.losses.Loss):
            def call(self, y_true, y_pred):
                return keras.ops.sum(y_pred**2, axis=-1)

        return Shrinking()

    def size(network) -> float:
        inner = keras.Model(network.inputs, network.get_layer("embedding").output)
        views = np.stack([load(image.path) for image in IMAGES]).astype(np.float32) / 255
        return float(np.linalg.norm(inner.predict(views, verbose=0)))

    plain, _ = train(recipe, tmp_path / "plain")
    recipe = replace(recipe, extra_losses=(ExtraLoss("embedding", shrinking, weight=5.0),))
    both, records = train(recipe, tmp_path / "both", validation=IMAGES)
    assert size(both) < 0.5 * size(plain)
    assert 0 <= records[-1]["validation_accuracy"] <= 1


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_resumes_too(recipe, tmp_path, precision):
    with pytest.raises(InterruptedTrainingError):
        train(recipe, tmp_path, precision=precision, on_epoch=interrupt)
    network, records = train(recipe, tmp_path, precision=precision)
    assert len(records) == 4 and np.isfinite(records[-1]["loss"])
    assert all(weight.dtype == np.float32 for weight in network.get_weights())


def test_the_learning_rate_is_constant_and_then_falls_to_almost_nothing(recipe):
    table = rates(recipe.schedule, 0.02, epochs=50, steps=3).reshape(50, 3)
    assert (table == table[:, :1]).all()
    np.testing.assert_allclose(table[:30], 0.02)
    assert all(later < earlier for earlier, later in pairwise(table[29:, 0]))
    assert 0 < table[-1, 0] < 0.001


def test_the_optimiser_is_given_the_rate_of_every_step(recipe, tmp_path):
    """One plain gradient step moves the weights in proportion to the rate."""

    def falling(point: float, epochs: int) -> float:
        return 1.0 if point == 0 else 0.0

    recipe = replace(recipe, optimiser=Optimiser("SGD"), sampling=Sampling(), augment=None)
    one, _ = train(replace(recipe, schedule=falling), tmp_path / "one", epochs=1)
    several, _ = train(replace(recipe, schedule=falling), tmp_path / "several", epochs=3)
    constant, _ = train(replace(recipe, schedule=lambda p, e: 1.0), tmp_path / "all", epochs=1)
    for ours, theirs in zip(one.get_weights(), several.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any(
        (ours != theirs).any()
        for ours, theirs in zip(one.get_weights(), constant.get_weights(), strict=True)
    )


def test_smoothed_cross_entropy_is_the_published_formula():
    probabilities = np.array([[0.7, 0.1, 0.1, 0.1], [0.2, 0.5, 0.2, 0.1]], np.float32)
    truth = np.array([0, 2])
    target = np.full((2, 4), 0.1 / 4)
    target[[0, 1], truth] += 0.9
    expected = -(target * np.log(probabilities)).sum(axis=1).mean()
    assert float(
        cross_entropy(0.1)(dict.fromkeys(LABELS, 6))(truth, probabilities)
    ) == pytest.approx(expected, abs=1e-6)


def test_augmentation_moves_the_picture_but_keeps_its_shape_and_colours():
    rng = np.random.default_rng(0)
    image = np.zeros((64, 64, 3), np.uint8)
    image[20:40, 24:44] = (10, 200, 90)
    moved = random_affine(image, rng)
    assert moved.shape == image.shape and moved.dtype == np.uint8
    assert (moved != image).any()
    assert 250 < (moved[..., 1] > 100).sum() < 700  # 400 pixels, zoomed by 0.8 to 1.2 each way
