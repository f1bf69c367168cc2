"""The batches of an epoch: which images, in which order, augmented how; all of it from seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipeline.training.data import LabelledImage
from pipeline.training.recipe import Augment, Classes, Recipe, Sampling

LoadImage = Callable[[Path], np.ndarray]

#: Threads that prepare batches, at least. With one alone Keras leaves it to tf.data, whose thread
#: for tuning is waited for at the end of every epoch until it looks around next: with TensorFlow
#: 2.21 epochs of 15.4 s took 20.8 s, 5 s of them idle.
FEWEST_LOADERS = 2

#: Keeps the draw of surplus images apart from the batches, whose seeds end in their number.
_DRAW = 2**32 - 1


class EpochBatches(keras.utils.PyDataset):
    """The batches of one epoch, in an order and with augmentation that seed and epoch decide.

    ``outputs``: names of the outputs that the labels are compared with; without them the labels
    are a plain array.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        recipe: Recipe,
        load: LoadImage,
        *,
        classes: Classes,
        seed: int,
        epoch: int,
        outputs: Sequence[str] = (),
        loaders: int = FEWEST_LOADERS,
    ) -> None:
        super().__init__(workers=loaders)
        self._load = load
        self._load_example = recipe.example or load
        self._augment = recipe.augment
        self._mixing = recipe.mixing
        self._batch_size = recipe.batch_size
        self._classes = classes
        self._outputs = tuple(outputs)
        self._seed = (seed, epoch)
        visits = visits_of(images, recipe.sampling, classes, (*self._seed, _DRAW))
        order = np.random.default_rng(self._seed).permutation(len(visits))
        self._visits = [visits[index] for index in order]
        self._same_label: dict[str, list[LabelledImage]] = {}
        for image in images:
            self._same_label.setdefault(image.label, []).append(image)

    def __len__(self) -> int:
        return math.ceil(len(self._visits) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any]:
        """Float32 images ``(batch, rows, columns, 3)`` in 0..1, int32 class numbers ``(batch,)``.

        Where there are several outputs, the class numbers are given for each, by name.
        """
        rng = np.random.default_rng((*self._seed, index))
        batch = self._visits[index * self._batch_size : (index + 1) * self._batch_size]
        images = []
        for image, augmented in batch:
            if augmented and self._augment is not None:
                images.append(self._augmented(image, self._augment, rng))
            else:
                images.append(unit_range(self._load(image.path)))
        labels = np.array([self._classes.number_of(image.label) for image, _ in batch], np.int32)
        return np.stack(images), dict.fromkeys(self._outputs, labels) if self._outputs else labels

    def _augmented(
        self, image: LabelledImage, augment: Augment, rng: np.random.Generator
    ) -> np.ndarray:
        shown = augment(self._load_example(image.path), rng, image.label)
        if self._mixing is None or rng.random() >= self._mixing.share:
            return shown
        same = self._same_label[image.label]
        other = same[rng.integers(len(same))]
        joined = augment(self._load_example(other.path), rng, other.label)
        return self._mixing.join(shown, joined)


class PlainBatches(keras.utils.PyDataset):
    """Every image once, in its order, as it is: what a network is measured on."""

    def __init__(
        self,
        images: Sequence[LabelledImage],
        load: LoadImage,
        *,
        classes: Classes,
        batch_size: int,
        outputs: Sequence[str] = (),
    ) -> None:
        super().__init__(workers=FEWEST_LOADERS)
        self._images, self._load, self._classes = images, load, classes
        self._batch_size, self._outputs = batch_size, tuple(outputs)

    def __len__(self) -> int:
        return math.ceil(len(self._images) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any]:
        """The same as of ``EpochBatches``."""
        batch = self._images[index * self._batch_size : (index + 1) * self._batch_size]
        labels = np.array([self._classes.number_of(image.label) for image in batch], np.int32)
        images = np.stack([unit_range(self._load(image.path)) for image in batch])
        return images, dict.fromkeys(self._outputs, labels) if self._outputs else labels


def unit_range(view: np.ndarray) -> np.ndarray:
    """Turn uint8 ``(size, size, 3)`` into float32 in 0..1, as ``network_input`` does."""
    return view.astype(np.float32) / np.float32(255.0)


def visits_of(
    images: Sequence[LabelledImage], sampling: Sampling, classes: Classes, seed: Sequence[int]
) -> list[tuple[LabelledImage, bool]]:
    """Images as often as an epoch shows them, and whether augmented, each first visit first."""
    numbers = np.array([classes.number_of(image.label) for image in images])
    times = np.ones(len(images), int)
    rng = np.random.default_rng(seed)
    for number, name in enumerate(classes.names):
        (own,) = np.nonzero(numbers == number)
        if sampling.images_per_class is None:
            times[own] = sampling.repeats.get(name, 1)
        elif len(own):
            times[own] = sampling.images_per_class // len(own)
            times[rng.permutation(own)[: sampling.images_per_class % len(own)]] += 1
    counted = list(zip(images, times, strict=True))
    first = [(image, not sampling.first_as_is) for image, count in counted if count]
    more = [(image, True) for image, count in counted for _ in range(count - 1)]
    return first + more
