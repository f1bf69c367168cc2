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
from pipeline.calibration_part import CalibrationPart
from pipeline.classify import Network
from pipeline.confidence import N_CLOSE, NEVER, Thresholds
from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS
from pipeline.latent_map import LatentMap
from pipeline.neighbours import References
from pipeline.preprocess import Preprocessing, view_of
from pipeline.results import AnalysisOptions
from pipeline.threads import one_thread
from pipeline.training.batches import FEWEST_LOADERS, LoadImage
from pipeline.training.calibration import embed_references, measure_calibration_part
from pipeline.training.card import model_card, tested_sentence
from pipeline.training.data import (
    LabelledImage,
    Split,
    contents_of,
    hold_out,
    infer_folds,
    read_folds,
)
from pipeline.training.evaluate import figures_of_test_part
from pipeline.training.fit import FitOptions, Precision, fit
from pipeline.training.pretraining import split_kinds, write_backbone
from pipeline.training.recipe import FOUR_CLASSES, TWO_CLASSES, Classes, Recipe
from pipeline.training.recipes import recipe_named
from pipeline.training.tiles import training_tile
from pipeline.training.two_classes import (
    describe,
    has_subtypes,
    keep_fold_out,
    keep_out,
    read_two_classes,
    split_two_classes,
    write_two_class_network,
)


@dataclass(frozen=True)
class TrainingOptions:
    """What the person who trains decides.

    ``erased_images``: see ``figures_of_test_part``.
    """

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
    loaders: int = FEWEST_LOADERS
    weights: Path | None = None
    images_per_class: int | None = None
    limit: int | None = None
    erased_images: int | None = None
    dataset: str = "the user's own images"
    citation: str = "no source given"


Say = Callable[[str], None]

#: No image is of this fold: all of them are divided.
NO_FOLD = -1


@dataclass(frozen=True)
class Trained:
    """What came of a training: where it was written, and how it did in one line.

    ``bundle`` is None where no report can be made with it: for two classes and pretraining.
    """

    directory: Path
    tested: str
    bundle: Bundle | None


@one_thread()
def train(options: TrainingOptions, say: Say = lambda message: None) -> Trained:
    """Train, calibrate and test a network, and write it to ``options.out``.

    The network learns from the training part alone, thresholds come from the calibration part, and
    the test fold is looked at once, at the end. ``say`` is told what is going on. Four classes
    become a bundle, two a network with its figures (``pipeline.training.two_classes``), kinds of
    cells weights to start from (``pipeline.training.pretraining``).

    Raises ConfigurationError if the data do not allow that.
    """
    recipe = _adapted(recipe_named(options.recipe), options)
    images, classes = _labelled_images(options, recipe)
    recipe = replace(recipe, classes=classes)
    split = _divide(images, options, recipe)
    learned, validation = _kept_for_validation(split, recipe, options)
    say(
        f"{len(learned)} images to train on, {len(validation)} to choose the epoch, "
        f"{len(split.calibration)} for thresholds, {len(split.test)} to test on"
    )
    if recipe.read_weights and options.weights is None:
        say("no --weights: all weights are random, also those the recipe takes pretrained")

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
            classes=classes,
            precision=options.precision,
            loaders=options.loaders,
            weights=options.weights,
        ),
        validation=validation,
        on_epoch=lambda record: say(_progress(record)),
    )
    model = _in_float32(model, recipe, classes)
    record = _training_record(options, recipe, split, history)
    if recipe.read is not None:
        say("testing")
        line = write_backbone(options.out, model, recipe, load, split.test, record)
        return Trained(options.out, line, None)
    if classes == TWO_CLASSES:
        say("testing")
        found = write_two_class_network(
            options.out, model, recipe, load, learned, split.test, record
        )
        return Trained(options.out, describe(found), None)
    bundle = _bundle(options, recipe, model, split, load, record, say)
    return Trained(options.out, bundle.record.tested, bundle)


def _bundle(
    options: TrainingOptions,
    recipe: Recipe,
    model: Any,
    split: Split,
    load: LoadImage,
    training: dict[str, Any],
    say: Say,
) -> Bundle:
    """References, thresholds, test and model card of a trained network of four classes."""
    network = Network(
        model,
        preprocessing=recipe.preprocessing,
        embedding_layer=recipe.embedding_layer,
        feature_map_layer=recipe.feature_map_layer,
    )
    say("embedding the reference images")
    references = embed_references(split.train, load, network, options.data)
    say("choosing thresholds on the calibration part")
    calibration = measure_calibration_part(split.calibration, network)
    thresholds = _thresholds(calibration, references, say)

    record = BundleRecord(
        name=recipe.name,
        labels=LABELS,
        preprocessing=recipe.preprocessing,
        embedding_layer=recipe.embedding_layer,
        feature_map_layer=recipe.feature_map_layer,
        thresholds=thresholds,
        quality_limits=calibration.quality_limits(recipe.preprocessing.exposed),
        tested="not tested yet",
        training=training,
        files={},
    )
    say("testing")
    record = _tested(record, Bundle(options.out, record, references), network, split, options)
    card = model_card(record)
    say("mapping the references")
    latent_map = LatentMap.fit(references)
    return write_bundle(
        options.out, network.model, references, card, record, calibration, latent_map
    )


def training_view(path: Path, preprocessing: Preprocessing) -> np.ndarray:
    """What the network is shown of a training field: all of it, as one tile."""
    tile = training_tile(path, preprocessing.tile_size, with_cells=preprocessing.needs_cells)
    return view_of(tile, preprocessing)


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
    if recipe.selection.validation_groups is None:
        return keep_fold_out(split.train, options.test_fold)
    if recipe.classes == TWO_CLASSES:
        return keep_out(split.train, recipe.selection.validation_groups, options.seed)
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


def _labelled_images(
    options: TrainingOptions, recipe: Recipe
) -> tuple[list[LabelledImage], Classes]:
    """All images of the folder, and what they are to be told apart as."""
    if recipe.read is not None:
        return recipe.read(options.data, options.work_dir)
    subtypes = has_subtypes(options.data)
    if options.splits is not None:
        images = read_folds(options.data, options.splits, options.fold_column)
    else:
        images = infer_folds(options.data) if subtypes else read_two_classes(options.data)
    return images, recipe.classes or (FOUR_CLASSES if subtypes else TWO_CLASSES)


def _divide(images: Sequence[LabelledImage], options: TrainingOptions, recipe: Recipe) -> Split:
    classes = recipe.classes or FOUR_CLASSES
    if options.limit is not None:
        images = limited(images, options.limit, classes)
    if recipe.read is not None:
        return split_kinds(images, options.test_fold)
    if classes == TWO_CLASSES:
        return split_two_classes(images, options.test_fold)
    return hold_out(images, options.test_fold, options.calibration_groups, options.seed)


def limited(images: Sequence[LabelledImage], limit: int, classes: Classes) -> list[LabelledImage]:
    """About ``limit`` images, the same number of each class, spread evenly over its files."""
    chosen: list[LabelledImage] = []
    for number in range(len(classes.names)):
        own = [image for image in images if classes.number_of(image.label) == number]
        wanted = min(len(own), max(1, limit // len(classes.names)))
        chosen += [own[round(position)] for position in np.linspace(0, len(own) - 1, wanted)]
    return sorted(chosen)


def _thresholds(calibration: CalibrationPart, references: References, say: Say) -> Thresholds:
    """Of too few images, thresholds that nothing passes: a training is not thrown away for that."""
    try:
        return calibration.thresholds(references)
    except ConfigurationError as error:
        say(
            f"the bundle never says `high`: {error}; `screen references calibrate --error 0.05 "
            "--missed 0.02` makes one that does"
        )
    return Thresholds(
        n_close=N_CLOSE,
        max_distance=-1.0,
        min_consensus=NEVER,
        calibration_images=len(calibration.labels),
        target_coverage=0.0,
        target_error=0.0,
        calibration_coverage=0.0,
        calibration_error=0.0,
    )


def _in_float32(model: Any, recipe: Recipe, classes: Classes) -> Any:
    """The same weights in a network that computes in float32, as every result does."""
    plain = recipe.build(len(classes.names))
    plain.set_weights(model.get_weights())
    return plain


def _tested(
    record: BundleRecord, bundle: Bundle, network: Network, split: Split, options: TrainingOptions
) -> BundleRecord:
    analyser = Analyser(bundle, network, AnalysisOptions(explain="none"))
    found = figures_of_test_part(analyser, split, options.erased_images)
    training = {**record.training, "test": found}
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
        # Whoever tests the bundle can then tell that it never saw the images.
        "seen": sorted(contents_of(image.path for image in (*split.train, *split.calibration))),
        "epochs": len(history),
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "precision": options.precision,
        "weights": options.weights.name if options.weights else "random",
        "best_epoch": recipe.selection.best(history) + 1 if recipe.selection else None,
        "optimiser": asdict(recipe.optimiser),
        "limited_to": options.limit,
        "images_per_class": recipe.sampling.images_per_class,
        "seed": options.seed,
        "history": curves,
        "software": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("keras", "numpy", "tensorflow")},
        },
    }
