"""An evaluation from beginning to end, with a model that needs no network."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bundle import load_bundle
from pipeline.errors import ConfigurationError
from pipeline.evaluation import evaluate as module
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.judge import JUDGED_FILE
from pipeline.evaluation.options import EvaluationOptions
from pipeline.references import ADDED
from pipeline.training.data import contents_of
from tests.pipeline.evaluation.labelled_folders import (
    GroundAnalyser,
    draw_smear,
    write_folder,
    write_image,
    write_stub_bundle,
)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Eight smears of each class, and a table with two folds: even numbers, odd numbers."""
    root = tmp_path_factory.mktemp("labelled")
    write_folder(root, per_class=8)
    lines = ["path,block,block_fold,duplicate_group"]
    for path in sorted(root.glob("*/*.png")):
        number = int(path.stem)
        name = f"{path.parent.name}/{path.name}"
        lines.append(f"set/{name},{path.parent.name}-{number % 4},{number % 2},{name}")
    (root / "folds.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def analysers(monkeypatch) -> list[GroundAnalyser]:
    opened: list[GroundAnalyser] = []

    def open_analyser(directory: str, options) -> GroundAnalyser:
        assert options.explain == "none"
        opened.append(GroundAnalyser(load_bundle(directory).model))
        return opened[-1]

    monkeypatch.setattr(module, "open_analyser", open_analyser)
    return opened


def training_ids(root: Path, fold: int = 1) -> list[str]:
    return [
        path.relative_to(root).as_posix()
        for path in sorted(root.glob("*/*.png"))
        if int(path.stem) % 2 == fold
    ]


@pytest.fixture
def options(labelled, tmp_path) -> EvaluationOptions:
    """Of a bundle that was trained on the odd numbers."""
    write_stub_bundle(tmp_path / "bundle", training_ids(labelled), {})
    return EvaluationOptions(
        data=labelled,
        out=tmp_path / "out",
        protocol="blocks",
        bundle=tmp_path / "bundle",
        splits=labelled / "folds.csv",
        resamples=100,
    )


def changed(options: EvaluationOptions, **values) -> EvaluationOptions:
    return EvaluationOptions(**{**options.__dict__, **values})


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "judgements.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_figures_follow_from_the_judgements(options, analysers):
    evaluation = evaluate(options)
    rows = rows_of(options.out)
    assert len(rows) == evaluation["images"] == 16
    assert {row["fold"] for row in rows} == {"0"}
    right = [row["label"] == row["truth"] for row in rows]
    assert evaluation["four_classes"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert np.array(evaluation["four_classes"]["confusion"]).sum() == 16
    high = [row["flag"] == "high" for row in rows]
    flag = evaluation["confidence"]
    assert flag["coverage"]["hits"] == sum(high)
    wrong = sum(not one for one, kept in zip(right, high, strict=True) if kept)
    assert flag["error"]["hits"] == wrong
    missed = [row["truth"] != "benign" == row["label"] for row in rows]
    assert evaluation["benign_or_malignant"]["missed_malignant"]["hits"] == sum(missed)
    assert set(evaluation["baselines"]) == {"majority", "nearest-colour", "colour-forest"}
    assert evaluation["split"]["inferred"] is None
    assert json.loads((options.out / "evaluation.json").read_text())["images"] == 16


def test_the_page_and_the_pictures_are_there(options, analysers):
    evaluate(options)
    page = (options.out / "EVALUATION.md").read_text()
    for name in ("confusion", "roc", "reliability", "risk-coverage", "embedding"):
        assert f"({name}.svg)" in page
        assert (options.out / f"{name}.svg").read_text().rstrip().endswith("</svg>")
    assert "not a diagnosis" in page and "Baselines" in page


def test_what_was_judged_is_not_judged_again_and_the_files_come_out_the_same(options, analysers):
    evaluate(options)
    names = ("evaluation.json", "EVALUATION.md", "judgements.csv", "confusion.svg", "embedding.svg")
    before = {name: (options.out / name).read_bytes() for name in names}
    judged = options.out / "fold-0" / JUDGED_FILE
    whole = judged.read_bytes()
    # A kill in the middle of the last line.
    judged.write_bytes(whole[:-40])
    evaluate(options)
    assert [one.calls for one in analysers] == [16, 1]
    assert judged.read_bytes() == whole
    assert {name: (options.out / name).read_bytes() for name in names} == before


def test_judgements_of_another_model_are_not_mixed_in(options, analysers, tmp_path, labelled):
    evaluate(options)
    write_stub_bundle(tmp_path / "other", training_ids(labelled), {"seed": 2})
    with pytest.raises(ConfigurationError, match="another model"):
        evaluate(changed(options, bundle=tmp_path / "other"))


def test_a_bundle_is_not_tested_on_what_it_was_trained_on(options, analysers):
    with pytest.raises(ConfigurationError, match=r"trained on 16 of the 16 images of fold-1"):
        evaluate(changed(options, folds=(1,)))
    with pytest.raises(ConfigurationError, match="trained on 16 of the 32"):
        evaluate(changed(options, protocol="elsewhere"))
    assert not analysers


def test_training_images_are_known_by_content_whatever_they_are_called(
    options, analysers, labelled, tmp_path
):
    seen = contents_of(labelled / name for name in training_ids(labelled))
    write_stub_bundle(tmp_path / "renamed", ["a", "b"], {"seen": seen})
    with pytest.raises(ConfigurationError, match="trained on 16"):
        evaluate(changed(options, bundle=tmp_path / "renamed", folds=(1,)))
    added = hashlib.sha256((labelled / "pro" / "000.png").read_bytes()).hexdigest()
    later = {"seen": seen, ADDED: [{"name": "ours", "sha256": [added]}]}
    write_stub_bundle(tmp_path / "extended", ["a", "b"], later)
    with pytest.raises(ConfigurationError, match=r"pro/000\.png"):
        evaluate(changed(options, bundle=tmp_path / "extended", folds=(0,)))


def test_elsewhere_knows_no_subtype_and_calls_every_confident_guess_wrong(
    options, analysers, tmp_path
):
    data = tmp_path / "elsewhere"
    for number in range(6):
        write_image(data / "blast" / f"UID_7_{number}.png", draw_smear(number, (215, 230, 240)))
        write_image(data / "hem" / f"UID_H1_{number}.png", draw_smear(50 + number, (230, 225, 235)))
        write_image(data / "malaria" / f"{number}.png", draw_smear(90 + number, (240, 240, 215)))
    (data / "malaria" / "broken.png").write_bytes(b"\x89PNG no more")
    evaluation = evaluate(changed(options, data=data, protocol="elsewhere", splits=None))
    assert evaluation["four_classes"]["images"] == 6  # the benign ones are of the four
    assert evaluation["benign_or_malignant"]["images"] == 12
    assert sum(evaluation["failed"].values()) == 1 and evaluation["images"] == 18
    outside = [row for row in rows_of(options.out) if row["truth"] == "outside"]
    high = sum(row["flag"] == "high" for row in outside)
    assert high > 0
    assert evaluation["confidence"]["high_and_wrong"]["hits"] >= high
    assert [row["patient"] for row in evaluation["patients"]["calls"]] == ["7", "H1"]
    assert evaluation["patients"]["calls"][0]["truth"] == "malignant"
    assert evaluation["baselines"] == {}


def test_a_baseline_is_evaluated_like_a_model(options):
    evaluation = evaluate(changed(options, bundle=None, recipe="colour-forest"))
    assert evaluation["images"] == 32
    assert evaluation["four_classes"]["accuracy"]["value"] > 0.9
    assert evaluation["confidence"] is None and evaluation["patients"] is None
    majority = evaluation["baselines"]["majority"]
    assert majority["four_classes"]["accuracy"]["value"] == pytest.approx(0.25)
    assert majority["compared"]["accuracy_difference"]["interval"][0] > 0.3


def test_without_a_table_folds_are_inferred_kept_and_described(options):
    chosen = changed(options, bundle=None, recipe="majority", splits=None)
    evaluation = evaluate(chosen)
    assert "near-duplicates" in evaluation["split"]["inferred"]
    assert evaluation["images"] == 32 and len(evaluation["folds"]) == 5
    before = (options.out / "folds.csv").read_bytes()
    evaluate(chosen)
    assert (options.out / "folds.csv").read_bytes() == before


def test_a_recipe_is_trained_once_per_fold_and_the_folds_are_pooled(
    options, analysers, labelled, monkeypatch
):
    trained = []

    def train(process, options, part, out, table, fold_column) -> None:
        assert (fold_column, table) == ("block_fold", labelled / "folds.csv")
        trained.append(part.fold)
        ids = [one.path for one in part.learn]
        write_stub_bundle(out, ids, {"recipe": "all-net", "seed": part.fold})

    monkeypatch.setattr(module, "_train", train)
    chosen = changed(options, bundle=None, recipe="all-net")
    evaluation = evaluate(chosen)
    assert trained == [0, 1] and evaluation["images"] == 32
    assert [fold["images"] for fold in evaluation["folds"]] == [16, 16]
    assert len(evaluation["model"]["bundle_digests"]) == 2
    evaluate(chosen)
    assert trained == [0, 1]
    with pytest.raises(ConfigurationError, match="recipe all-net"):
        evaluate(changed(chosen, recipe="another"))


@pytest.mark.parametrize("learned", ["all but the test part", "everything"])
def test_random_folds_may_have_copies_on_both_sides_and_nothing_else(
    learned, options, analysers, labelled, tmp_path, monkeypatch
):
    root = tmp_path / "copied"
    shutil.copytree(labelled, root)
    shutil.copy(root / "pro/000.png", root / "pro/001.png")
    table = (root / "folds.csv").read_text().replace("block_fold", "random_fold")
    (root / "folds.csv").write_text(table)

    def train(process, options, part, out, table, fold_column) -> None:
        some = part.learn if learned == "all but the test part" else (*part.learn, *part.test)
        contents = contents_of(root / one.path for one in some)
        ids = [one.path for one in some]
        write_stub_bundle(out, ids, {"recipe": "all-net", "seed": 0, "seen": contents})

    monkeypatch.setattr(module, "_train", train)
    chosen = changed(
        options,
        bundle=None,
        recipe="all-net",
        protocol="random",
        data=root,
        splits=root / "folds.csv",
    )
    if learned == "everything":
        with pytest.raises(ConfigurationError, match="was trained on images of fold-0"):
            evaluate(chosen)
    else:
        assert evaluate(chosen)["images"] == 32


def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(ConfigurationError, match="either a bundle"):
        evaluate(changed(options, recipe="all-net"))
    with pytest.raises(ConfigurationError, match="--bundle"):
        evaluate(changed(options, bundle=None, recipe="all-net", protocol="elsewhere"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_recipe_trains_and_is_judged_for_real(labelled, tmp_path):
    """One epoch on smears that are hardly smears: all parts fit together, nothing more."""
    import keras

    root = tmp_path / "data"
    # Thresholds need two hundred images: ten of fifteen blocks.
    write_folder(root, per_class=75)
    said: list[str] = []

    def found(out: str, *folds: int) -> dict[str, Any]:
        return evaluate(
            EvaluationOptions(
                data=root,
                out=tmp_path / out,
                protocol="blocks",
                recipe="all-net",
                folds=folds,
                epochs=1,
                resamples=100,
                training=(("calibration_groups", 10),),
            ),
            say=said.append,
        )

    both = found("both", 0, 1)
    assert sum(message.startswith("epoch 1") for message in said) == 2
    assert both["images"] + sum(both["failed"].values()) > 20
    assert both["model"]["unseen"] == "checked by content"
    found("second", 1)
    networks = [tmp_path / out / "fold-1/bundle/network.keras" for out in ("both", "second")]
    weights = [keras.models.load_model(path, compile=False).get_weights() for path in networks]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
