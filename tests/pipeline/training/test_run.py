"""From a folder to a bundle, or to a network of two classes."""

from __future__ import annotations

import gc
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from pipeline.analyse import Analyser
from pipeline.bundle import load_bundle
from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS
from pipeline.preprocess import Preprocessing
from pipeline.results import AnalysisOptions
from pipeline.training import run
from pipeline.training.data import LabelledImage
from pipeline.training.recipe import FOUR_CLASSES, TWO_CLASSES, Recipe, Sampling, Selection
from pipeline.training.recipes import RECIPES
from pipeline.training.run import TrainingOptions, limited, train
from pipeline.training.two_classes import has_subtypes, read_two_classes, two_class_figures
from tests.pipeline.training.test_fit import SIZE

TILE = 64

#: Folder names and the colour of the cells in it.
FOUR = {
    "benign": (200, 120, 90),
    "early": (90, 160, 170),
    "pre": (90, 50, 200),
    "pro": (40, 50, 60),
}
TWO = {"hem": FOUR["benign"], "all": FOUR["pro"]}


def build_by_colour(classes: int):
    """Linear up to the softmax, so that no unit can die and every seed learns the colours."""
    import keras

    image = keras.Input((SIZE, SIZE, 3))
    hidden = keras.layers.Conv2D(8, 1, name="features")(image)
    hidden = keras.layers.GlobalAveragePooling2D(name="embedding")(hidden)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax")(hidden))


def write_images(root: Path, folders: dict[str, tuple[int, int, int]], number: int) -> Path:
    rng = np.random.default_rng(0)
    for folder, colour in folders.items():
        (root / folder).mkdir(parents=True)
        for i in range(number):
            pixels = np.full((TILE, TILE, 3), 225, np.uint8)
            pixels[8:40, 8:40] = colour
            pixels = pixels - rng.integers(0, 12, pixels.shape, np.uint8)
            Image.fromarray(pixels).save(root / folder / f"UID_{i // 2}_{i}_1_{folder}.png")
    return root


@pytest.fixture
def recipe(monkeypatch) -> Recipe:
    small = replace(
        RECIPES["all-net"],
        build=build_by_colour,
        preprocessing=Preprocessing(input_size=SIZE, tile_size=TILE),
        embedding_layer="embedding",
        feature_map_layer="features",
        batch_size=8,
        learning_rate=0.05,
        selection=Selection(validation_groups=1, patience=20),
        sampling=Sampling(),
        augment=None,
    )
    monkeypatch.setattr(run, "recipe_named", lambda name: small)
    return small


def options(data: Path, out: Path, **chosen) -> TrainingOptions:
    return TrainingOptions("small", data, out, out.with_name("work"), **chosen)


def test_four_classes_become_a_bundle_that_judges_and_a_trial_never_says_high(recipe, tmp_path):
    data = write_images(tmp_path / "data", FOUR, 10)
    said: list[str] = []
    trained = train(options(data, tmp_path / "out", epochs=3, limit=40), said.append)
    bundle = load_bundle(tmp_path / "out")
    assert trained.bundle is not None and trained.tested == bundle.record.tested
    assert any("never says" in line for line in said)
    history = bundle.record.training["history"]
    assert len(history) == 3 and "validation_loss" in history[0] and "seconds" not in history[0]
    assert bundle.record.training["weights"] == "random"
    assert 1 <= bundle.record.training["best_epoch"] <= 3
    analyser = Analyser(bundle, bundle.load_network(), AnalysisOptions(explain="none"))
    for path in sorted(data.rglob("*.png"))[::7]:
        result = analyser(path.read_bytes()).result
        assert result.label in LABELS and result.confidence.flag == "low"


def test_too_few_images_for_thresholds_cost_the_flag_and_not_the_training(recipe, tmp_path):
    data = write_images(tmp_path / "data", FOUR, 10)
    said: list[str] = []
    train(options(data, tmp_path / "out", epochs=1), said.append)
    assert any("calibration images" in line and "references calibrate" in line for line in said)
    assert load_bundle(tmp_path / "out").record.thresholds.calibration_coverage == 0


def test_a_whole_fold_may_choose_the_epoch_of_four_classes(recipe, tmp_path, monkeypatch):
    chosen = replace(recipe, selection=Selection(None, patience=9), votes=(3,))
    monkeypatch.setattr(run, "recipe_named", lambda name: chosen)
    said: list[str] = []
    data = write_images(tmp_path / "data", FOUR, 15)
    train(options(data, tmp_path / "out", epochs=1, calibration_groups=1), said.append)
    learned, chosen_by, thresholds, tested = map(int, re.findall(r"\d+", said[0]))
    assert (learned + chosen_by + thresholds, thresholds, tested) == (48, 4, 12)
    assert 8 <= chosen_by <= 12
    history = load_bundle(tmp_path / "out").record.training["history"]
    assert "validation_accuracy" in history[0]


def test_two_classes_become_a_network_with_figures_and_no_bundle(recipe, tmp_path):
    data = write_images(tmp_path / "data", TWO, 20)
    trained = train(options(data, tmp_path / "out", epochs=25))
    assert trained.bundle is None and "not a bundle" in trained.tested
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["classes"] == ["benign", "malignant"]
    assert record["test"]["images"] == 8
    assert record["test"]["accuracy"]["share"] == 1.0 and record["test"]["mcc"] == 1.0
    with pytest.raises(ConfigurationError, match="not a model bundle"):
        load_bundle(tmp_path / "out")


def test_a_recipe_of_two_classes_takes_subtypes_as_malignant(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "recipe_named", lambda name: replace(recipe, classes=TWO_CLASSES))
    data = write_images(tmp_path / "data", FOUR, 10)
    train(options(data, tmp_path / "out", epochs=1))
    confusion = json.loads((tmp_path / "out" / "training.json").read_text())["test"]["confusion"]
    assert [sum(row) for row in confusion] == [2, 6]


def test_cells_of_one_subject_stay_together(tmp_path):
    images = read_two_classes(write_images(tmp_path, TWO, 20))
    assert Counter(image.label for image in images) == {"benign": 20, "malignant": 20}
    folds: dict[str, set[int]] = {}
    for image in images:
        folds.setdefault(image.group, set()).add(image.fold)
    assert len(folds) == 20 and all(len(found) == 1 for found in folds.values())
    assert {image.fold for image in images} == set(range(5))
    assert not has_subtypes(tmp_path)
    with pytest.raises(ConfigurationError, match="malignant"):
        read_two_classes(write_images(tmp_path / "one", {"hem": (0, 0, 0)}, 2))


def test_a_limit_takes_the_same_number_of_each_class_from_all_over_it():
    images = [
        LabelledImage(Path(f"{label}/{i:03d}"), label, f"{label}-{i // 10}", 0)
        for label in LABELS
        for i in range(100)
    ]
    chosen = limited(images, 20, FOUR_CLASSES)
    assert Counter(image.label for image in chosen) == dict.fromkeys(LABELS, 5)
    assert len({image.group for image in chosen}) == 20
    both = limited(images, 20, TWO_CLASSES)
    assert Counter(image.label == "benign" for image in both) == {True: 10, False: 10}


def test_two_class_figures_are_the_textbook_ones():
    truth = [1] * 6 + [0] * 4
    called = [1, 1, 1, 1, 1, 0, 1, 0, 0, 0]
    found = two_class_figures(truth, called)
    assert found["confusion"] == [[3, 1], [1, 5]]
    assert found["recall"]["share"] == pytest.approx(5 / 6)
    assert found["specificity"]["share"] == pytest.approx(3 / 4)
    assert found["precision"] == pytest.approx(5 / 6)
    assert found["f1"] == pytest.approx(5 / 6)
    assert found["mcc"] == pytest.approx(np.corrcoef(truth, called)[0, 1])
    assert two_class_figures([1, 1], [1, 1])["mcc"] is None


#: Fewer images and smaller batches for networks of which an image takes a second or more.
HEAVY = {"allnet-2022": 24, "nasnetlarge": 24, "dss-vit-b16": 64}
IMAGES = 200


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What Keras keeps of a network is given up before the next is built."""
    yield
    keras.utils.clear_session()
    gc.collect()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("name", [n for n, recipe in RECIPES.items() if recipe.read is None])
def test_every_recipe_trains_on_200_images_for_two_epochs(name, shared_data, tmp_path):
    """200 images, fewer for the dearest three; weights where the data folder has them."""
    weights = {
        "mobilenetv2-transfer": "weights/mobilenet_v2_1.0_224_notop_dequant.onnx",
        "mobilenetv2-0.35-transfer": "weights/mobilenet_v2_0.35_224_notop.onnx",
    }
    classes = RECIPES[name].classes
    data = shared_data("cnmc" if classes == TWO_CLASSES else "taleqani")
    chosen = TrainingOptions(
        recipe=name,
        data=data,
        out=tmp_path / "out",
        work_dir=tmp_path / "work",
        epochs=2,
        limit=HEAVY.get(name, IMAGES),
        weights=shared_data(weights[name]) if name in weights else None,
        images_per_class=HEAVY[name] // 2 if name == "allnet-2022" else None,
    )
    trained = train(chosen)
    if classes == TWO_CLASSES:
        assert json.loads((tmp_path / "out" / "training.json").read_text())["epochs"] == 2
        return
    assert trained.bundle is not None
    assert len(trained.bundle.record.training["history"]) == 2
    analyser = Analyser(
        trained.bundle, trained.bundle.load_network(), AnalysisOptions(explain="none")
    )
    image = next(iter(sorted((data / "pre").glob("*.jpg"))))
    assert analyser(image.read_bytes()).result.label in LABELS
