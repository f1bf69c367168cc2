"""What a training needs to know, as data: networks and protocols are declared, never coded twice.

Nothing here imports Keras before a network, an optimiser or a loss is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.labels import LABELS
from pipeline.preprocess import Preprocessing
from pipeline.training.schedules import Schedule, constant

if TYPE_CHECKING:
    import keras

    from pipeline.training.data import LabelledImage

#: Turns a view, uint8 ``(size, size, 3)``, of an image with a label (or what ``Recipe.example``
#: gives of it) into float32 ``(rows, columns, 3)`` in 0..1. Rows and columns need not be those of
#: the view (networks without a fixed input size take any), but must be the same for all images of a
#: batch.
Augment = Callable[[np.ndarray, np.random.Generator, str], np.ndarray]


#: Joins two augmented images of one class to one of the same shape.
Join = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Mixing:
    """Images of one class shown together: a ``share`` of all is joined with a random other one."""

    share: float
    join: Join


@dataclass(frozen=True)
class Classes:
    """What a network tells apart: output number ``i`` is the probability of ``names[i]``."""

    names: tuple[str, ...]

    def number_of(self, label: str) -> int:
        """Output that stands for the label; every subtype is malignant to two classes.

        Raises ValueError for a label that is none of these.
        """
        if label in self.names:
            return self.names.index(label)
        if "malignant" in self.names and label in LABELS:
            return self.names.index("malignant")
        raise ValueError(f"{label} is none of the classes {', '.join(self.names)}")


FOUR_CLASSES = Classes(tuple(LABELS))
TWO_CLASSES = Classes(("benign", "malignant"))


@dataclass(frozen=True)
class Sampling:
    """Which images an epoch shows.

    ``repeats``: how often per epoch, by class name; once where a class is not named.
    ``images_per_class``: instead, so many of every class: each image as often as needed, the rest
    drawn anew in every epoch. ``first_as_is``: the first time in an epoch an image is shown
    unaugmented.
    """

    repeats: Mapping[str, int] = field(default_factory=dict)
    images_per_class: int | None = None
    first_as_is: bool = False


@dataclass(frozen=True)
class Optimiser:
    """An optimiser of Keras without its learning rate, which is the schedule's.

    ``weight_decay`` is decoupled (Loshchilov, Hutter 2019, arXiv:1711.05101); ``clip_norm`` limits
    the norm of all gradients together.
    """

    name: Literal["Adam", "AdamW", "SGD", "RMSprop"] = "Adam"
    momentum: float = 0.0
    weight_decay: float | None = None
    clip_norm: float | None = None

    def build(self, learning_rate: Any) -> keras.Optimizer:
        """A fresh optimiser with this rate or schedule."""
        import keras

        chosen: dict[str, Any] = {"global_clipnorm": self.clip_norm}
        if self.name in ("SGD", "RMSprop"):
            chosen["momentum"] = self.momentum
        if self.weight_decay is not None:
            chosen["weight_decay"] = self.weight_decay
        optimiser: keras.Optimizer = getattr(keras.optimizers, self.name)(learning_rate, **chosen)
        return optimiser


#: Takes the number of training images of each class, in the order of the classes, and gives a loss
#: of class numbers ``(batch,)`` and what a layer gives.
BuildLoss = Callable[[Mapping[str, int]], "keras.losses.Loss"]


@dataclass(frozen=True)
class ExtraLoss:
    """A loss on the output of an inner layer, beside the one on the probabilities."""

    layer: str
    build: BuildLoss
    weight: float = 1.0


@dataclass(frozen=True)
class Selection:
    """Early stopping and best epoch, on images of the training part that are not trained on.

    ``validation_groups``: so many groups of each class; None for the whole fold after the test
    fold. ``patience``: epochs without a better ``monitor`` after which training stops. The
    calibration and test parts are never looked at.
    """

    validation_groups: int | None
    patience: int
    monitor: Literal["validation_loss", "validation_accuracy"] = "validation_loss"

    def best(self, records: list[dict[str, float]]) -> int:
        """Position of the best record; of equally accurate ones that of least loss, the first."""

        def rank(i: int) -> tuple[float, float, int]:
            loss, accuracy = records[i]["validation_loss"], records[i]["validation_accuracy"]
            return (-accuracy if self.monitor == "validation_accuracy" else loss, loss, i)

        return min(range(len(records)), key=rank)

    def is_over(self, records: list[dict[str, float]]) -> bool:
        """Whether to stop after these records."""
        return bool(records) and len(records) - 1 - self.best(records) >= self.patience


def cross_entropy(smoothing: float) -> BuildLoss:
    """Cross-entropy of class numbers and probabilities, with label smoothing.

    Smoothing after Szegedy et al. 2016 (arXiv:1512.00567, section 7): the true class counts
    ``1 - smoothing``, and ``smoothing`` is shared by all.
    """

    def build(images: Mapping[str, int]) -> keras.losses.Loss:
        import keras

        if smoothing == 0:
            return keras.losses.SparseCategoricalCrossentropy()
        from pipeline.training.losses import SmoothedCrossEntropy

        return SmoothedCrossEntropy(len(images), smoothing)

    return build


_PLAIN_CROSS_ENTROPY = cross_entropy(0.0)


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained.

    ``build`` takes the number of classes and gives a network with fresh weights whose last layer
    is a dense softmax; ``embedding_layer`` and ``feature_map_layer`` are names of layers in it.
    ``parameters`` and ``trainable_parameters`` are those with ``classes`` (four unless the recipe
    has its own). ``mixing`` applies to augmented images. ``read_weights`` puts pretrained weights
    from a file into the network and raises ConfigurationError where they don't fit; ``weights``
    says in words which ones it takes.

    ``prepare`` sets what the network takes from the training part before it is trained on it, whose
    images it is given as float32 ``(input_size, input_size, 3)`` in 0..1. ``penalise`` puts
    regularisers on weights. ``first`` is a training of the same network that comes before, as
    another recipe says: its epochs, rate, optimiser, losses and layers count, nothing else.
    ``trained_layers`` are the only ones that change, all where it is None. ``votes``: two-class
    networks are also judged by the vote of so many nearest training images.

    ``read`` is there where classes are no diagnoses: it takes the folder of images and the work
    directory and gives the images with what they are told apart as. Such a network pretrains a
    backbone, which is all that is written, and need not end in a dense layer. ``loss`` is None
    where only the extra losses count.
    """

    name: str
    source: str
    published: str
    build: Callable[[int], keras.Model]
    preprocessing: Preprocessing
    embedding_layer: str
    feature_map_layer: str
    parameters: int
    epochs: int
    batch_size: int
    learning_rate: float
    trainable_parameters: int | None = None
    classes: Classes | None = None
    schedule: Schedule = constant
    optimiser: Optimiser = Optimiser()
    loss: BuildLoss | None = _PLAIN_CROSS_ENTROPY
    extra_losses: tuple[ExtraLoss, ...] = ()
    augment: Augment | None = None
    mixing: Mixing | None = None
    example: Callable[[Path], np.ndarray] | None = None
    sampling: Sampling = Sampling()
    selection: Selection | None = None
    weights: str | None = None
    read_weights: Callable[[keras.Model, Path], None] | None = None
    prepare: Callable[[keras.Model, Iterable[np.ndarray]], None] | None = None
    penalise: Callable[[keras.Model], None] | None = None
    first: Recipe | None = None
    trained_layers: tuple[str, ...] | None = None
    votes: tuple[int, ...] = ()
    read: Callable[[Path, Path], tuple[list[LabelledImage], Classes]] | None = None
