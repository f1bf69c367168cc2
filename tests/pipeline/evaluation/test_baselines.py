"""Classifiers that look at no cell."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.errors import ConfigurationError
from pipeline.evaluation.baselines import BASELINES, baseline_named, judge_by_colour
from pipeline.evaluation.colours import COLOUR_NAMES, colour_numbers, colours_of

WHITE, GREY, PURPLE = (250, 250, 240), (170, 160, 180), (90, 40, 140)


def field(size: int = 100) -> np.ndarray:
    """A tenth purple, a half grey, the rest background."""
    pixels = np.full((size, size, 3), WHITE, np.uint8)
    pixels[: size // 2] = GREY
    pixels[: size // 10] = PURPLE
    return pixels


def named(pixels: np.ndarray) -> dict[str, float]:
    return dict(zip(COLOUR_NAMES, colour_numbers(pixels).tolist(), strict=True))


def test_the_colours_of_a_field_with_known_areas():
    found = named(field())
    for part, colour in (("cell", PURPLE), ("mid_tone", GREY), ("background", WHITE)):
        assert [found[f"{part}_{channel}"] for channel in "rgb"] == pytest.approx(colour)
    assert [found[f"corner_{one}"] for one in ("red", "black", "white")] == [0, 0, 0]


def test_the_place_of_cells_does_not_matter():
    pixels = field()
    shuffled = np.random.default_rng(1).permutation(pixels.reshape(-1, 3)).reshape(pixels.shape)
    np.testing.assert_allclose(colour_numbers(pixels)[:9], colour_numbers(shuffled)[:9])


def test_colours_hardly_depend_on_resolution():
    large = cv2.resize(field(), (1000, 1000), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_allclose(colour_numbers(large), colour_numbers(field()), atol=8)


@pytest.mark.parametrize(
    ("colour", "name"),
    [((200, 20, 30), "red"), ((5, 5, 5), "black"), ((255, 255, 255), "white")],
)
def test_the_scale_bar_is_seen_in_its_corner_alone(colour, name):
    barred = field()
    barred[-16:, -16:] = colour
    assert named(barred)[f"corner_{name}"] == pytest.approx(1)
    elsewhere = field()
    elsewhere[60:70, 10:20] = colour
    assert named(elsewhere)[f"corner_{name}"] == 0


def colours(per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Twelve numbers of four classes that differ in half of them."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), per_class)
    numbers = rng.normal(size=(len(labels), 12))
    numbers[:, ::2] += 8 * labels[:, None]
    return numbers, labels


@pytest.mark.parametrize("name", ["colour-forest", "nearest-colour"])
def test_baselines_learn_what_colours_tell(name):
    train, labels = colours(20, seed=1)
    test, truth = colours(10, seed=2)
    found = judge_by_colour(BASELINES[name], train, labels, test, classes=4, seed=1)
    assert found.shape == (40, 4)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == truth).mean() > 0.9


def test_the_majority_is_the_most_frequent_class_with_its_frequency():
    labels = np.array([2, 2, 2, 0])
    found = judge_by_colour(
        BASELINES["majority"], np.zeros((4, 12)), labels, np.ones((3, 12)), classes=4, seed=1
    )
    np.testing.assert_allclose(found, [[0.25, 0, 0.75, 0]] * 3)


def test_the_nearest_image_weighs_all_colours_alike():
    # Unscaled, the second number alone would decide.
    train = np.zeros((4, 12))
    train[:, 0] = [0, 0, 1, 1]
    train[:, 1] = [0, 1000, 0, 1000]
    labels = np.array([0, 0, 1, 1])
    query = np.zeros((1, 12))
    query[0, :2] = [0.9, 400]
    found = judge_by_colour(BASELINES["nearest-colour"], train, labels, query, classes=2, seed=1)
    assert found.tolist() == [[0, 1]]


def test_the_forest_follows_from_its_seed():
    train, labels = colours(20, seed=1)
    test, _ = colours(10, seed=2)
    one, same = (
        judge_by_colour(BASELINES["colour-forest"], train, labels, test, 4, seed=1)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, same)


def test_there_must_be_something_to_learn_from():
    with pytest.raises(ConfigurationError, match="outside the test part"):
        judge_by_colour(
            BASELINES["majority"], np.zeros((0, 12)), np.zeros(0, int), np.ones((1, 12)), 4, 1
        )
    with pytest.raises(ConfigurationError, match="colour-forest"):
        baseline_named("guess")


def test_colours_alone_tell_the_classes_of_the_taleqani_set_apart(shared_data):
    root = shared_data("taleqani")
    paths, labels = [], []
    for number, folder in enumerate(("benign", "early", "pre", "pro")):
        found = sorted((root / folder).iterdir())[:240:8]
        paths += found
        labels += [number] * len(found)
    numbers, truth = colours_of(paths), np.array(labels)
    odd = np.arange(len(truth)) % 2 == 1
    forest = BASELINES["colour-forest"]
    found = judge_by_colour(forest, numbers[~odd], truth[~odd], numbers[odd], 4, seed=1)
    assert (found.argmax(axis=1) == truth[odd]).mean() > 0.8
