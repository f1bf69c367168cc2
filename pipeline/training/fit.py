"""The training loop: resumable after any epoch, the same for every recipe and Keras backend."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.training.batches import (
    FEWEST_LOADERS,
    EpochBatches,
    LoadImage,
    PlainBatches,
    unit_range,
)
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.data import LabelledImage
from pipeline.training.recipe import FOUR_CLASSES, Classes, Recipe
from pipeline.training.schedules import rates

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]

#: Name of the main output where a recipe compares inner layers with the labels too.
PROBABILITIES = "probabilities"

#: Folder in the work directory where the training that comes first is kept.
FIRST = "first"


@dataclass(frozen=True)
class FitOptions:
    """What the person who trains decides about the loop.

    ``loaders``: threads that prepare batches; the batches are the same however many.
    ``weights``: file for ``Recipe.read_weights``.
    """

    epochs: int
    seed: int
    classes: Classes = FOUR_CLASSES
    precision: Precision = "float32"
    loaders: int = FEWEST_LOADERS
    weights: Path | None = None


class TabledRate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate looked up by step, float32 ``(steps,)``; the last holds from there on."""

    def __init__(self, table: np.ndarray) -> None:
        self._table = table

    def __call__(self, step: Any) -> Any:
        """The rate of a step."""
        last = len(self._table) - 1
        index = keras.ops.minimum(keras.ops.cast(step, "int32"), last)
        return keras.ops.take(keras.ops.convert_to_tensor(self._table), index)

    def get_config(self) -> dict[str, Any]:
        """The table, as Keras asks for."""
        return {"table": self._table.tolist()}


def fit(
    recipe: Recipe,
    train: Sequence[LabelledImage],
    load: LoadImage,
    work_dir: Path,
    options: FitOptions,
    *,
    validation: Sequence[LabelledImage] = (),
    on_epoch: Callable[[dict[str, float]], None] = lambda record: None,
) -> tuple[keras.Model, list[dict[str, float]]]:
    """Train ``recipe`` and return the network with one record per epoch.

    A record has epoch, loss, accuracy, learning_rate (of the last step) and seconds, with
    ``validation`` also validation_loss and validation_accuracy. ``load`` gives the uint8
    ``(input_size, input_size, 3)`` view of a file. ``on_epoch`` also gets the records of
    ``recipe.first``, which are not returned.

    After each epoch everything is written to ``work_dir``; a later call with the same ``work_dir``
    goes on from there, with the batches it would have seen anyway. With ``recipe.selection`` the
    weights of the best epoch are returned, else those of the last.

    Raises ConfigurationError if ``work_dir`` holds another training, weights do not fit, or the
    loss is no longer a number.
    """
    keras.utils.set_random_seed(options.seed)
    keras.mixed_precision.set_dtype_policy(options.precision)
    try:
        network = recipe.build(len(options.classes.names))
        if options.weights is not None:
            _read_weights(recipe, network, options.weights)
        if recipe.prepare is not None:
            recipe.prepare(network, (unit_range(load(image.path)) for image in train))
        if recipe.penalise is not None:
            recipe.penalise(network)
        if recipe.first is not None:
            # A short trial has no longer first part than main one.
            shorter = replace(options, epochs=min(options.epochs, recipe.first.epochs))
            _train(recipe.first, network, train, (), load, work_dir / FIRST, shorter, on_epoch)
        records = _train(recipe, network, train, validation, load, work_dir, options, on_epoch)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    return network, records


def _train(
    recipe: Recipe,
    network: keras.Model,
    train: Sequence[LabelledImage],
    validation: Sequence[LabelledImage],
    load: LoadImage,
    work_dir: Path,
    options: FitOptions,
    on_epoch: Callable[[dict[str, float]], None],
) -> list[dict[str, float]]:
    """Train a network on from its weights and return the records."""
    with _only_trained(network, recipe.trained_layers):
        outputs = _outputs(recipe)
        trained = _compiled(recipe, network, outputs, options, train, load)
        checkpoint = Checkpoint(work_dir, _settings(recipe, options, train, validation))
        records = checkpoint.restore(trained, trained.optimizer)
        while len(records) < options.epochs and not _is_over(recipe, records):
            record = _epoch(recipe, trained, train, load, options, len(records), outputs)
            record |= _measured(trained, validation, load, recipe, options, outputs)
            records.append(record)
            if recipe.selection and recipe.selection.best(records) == len(records) - 1:
                checkpoint.save_best(network)
            # After the best weights: a crash in between repeats the epoch, with the same result.
            checkpoint.save(trained, trained.optimizer, records)
            on_epoch(record)
        if recipe.selection:
            checkpoint.restore_best(network)
    return records


@contextmanager
def _only_trained(network: keras.Model, names: Sequence[str] | None) -> Iterator[None]:
    """Freeze all layers but those named, for a while; batch normalisation then uses its means."""
    before = [layer.trainable for layer in network.layers]
    for layer in network.layers:
        layer.trainable = layer.trainable and (names is None or layer.name in names)
    try:
        yield
    finally:
        for layer, trainable in zip(network.layers, before, strict=True):
            layer.trainable = trainable


def _read_weights(recipe: Recipe, network: keras.Model, path: Path) -> None:
    if recipe.read_weights is None:
        raise ConfigurationError(
            f"the recipe {recipe.name} takes no pretrained weights; leave --weights out"
        )
    recipe.read_weights(network, path)


def _outputs(recipe: Recipe) -> tuple[str, ...]:
    """Names of the outputs that have a loss; none where the network has one output.

    They are numbered, as several losses may look at one layer.
    """
    if not recipe.extra_losses:
        return ()
    return (PROBABILITIES, *(f"extra{number}" for number, _ in enumerate(recipe.extra_losses)))


def _compiled(
    recipe: Recipe,
    network: keras.Model,
    outputs: Sequence[str],
    options: FitOptions,
    train: Sequence[LabelledImage],
    load: LoadImage,
) -> keras.Model:
    """The network, with inner layers as further outputs where losses look at them."""
    steps = len(
        EpochBatches(train, recipe, load, classes=options.classes, seed=options.seed, epoch=0)
    )
    table = rates(recipe.schedule, recipe.learning_rate, options.epochs, steps)
    optimiser = recipe.optimiser.build(TabledRate(table))
    images = images_of_classes(train, options.classes)
    loss: Any = recipe.loss(images) if recipe.loss else None
    metrics: Any = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    weights: Any = None
    trained = network
    if outputs:
        extras = dict(zip(outputs[1:], recipe.extra_losses, strict=True))
        inner = {name: network.get_layer(extra.layer).output for name, extra in extras.items()}
        trained = keras.Model(network.inputs, {PROBABILITIES: network.outputs[0], **inner})
        loss = {PROBABILITIES: loss} | {name: e.build(images) for name, e in extras.items()}
        weights = {PROBABILITIES: 1.0} | {name: extra.weight for name, extra in extras.items()}
        metrics = {PROBABILITIES: metrics}
    trained.compile(optimizer=optimiser, loss=loss, loss_weights=weights, metrics=metrics)
    trained.optimizer.build(trained.trainable_variables)
    return trained


def images_of_classes(images: Sequence[LabelledImage], classes: Classes) -> dict[str, int]:
    """How many images each class has, by its name and in the order of the classes."""
    numbers = Counter(classes.number_of(image.label) for image in images)
    return {name: numbers[number] for number, name in enumerate(classes.names)}


def _epoch(
    recipe: Recipe,
    trained: keras.Model,
    train: Sequence[LabelledImage],
    load: LoadImage,
    options: FitOptions,
    epoch: int,
    outputs: Sequence[str],
) -> dict[str, float]:
    started = time.monotonic()
    batches = EpochBatches(
        train,
        recipe,
        load,
        classes=options.classes,
        seed=options.seed,
        epoch=epoch,
        outputs=outputs,
        loaders=options.loaders,
    )
    result = trained.fit(
        batches, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0
    ).history
    record = {
        "epoch": epoch + 1,
        **_figures({name: values[-1] for name, values in result.items()}),
        "learning_rate": recipe.learning_rate
        * recipe.schedule(epoch + 1 - 1 / len(batches), options.epochs),
        "seconds": round(time.monotonic() - started, 1),
    }
    if not np.isfinite(record["loss"]):
        raise ConfigurationError(
            f"the loss of epoch {epoch + 1} is {record['loss']}: the training diverged; use "
            "float32 or another seed, or look for broken images"
        )
    return record


def _measured(
    trained: keras.Model,
    validation: Sequence[LabelledImage],
    load: LoadImage,
    recipe: Recipe,
    options: FitOptions,
    outputs: Sequence[str],
) -> dict[str, float]:
    if not validation:
        return {}
    batches = PlainBatches(
        validation,
        load,
        classes=options.classes,
        batch_size=recipe.batch_size,
        outputs=outputs,
    )
    result = trained.evaluate(batches, verbose=0, return_dict=True)
    return {f"validation_{name}": value for name, value in _figures(result).items()}


def _figures(result: dict[str, Any]) -> dict[str, float]:
    """Loss and accuracy, by the same names however many outputs there are."""
    accuracy = next(value for name, value in result.items() if name.endswith("accuracy"))
    return {"loss": float(result["loss"]), "accuracy": float(accuracy)}


def _is_over(recipe: Recipe, records: list[dict[str, float]]) -> bool:
    return recipe.selection is not None and recipe.selection.is_over(records)


def _settings(
    recipe: Recipe,
    options: FitOptions,
    train: Sequence[LabelledImage],
    validation: Sequence[LabelledImage],
) -> dict[str, Any]:
    """What must be the same for a checkpoint to be gone on from."""
    return {
        "recipe": recipe.name,
        "epochs": options.epochs,
        "seed": options.seed,
        "classes": list(options.classes.names),
        "precision": options.precision,
        "images": [len(train), len(validation)],
        "weights": options.weights.name if options.weights else None,
    }
