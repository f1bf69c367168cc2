"""Recipes from papers; docs/recipes.md says what they state and what is this project's choice.

Networks are built by functions that import Keras when they are called, so that recipes can be
listed without it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.preprocess import Preprocessing
from pipeline.training.recipe import TWO_CLASSES, Optimiser, Recipe, Sampling, Selection
from pipeline.training.schedules import constant_then_cosine

if TYPE_CHECKING:
    import keras

THIRIVEEDHI = "Thiriveedhi et al. 2025, PeerJ Computer Science, e2600"
SAMPATHILA = "Sampathila et al. 2022, Healthcare 10(10):1812"
DI_GIAMMARCO = "Di Giammarco et al. 2024"
MARINES = "Marines, public notebook on the Taleqani set"

IMAGENET_WEIGHTS = "optional: ImageNet, without top (.keras, .weights.h5, ..._notop.h5)"


def _build_all_net(classes: int) -> keras.Model:
    from pipeline.models.all_net import build_all_net

    return build_all_net(classes)


def _build_all_net_2022(classes: int) -> keras.Model:
    from pipeline.models.all_net_2022 import build_all_net_2022

    return build_all_net_2022(classes)


def _build_comparator(backbone: str, classes: int) -> keras.Model:
    from pipeline.models.published import build_comparator

    return build_comparator(backbone, classes)


def _build_transfer(backbone: str, classes: int) -> keras.Model:
    from pipeline.models.published import build_transfer

    return build_transfer(backbone, classes)


def _build_cam_cnn(backbone: str, classes: int) -> keras.Model:
    from pipeline.models.published import build_cam_cnn

    return build_cam_cnn(backbone, classes)


def _read_backbone(network: keras.Model, path: Path) -> None:
    from pipeline.models.backbones import read_backbone_weights

    read_backbone_weights(network, path)


def _read_onnx(network: keras.Model, path: Path) -> None:
    from pipeline.models.onnx_weights import read_mobilenet_v2

    read_mobilenet_v2(network, path)


def _moved(view: np.ndarray, rng: np.random.Generator, label: str) -> np.ndarray:
    from pipeline.training.augment import random_affine

    return random_affine(view, rng).astype(np.float32) / np.float32(255.0)


def _turned_and_spoilt(view: np.ndarray, rng: np.random.Generator, label: str) -> np.ndarray:
    from pipeline.training.augment import turned_and_spoilt

    return turned_and_spoilt(view, rng).astype(np.float32) / np.float32(255.0)


ALL_NET = Recipe(
    name="all-net",
    source=THIRIVEEDHI,
    published="accuracy 99.32 %, random split, benign images augmented",
    build=_build_all_net,
    preprocessing=Preprocessing(input_size=224),
    embedding_layer="dense1",
    feature_map_layer="pool3",
    parameters=1_097_604,
    epochs=50,
    batch_size=32,
    learning_rate=1e-3,
    # The paper trains at a constant rate; the fall only makes the last epoch a good one, so that no
    # epoch has to be picked by looking at held-out images.
    schedule=constant_then_cosine(0.6),
    augment=_moved,
    sampling=Sampling(repeats={"benign": 2}, first_as_is=True),
)

ALL_NET_PLAIN = replace(
    ALL_NET,
    name="all-net-plain",
    published="accuracy 97.85 %, random split, no augmentation",
    augment=None,
    sampling=Sampling(),
)


def _comparator(backbone: str, parameters: int, trainable: int, published: str = "") -> Recipe:
    return replace(
        ALL_NET,
        name=backbone,
        published=published,
        build=partial(_build_comparator, backbone),
        feature_map_layer="features",
        parameters=parameters,
        trainable_parameters=trainable,
        weights=IMAGENET_WEIGHTS,
        read_weights=_read_backbone,
    )


COMPARATORS = (
    _comparator("efficientnet", 5_038_503, 4_996_480),
    _comparator("mobilenetv3", 3_903_364, 3_878_964),
    _comparator("vgg16", 15_507_012, 15_507_012),
    _comparator("vgg19", 20_816_708, 20_816_708),
    _comparator("xception", 22_047_020, 21_992_492),
    _comparator("inceptionv3", 22_988_324, 22_953_892),
    _comparator("resnet50v2", 24_750_340, 24_704_900),
    _comparator("nasnetlarge", 86_610_262, 86_413_594),
    _comparator("densenet201", 19_474_756, 19_245_700, "accuracy 99.85 %, random split"),
)

ALL_NET_2022 = Recipe(
    name="allnet-2022",
    source=SAMPATHILA,
    published="accuracy 95.54 %, C-NMC 2019 cells, 5 folds by image",
    build=_build_all_net_2022,
    preprocessing=Preprocessing(input_size=450, tile_size=450, view="saturated"),
    embedding_layer="dense2",
    feature_map_layer="pool4",
    parameters=95_099_266,
    trainable_parameters=95_097_474,
    classes=TWO_CLASSES,
    epochs=65,
    batch_size=16,
    learning_rate=1e-5,
    augment=_turned_and_spoilt,
    sampling=Sampling(images_per_class=6000, first_as_is=True),
)

RESNET50_TRANSFER = Recipe(
    name="resnet50-transfer",
    source=MARINES,
    published="",
    build=partial(_build_transfer, "resnet50"),
    preprocessing=Preprocessing(input_size=224),
    embedding_layer="average",
    feature_map_layer="features",
    parameters=23_587_712 + 401_412,
    trainable_parameters=401_412,
    epochs=50,
    batch_size=32,
    learning_rate=1e-3,
    optimiser=Optimiser("Adam"),
    selection=Selection(validation_groups=1, patience=8),
    weights="needed for sense: ImageNet, without top (.keras, .weights.h5, ..._notop.h5)",
    read_weights=_read_backbone,
)

MOBILENETV2_TRANSFER = replace(
    RESNET50_TRANSFER,
    name="mobilenetv2-transfer",
    source="this project",
    build=partial(_build_transfer, "mobilenetv2"),
    parameters=2_257_984 + 250_884,
    trainable_parameters=250_884,
    weights="needed for sense: MobileNetV2 1.0 without top, ONNX",
    read_weights=_read_onnx,
)

MOBILENETV2_SMALL_TRANSFER = replace(
    MOBILENETV2_TRANSFER,
    name="mobilenetv2-0.35-transfer",
    build=partial(_build_transfer, "mobilenetv2-0.35"),
    parameters=410_208 + 250_884,
    weights="needed for sense: MobileNetV2 0.35 without top, ONNX",
)


def _cam_cnn(backbone: str, parameters: int, trainable: int) -> Recipe:
    takes_weights = backbone != "standard"
    return Recipe(
        name=f"cam-cnn-{backbone}",
        source=DI_GIAMMARCO,
        published="",
        build=partial(_build_cam_cnn, backbone),
        preprocessing=Preprocessing(input_size=224),
        embedding_layer="average",
        feature_map_layer="features",
        parameters=parameters,
        trainable_parameters=trainable,
        epochs=50,
        batch_size=8,
        learning_rate=1e-4,
        weights=IMAGENET_WEIGHTS if takes_weights else None,
        read_weights=_read_backbone if takes_weights else None,
    )


CAM_CNN = (
    _cam_cnn("resnet50", 23_595_908, 23_542_788),
    _cam_cnn("densenet121", 7_041_604, 6_957_956),
    _cam_cnn("vgg19", 20_026_436, 20_026_436),
    _cam_cnn("standard", 9_810_884, 9_810_884),
    _cam_cnn("inceptionv3", 21_810_980, 21_776_548),
    _cam_cnn("mobilenet", 3_232_964, 3_211_076),
)

PUBLISHED: tuple[Recipe, ...] = (
    ALL_NET,
    ALL_NET_PLAIN,
    *COMPARATORS,
    ALL_NET_2022,
    RESNET50_TRANSFER,
    MOBILENETV2_TRANSFER,
    MOBILENETV2_SMALL_TRANSFER,
    *CAM_CNN,
)
