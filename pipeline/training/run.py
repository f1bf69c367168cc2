"""From a folder of labelled images to a model bundle: train, calibrate, test, write down."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.analyse import Analyser
from pipeline.bundle import Bundle, BundleRecord, write_bundle
from pipeline.classify import Network
from pipeline.decode import decode
from pipeline.geometry import whole_tile
from pipeline.labels import LABELS
from pipeline.preprocess import Preprocessing, view_of
from pipeline.results import AnalysisOptions
from pipeline.segment import no_cells, segment
from pipeline.training.calibration import embed_references, measure_calibration_part
from pipeline.training.card import model_card, tested_sentence
from pipeline.training.data import (
    Split,
    copies_across,
    hold_out,
    infer_folds,
    read_folds,
)
from pipeline.training.evaluate import erased_figures, figures, judge_all
from pipeline.training.fit import fit
from pipeline.training.recipes import Recipe, recipe_named


@dataclass(frozen=True)
class TrainingOptions:
    """What the person who trains decides."""

    recipe: str
    data: Path
    out: Path
    work_dir: Path
    splits: Path | None = None
    fold_column: str = "block_fold"
    test_fold: int = 0
    calibration_groups: int = 2
    epochs: int | None = None
    seed: int = 2025
    mixed_bfloat16: bool = False
    dataset: str = "the user's own images"
    citation: str = "no source given"


Say = Callable[[str], None]


def train(options: TrainingOptions, say: Say = lambda message: None) -> Bundle:
    """Train, calibrate and test a bundle, and write it to ``options.out``.

    The network learns from the training part alone, thresholds come from the calibration part, and
    the test fold is looked at once, at the end. ``say`` is told what is going on.

    Raises ConfigurationError if the data do not allow that.
    """
    recipe = recipe_named(options.recipe)
    split = _divide(options)
    say(
        f"{len(split.train)} images to train on, {len(split.calibration)} for thresholds, "
        f"{len(split.test)} to test on"
    )

    @cache
    def load(path: Path) -> np.ndarray:
        return training_view(path, recipe.preprocessing)

    model, history = fit(
        recipe,
        split.train,
        load,
        options.work_dir,
        epochs=options.epochs or recipe.epochs,
        seed=options.seed,
        mixed_bfloat16=options.mixed_bfloat16,
        on_epoch=lambda record: say(
            f"epoch {record['epoch']}: loss {record['loss']:.4f}, accuracy {record['accuracy']:.4f}"
        ),
    )
    network = Network(
        _in_float32(model, recipe),
        preprocessing=recipe.preprocessing,
        embedding_layer=recipe.embedding_layer,
        feature_map_layer=recipe.feature_map_layer,
    )
    say("embedding the reference images")
    references = embed_references(split.train, load, network, options.data)
    say("choosing thresholds on the calibration part")
    calibration = measure_calibration_part(split.calibration, network)
    limits, thresholds = calibration.thresholds(references)

    record = BundleRecord(
        name=recipe.name,
        labels=LABELS,
        preprocessing=recipe.preprocessing,
        embedding_layer=recipe.embedding_layer,
        feature_map_layer=recipe.feature_map_layer,
        thresholds=thresholds,
        quality_limits=limits,
        tested="not tested yet",
        training=_training_record(options, recipe, split, history),
        files={},
    )
    say("testing")
    record = _tested(record, Bundle(options.out, record, references), network, split)
    card = model_card(record)
    return write_bundle(options.out, network.model, references, card, record, calibration)


def training_view(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """What the network is shown of a training field: all of it, as one tile."""
    pixels = decode(path.read_bytes()).pixels
    cells = segment(pixels) if preprocessing.needs_cells else no_cells(pixels)
    return view_of(whole_tile(pixels, cells, preprocessing.tile_size), preprocessing)


def _divide(options: TrainingOptions) -> Split:
    if options.splits is None:
        images = infer_folds(options.data)
    else:
        images = read_folds(options.data, options.splits, options.fold_column)
    return hold_out(images, options.test_fold, options.calibration_groups, options.seed)


def _in_float32(model: Any, recipe: Recipe) -> Any:
    """The same weights in a network that computes in float32, as every result does."""
    plain = recipe.build()
    plain.set_weights(model.get_weights())
    return plain


def _tested(record: BundleRecord, bundle: Bundle, network: Network, split: Split) -> BundleRecord:
    analyser = Analyser(bundle, network, AnalysisOptions(explain="none"))
    test = {
        **figures(judge_all(analyser, split.test)),
        "copies_of_training_images": copies_across(split.train, split.test),
        "white_cells_erased": erased_figures(analyser, split.test),
    }
    training = {**record.training, "test": test}
    return record.model_copy(
        update={"training": training, "tested": tested_sentence(record.name, training)}
    )


def _training_record(
    options: TrainingOptions, recipe: Recipe, split: Split, history: list[dict[str, float]]
) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "source": recipe.source,
        "dataset": options.dataset,
        "citation": options.citation,
        "split": split.description,
        "fold_column": options.fold_column if options.splits else "inferred contiguous blocks",
        "images": {
            "train": len(split.train),
            "calibration": len(split.calibration),
            "test": len(split.test),
        },
        "epochs": len(history),
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "mixed_bfloat16": options.mixed_bfloat16,
        "seed": options.seed,
        "history": history,
        "software": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("keras", "numpy", "tensorflow")},
        },
    }
