"""From a folder of labelled images to a model bundle: train, calibrate, test, write down."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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
    LabelledImage,
    Split,
    copies_across,
    hold_out,
    infer_folds,
    read_folds,
)
from pipeline.training.evaluate import erased_figures, figures, judge_all
from pipeline.training.fit import FitOptions, Precision, fit
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
    precision: Precision = "float32"
    loaders: int = 1
    weights: Path | None = None
    images_per_class: int | None = None
    dataset: str = "the user's own images"
    citation: str = "no source given"


Say = Callable[[str], None]

#: No image is of this fold: all of them are divided.
NO_FOLD = -1


def train(options: TrainingOptions, say: Say = lambda message: None) -> Bundle:
    """Train, calibrate and test a bundle, and write it to ``options.out``.

    The network learns from the training part alone, thresholds come from the calibration part, and
    the test fold is looked at once, at the end. ``say`` is told what is going on.

    Raises ConfigurationError if the data do not allow that.
    """
    recipe = _adapted(recipe_named(options.recipe), options)
    split = _divide(options)
    learned, validation = _kept_for_validation(split, recipe, options)
    say(
        f"{len(learned)} images to train on, {len(validation)} to choose the epoch, "
        f"{len(split.calibration)} for thresholds, {len(split.test)} to test on"
    )

    @cache
    def load(path: Path) -> np.ndarray:
        return training_view(path, recipe.preprocessing)

    model, history = fit(
        recipe,
        learned,
        load,
        options.work_dir,
        FitOptions(
            epochs=options.epochs or recipe.epochs,
            seed=options.seed,
            precision=options.precision,
            loaders=options.loaders,
            weights=options.weights,
        ),
        validation=validation,
        on_epoch=lambda record: say(_progress(record)),
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


def _adapted(recipe: Recipe, options: TrainingOptions) -> Recipe:
    """The recipe with what the person changed about it; examples are read once and kept."""
    if options.images_per_class is not None:
        sampling = replace(recipe.sampling, images_per_class=options.images_per_class)
        recipe = replace(recipe, sampling=sampling)
    return replace(recipe, example=cache(recipe.example)) if recipe.example else recipe


def _kept_for_validation(
    split: Split, recipe: Recipe, options: TrainingOptions
) -> tuple[Sequence[LabelledImage], Sequence[LabelledImage]]:
    """Images to train on, and those whose groups decide when to stop, both of the training part."""
    if recipe.selection is None:
        return split.train, ()
    parts = hold_out(split.train, NO_FOLD, recipe.selection.validation_groups, options.seed)
    return parts.train, parts.calibration


def _progress(record: dict[str, float]) -> str:
    words = f"epoch {record['epoch']}: loss {record['loss']:.4f}, accuracy {record['accuracy']:.4f}"
    if "validation_loss" in record:
        words += (
            f", validation loss {record['validation_loss']:.4f}, "
            f"accuracy {record['validation_accuracy']:.4f}"
        )
    return f"{words}, {record['seconds']:.1f} s"


def _divide(options: TrainingOptions) -> Split:
    if options.splits is None:
        images = infer_folds(options.data)
    else:
        images = read_folds(options.data, options.splits, options.fold_column)
    return hold_out(images, options.test_fold, options.calibration_groups, options.seed)


def _in_float32(model: Any, recipe: Recipe) -> Any:
    """The same weights in a network that computes in float32, as every result does."""
    plain = recipe.build(len(LABELS))
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
    # Seconds stay out: the same training gives the same bundle on a busy machine.
    curves = [{k: v for k, v in record.items() if k != "seconds"} for record in history]
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
        "precision": options.precision,
        "weights": options.weights.name if options.weights else "random",
        "best_epoch": recipe.selection.best(history) + 1 if recipe.selection else None,
        "optimiser": asdict(recipe.optimiser),
        "seed": options.seed,
        "history": curves,
        "software": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("keras", "numpy", "tensorflow")},
        },
    }
