"""The training loop: resumable after any epoch, the same for every recipe."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from pipeline.labels import LABELS
from pipeline.training.augment import random_affine
from pipeline.training.data import LabelledImage
from pipeline.training.recipes import Recipe

LoadImage = Callable[[Path], np.ndarray]


class EpochBatches(keras.utils.PyDataset):
    """The batches of one epoch, in an order and with augmentation that seed and epoch decide."""

    def __init__(
        self,
        images: Sequence[LabelledImage],
        recipe: Recipe,
        load: LoadImage,
        seed: int,
        epoch: int,
    ) -> None:
        super().__init__(workers=1)
        self._load = load
        self._batch_size = recipe.batch_size
        self._seed = (seed, epoch)
        visits = [(image, False) for image in images]
        for image in images:
            if image.label in recipe.augmented_labels:
                visits += [(image, True)] * (recipe.augmented_repeats - 1)
        order = np.random.default_rng(self._seed).permutation(len(visits))
        self._visits = [visits[index] for index in order]

    def __len__(self) -> int:
        return math.ceil(len(self._visits) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Float32 images ``(batch, size, size, 3)`` in 0..1, int32 class numbers ``(batch,)``."""
        rng = np.random.default_rng((*self._seed, index))
        batch = self._visits[index * self._batch_size : (index + 1) * self._batch_size]
        images = []
        for image, augmented in batch:
            pixels = self._load(image.path)
            images.append(random_affine(pixels, rng) if augmented else pixels)
        labels = [LABELS.index(image.label) for image, _ in batch]
        return np.stack(images).astype(np.float32) / 255.0, np.array(labels, dtype=np.int32)


def learning_rate_at(recipe: Recipe, epoch: int, epochs: int) -> float:
    """Constant for ``constant_fraction`` of the epochs, then half a cosine towards zero."""
    constant = round(recipe.constant_fraction * epochs)
    if epoch < constant:
        return recipe.learning_rate
    progress = (epoch - constant + 1) / (epochs - constant + 1)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def fit(
    recipe: Recipe,
    train: Sequence[LabelledImage],
    load: LoadImage,
    work_dir: Path,
    *,
    epochs: int,
    seed: int,
    mixed_bfloat16: bool = False,
    on_epoch: Callable[[dict[str, float]], None] = lambda record: None,
) -> tuple[keras.Model, list[dict[str, float]]]:
    """Train ``recipe`` and return the network with one record (loss, accuracy, rate) per epoch.

    ``load`` gives the uint8 ``(input_size, input_size, 3)`` view of a file. After each
    epoch network, optimiser and records are written to ``work_dir``; a later call with the same
    ``work_dir`` goes on from there, with the batches it would have seen anyway.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    checkpoint = work_dir / "checkpoint.keras"
    history_file = work_dir / "history.json"
    keras.utils.set_random_seed(seed)
    if mixed_bfloat16:
        keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        if checkpoint.exists():
            network = keras.models.load_model(checkpoint)
            # A crash between the two writes leaves one record too few, never a wrong one.
            records = json.loads(history_file.read_text(encoding="utf-8"))
        else:
            network = recipe.build()
            network.compile(
                optimizer=keras.optimizers.Adam(recipe.learning_rate),
                loss="sparse_categorical_crossentropy",
                metrics=["accuracy"],
            )
            records = []
        for epoch in range(len(records), epochs):
            rate = learning_rate_at(recipe, epoch, epochs)
            network.optimizer.learning_rate = rate
            batches = EpochBatches(train, recipe, load, seed, epoch)
            result = network.fit(
                batches, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0
            ).history
            record = {
                "epoch": epoch + 1,
                "loss": float(result["loss"][-1]),
                "accuracy": float(result["accuracy"][-1]),
                "learning_rate": rate,
            }
            records.append(record)
            _replace(checkpoint, network.save)
            _replace(history_file, lambda path: path.write_text(json.dumps(records, indent=1)))
            on_epoch(record)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    return network, records


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    temporary = target.with_name(f"new-{target.name}")
    write(temporary)
    temporary.replace(target)
