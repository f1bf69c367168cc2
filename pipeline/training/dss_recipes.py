"""The recipes of Genovese, Piuri, Scotti 2024: embeddings that neighbours decide by.

docs/recipes.md says what the paper states, what its authors' program does and what is this
project's choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.preprocess import Preprocessing
from pipeline.training.kinds import KINDS, LEVELS, NOTHING, label_weights, labels_of
from pipeline.training.recipe import Classes, ExtraLoss, Optimiser, Recipe, Selection, cross_entropy
from pipeline.training.schedules import constant, stepwise

if TYPE_CHECKING:
    import keras

    from pipeline.models.dss import Backbone
    from pipeline.training.data import LabelledImage

GENOVESE = "Genovese, Piuri, Scotti 2024, Image and Vision Computing 151:105298"

#: Weight of the orthogonality penalty beside cross-entropy and triplet loss.
LAMBDA = 0.1

MOMENTUM = 0.9

#: The paper's 5e-4 is added to the gradient and so passes through the momentum, which in the long
#: run multiplies it by 1 / (1 - MOMENTUM); Keras takes it off the weights directly.
WEIGHT_DECAY = 5e-4 / (1 - MOMENTUM)

EPOCHS, WARM_UP_EPOCHS = 90, 2

#: The paper says nothing of the pretraining's rate; it is that of the warm-up, for fresh weights.
WARM_UP_RATE = 0.02


def class_weights(images: Mapping[str, int]) -> list[float]:
    """Weight of each class, all images over its own; a class without images counts as one."""
    return [sum(images.values()) / max(count, 1) for count in images.values()]


def _build(backbone: Backbone, classes: int) -> keras.Model:
    from pipeline.models.dss import build_dss

    return build_dss(backbone, classes)


def _read_weights(network: keras.Model, path: Path) -> None:
    from pipeline.models.dss import read_weights

    read_weights(network, path)


def _standardise(network: keras.Model, images: Iterable[np.ndarray]) -> None:
    from pipeline.models.dss import standardise

    standardise(network, images)


def _penalise(network: keras.Model) -> None:
    from pipeline.training.orthogonality import penalise

    penalise(network, LAMBDA)


def _cross_entropy(images: Mapping[str, int]) -> keras.losses.Loss:
    from pipeline.training.losses import WeightedCrossEntropy

    return WeightedCrossEntropy(class_weights(images))


def _triplets(images: Mapping[str, int]) -> keras.losses.Loss:
    from pipeline.training.losses import TripletMargin

    return TripletMargin(margin=1.0)


def _build_pretraining(backbone: Backbone, classes: int) -> keras.Model:
    from pipeline.models.dss import build_dss_pretraining

    return build_dss_pretraining(backbone, [len(level) for level in LEVELS], classes)


def _level(level: int, images: Mapping[str, int]) -> keras.losses.Loss:
    from pipeline.training.losses import MultilabelSoftMargin

    return MultilabelSoftMargin(labels_of(level, list(images)), label_weights(level, images))


def _read_kinds(root: Path, work_dir: Path) -> tuple[list[LabelledImage], Classes]:
    from pipeline.training.pretraining import read_kinds

    return read_kinds(root, work_dir)


def _turned(view: np.ndarray, rng: np.random.Generator, label: str) -> np.ndarray:
    from pipeline.training.augment import turned_and_mirrored

    return turned_and_mirrored(view, rng).astype(np.float32) / np.float32(255.0)


def _dss(backbone: Backbone, parameters: int, trainable: int, weights: str) -> Recipe:
    """``parameters`` and ``trainable`` are those with four classes."""
    recipe = Recipe(
        name=f"dss-{backbone}",
        source=GENOVESE,
        published="",
        build=partial(_build, backbone),
        preprocessing=Preprocessing(input_size=224),
        embedding_layer="embedding",
        feature_map_layer="features",
        parameters=parameters,
        trainable_parameters=trainable,
        epochs=EPOCHS,
        batch_size=8,
        learning_rate=2e-4,
        schedule=stepwise(every=20, factor=0.5),
        optimiser=Optimiser("SGD", momentum=MOMENTUM, weight_decay=WEIGHT_DECAY),
        loss=_cross_entropy,
        extra_losses=(ExtraLoss("embedding", _triplets),),
        augment=_turned,
        # Never stops early: the best of all epochs is taken.
        selection=Selection(None, patience=EPOCHS, monitor="validation_accuracy"),
        weights=weights,
        read_weights=_read_weights,
        prepare=_standardise,
        penalise=_penalise,
        votes=(3, 5),
    )
    warm_up = replace(
        recipe,
        name=f"{recipe.name}-warm-up",
        epochs=WARM_UP_EPOCHS,
        learning_rate=WARM_UP_RATE,
        schedule=constant,
        trained_layers=("probabilities",),
        loss=cross_entropy(0.0),
        extra_losses=(),
        selection=None,
    )
    return replace(recipe, first=warm_up)


def _pretraining(backbone: Backbone, parameters: int, trainable: int) -> Recipe:
    """``parameters`` and ``trainable`` are those for KINDS and nothing."""
    return replace(
        _dss(backbone, parameters, trainable, ""),
        name=f"dss-pretrain-{backbone}",
        build=partial(_build_pretraining, backbone),
        classes=Classes((*KINDS, NOTHING)),
        batch_size=16,
        learning_rate=WARM_UP_RATE,
        loss=None,
        extra_losses=(
            ExtraLoss("level1", partial(_level, 0)),
            ExtraLoss("level2", partial(_level, 1)),
            ExtraLoss("kinds", partial(_level, 2)),
        ),
        selection=None,
        first=None,
        votes=(),
        weights=None,
        read_weights=None,
        read=_read_kinds,
    )


OWN_WEIGHTS = "needed for sense: what the recipe dss-pretrain-{} writes"

DSS: tuple[Recipe, ...] = (
    _dss("resnet18", 11_188_170, 11_178_564, OWN_WEIGHTS.format("resnet18")),
    _dss("resnet34", 21_303_754, 21_286_724, OWN_WEIGHTS.format("resnet34")),
    _dss(
        "resnet50",
        23_595_914,
        23_542_788,
        f"{OWN_WEIGHTS.format('resnet50')}, or ImageNet, without top (.keras, ..._notop.h5)",
    ),
    _dss("vit-b16", 85_801_738, 85_801_732, OWN_WEIGHTS.format("vit-b16")),
)

DSS_PRETRAINING: tuple[Recipe, ...] = (
    _pretraining("resnet18", 11_195_352, 11_185_746),
    _pretraining("resnet34", 21_310_936, 21_293_906),
    _pretraining("resnet50", 23_624_600, 23_571_474),
    _pretraining("vit-b16", 85_812_504, 85_812_498),
)
