"""The recipes of Genovese et al. 2024, and what the training loop learned for them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.dss import summarise, table
from pipeline.errors import ConfigurationError
from pipeline.training import run
from pipeline.training.augment import turned_and_mirrored
from pipeline.training.data import LabelledImage
from pipeline.training.dss_recipes import DSS, class_weights
from pipeline.training.fit import images_of_classes
from pipeline.training.listing import list_recipes
from pipeline.training.recipe import TWO_CLASSES, Recipe, Selection
from pipeline.training.recipes import RECIPES
from pipeline.training.run import TrainingOptions
from pipeline.training.schedules import rates
from pipeline.training.two_classes import (
    called_by_vote,
    keep_fold_out,
    read_two_classes,
    split_two_classes,
)
from tests.pipeline.training.test_fit import InterruptedTrainingError, build_small, train
from tests.pipeline.training.test_run import TWO, write_images


@pytest.fixture
def small(recipe_of_fit) -> Recipe:
    head = replace(recipe_of_fit, trained_layers=("probabilities",), learning_rate=0.5)
    return replace(recipe_of_fit, first=replace(head, epochs=2))


@pytest.fixture
def recipe_of_fit() -> Recipe:
    return replace(
        RECIPES["all-net"],
        build=lambda classes: _named(build_small(classes)),
        batch_size=8,
        learning_rate=0.02,
        augment=None,
    )


def _named(network):
    network.layers[-1].name = "probabilities"
    return network


def test_the_recipes_are_listed_with_the_paper_as_their_source():
    listed = {one.name: one for one in list_recipes()}
    for recipe in DSS:
        assert "105298" in listed[recipe.name].source
        assert listed[recipe.name].epochs == 90


def test_the_rate_is_that_of_the_paper():
    recipe = RECIPES["dss-resnet18"]
    table = rates(recipe.schedule, recipe.learning_rate, recipe.epochs, 1)
    np.testing.assert_allclose(
        table[[0, 19, 20, 40, 60, 80, 89]],
        [2e-4, 2e-4, 1e-4, 5e-5, 2.5e-5, 1.25e-5, 1.25e-5],
        rtol=1e-6,
    )
    first = recipe.first
    assert first is not None and (first.epochs, first.learning_rate) == (2, 0.02)
    assert first.trained_layers == ("probabilities",) and not first.extra_losses
    np.testing.assert_allclose(rates(first.schedule, 0.02, 2, 3), 0.02)


def test_rare_classes_weigh_more():
    assert class_weights({"benign": 10, "malignant": 30}) == [4.0, 40 / 30]
    assert class_weights({"benign": 4, "malignant": 0}) == [1.0, 4.0]
    images = [LabelledImage(Path("a"), label, "g", 0) for label in ("pre_b", "benign", "pro_b")]
    assert images_of_classes(images, TWO_CLASSES) == {"benign": 1, "malignant": 2}


def test_what_comes_first_trains_its_layers_alone_and_only_once(small, tmp_path):
    told: list[float] = []

    def stop(record: dict[str, float]) -> None:
        told.append(record["epoch"])
        if len(told) == 2:
            raise InterruptedTrainingError

    with pytest.raises(InterruptedTrainingError):
        train(small, tmp_path / "one", epochs=3, on_epoch=stop)
    network, records = train(small, tmp_path / "one", epochs=3, on_epoch=lambda r: told.append(-1))
    assert told == [1, 2, -1, -1, -1] and len(records) == 3
    whole, expected = train(small, tmp_path / "two", epochs=3)
    assert [r["loss"] for r in records] == pytest.approx([r["loss"] for r in expected], abs=1e-6)
    for ours, theirs in zip(network.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_frozen_layers_keep_their_weights(recipe_of_fit, tmp_path):
    head = replace(recipe_of_fit, trained_layers=("probabilities",))
    built: list = []

    def build(classes):
        network = _named(build_small(classes))
        built.append([np.array(w) for w in network.get_weights()])
        return network

    network, _ = train(replace(head, build=build), tmp_path, epochs=2)
    after = network.get_weights()
    changed = [not np.array_equal(a, b) for a, b in zip(built[0], after, strict=True)]
    assert changed == [False, False, True, True]
    assert all(layer.trainable for layer in network.layers)


def test_the_best_of_equally_accurate_epochs_has_the_least_loss():
    selection = Selection(None, patience=9, monitor="validation_accuracy")
    records = [
        {"validation_accuracy": accuracy, "validation_loss": loss}
        for accuracy, loss in [(0.8, 0.1), (0.9, 0.5), (0.9, 0.4), (0.9, 0.4)]
    ]
    assert selection.best(records) == 2


def test_three_fifths_train_one_chooses_and_one_tests():
    images = [
        LabelledImage(Path(f"{label}{i}"), label, f"{label}{i}", i % 5)
        for label in ("benign", "malignant")
        for i in range(10)
    ]
    rest = [image for image in images if image.fold != 4]
    learned, kept = keep_fold_out(rest, 4)
    assert {image.fold for image in learned} == {1, 2, 3}
    assert {image.fold for image in kept} == {0}
    with pytest.raises(ConfigurationError, match="too few images"):
        keep_fold_out([image for image in images if image.fold == 0], 1)


def test_two_subjects_of_a_class_make_two_folds_and_a_quarter_of_each_chooses(tmp_path):
    for folder, subjects in {"all": range(6), "hem": range(2)}.items():
        (tmp_path / folder).mkdir()
        for subject in subjects:
            for i in range(8):
                (tmp_path / folder / f"UID_{subject}_{i}_1_{folder}.bmp").touch()
    images = read_two_classes(tmp_path)
    assert {image.fold for image in images if image.label == "benign"} == {0, 1}
    assert {image.fold for image in images} == {0, 1}
    split = split_two_classes(images, 1)
    learned, kept = keep_fold_out(split.train, 1)
    assert Counter(image.group for image in kept) == dict.fromkeys(
        {image.group for image in split.train}, 2
    )
    assert len(learned) == 3 * len(kept)
    assert not {image.group for image in kept} & {image.group for image in split.test}


def test_the_vote_is_that_of_scikit_learn():
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import MinMaxScaler

    rng = np.random.default_rng(0)
    scales = np.array([1.0, 30.0, 0.01, 5.0])
    points = (rng.normal(size=(60, 4)) * scales).astype(np.float32)
    queries = (rng.normal(size=(25, 4)) * scales).astype(np.float32)
    labels = ["malignant" if x else "benign" for x in rng.random(60) < 0.6]
    scaler = MinMaxScaler().fit(points)
    for neighbours in (1, 3, 5):
        judge = KNeighborsClassifier(neighbours).fit(scaler.transform(points), labels)
        expected = [int(x == "malignant") for x in judge.predict(scaler.transform(queries))]
        assert called_by_vote(points, labels, queries, neighbours) == expected


def test_turning_and_mirroring_bring_in_no_other_colours():
    rng = np.random.default_rng(0)
    image = rng.integers(50, 200, (64, 64, 3), np.uint8)
    moved = turned_and_mirrored(image, rng)
    assert moved.shape == image.shape and moved.dtype == np.uint8
    assert (moved != image).any() and moved.min() >= 50 and moved.max() < 200


def test_folds_are_summarised_by_mean_and_together():
    folds = [
        {"image": ["a", "b"], "group": ["g", "g"], "truth": [0, 1], "softmax": [0, 1]},
        {"image": ["c", "d", "e"], "group": list("hii"), "truth": [0, 1, 1], "softmax": [1, 1, 0]},
    ]
    found = summarise(folds, seed=1)
    own = found["decisions"]["softmax"]
    assert found["images"] == 5 and found["groups"] == 3
    assert own["folds"] == [1.0, pytest.approx(1 / 3)]
    assert own["mean"] == pytest.approx(2 / 3)
    assert own["pooled"]["confusion"] == [[1, 1], [1, 2]]
    low, high = own["accuracy_of_resampled_groups"]["interval"]
    assert low <= 0.6 <= high
    assert "3 of 5 (60.0%)" in table(found)


@pytest.mark.slow
def test_dss_resnet18_trains_and_is_judged_by_softmax_and_by_votes(tmp_path):
    """One epoch of the whole recipe on twenty tiny images."""
    data = write_images(tmp_path / "data", TWO, 10)
    said: list[str] = []
    chosen = TrainingOptions("dss-resnet18", data, tmp_path / "out", tmp_path / "work", epochs=1)
    run.train(chosen, said.append)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["epochs"] == 1 and record["best_epoch"] == 1
    assert set(record["votes"]) == {"vote of 3", "vote of 5"}
    judged = record["judged"]
    assert len(judged["truth"]) == record["test"]["images"] == 4
    for name in ("softmax", "vote of 3", "vote of 5"):
        figures = record["test"] if name == "softmax" else record["votes"][name]
        hits = sum(a == b for a, b in zip(judged["truth"], judged[name], strict=True))
        assert figures["accuracy"]["hits"] == hits
