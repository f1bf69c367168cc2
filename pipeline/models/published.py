"""Published networks around backbones of keras.applications, and their heads.

All take float32 ``(batch, 224, 224, 3)``, RGB in 0..1, and give float32 ``(batch, classes)``,
softmax probabilities, from a last dense layer called ``probabilities``.
"""

from __future__ import annotations

from typing import Any

import keras

from pipeline.models.all_net import DENSE_UNITS, DROPOUT_RATE
from pipeline.models.backbones import (
    FEATURE_MAP_LAYER,
    INPUT_SIZE,
    POOLED_LAYER,
    backbone_features,
)
from pipeline.models.layers import Beside, CentreZoom

#: Di Giammarco et al. 2024: the middle of the field, and the size it is resampled through.
CAM_ZOOM, CAM_VIA = 0.6, 256

TRANSFER_DROPOUT = 0.5


def build_comparator(backbone: str, classes: int) -> keras.Model:
    """A backbone under the head of ALL-Net, all of it trained.

    Thiriveedhi et al. 2025 compare ALL-Net with nine networks of keras.applications. Here each has
    ALL-Net's own head (mean over places, dense 256, 512 and 1024 with ReLU, dropout 0.2), so that
    what differs is the backbone.
    """
    image = keras.Input((INPUT_SIZE, INPUT_SIZE, 3), name="image")
    hidden = _mean(backbone_features(backbone, image))
    for number, units in enumerate(DENSE_UNITS, start=1):
        hidden = keras.layers.Dense(units, activation="relu", name=f"dense{number}")(hidden)
    hidden = keras.layers.Dropout(DROPOUT_RATE, name="dropout")(hidden)
    return _network(image, hidden, classes, backbone)


def build_transfer(backbone: str, classes: int) -> keras.Model:
    """A frozen backbone, its feature map flattened, dropout 0.5 and one dense layer.

    The mean over places is kept beside it as the embedding: the flattened map has 100,352 numbers
    for ResNet50, too many to search neighbours in.
    """
    image = keras.Input((INPUT_SIZE, INPUT_SIZE, 3), name="image")
    features = backbone_features(backbone, image, frozen=True)
    hidden = keras.layers.Flatten(name="flat")(features)
    hidden = Beside(name="beside")([hidden, _mean(features)])
    hidden = keras.layers.Dropout(TRANSFER_DROPOUT, name="dropout")(hidden)
    return _network(image, hidden, classes, f"{backbone}-transfer")


def build_cam_cnn(backbone: str, classes: int) -> keras.Model:
    """A backbone on the middle of the field (Di Giammarco et al. 2024), all of it trained.

    ``standard`` is a plain convolutional network; its layers are this project's choice. Backbones
    end in the mean over places and one dense layer, as class activation maps need it.
    """
    image = keras.Input((INPUT_SIZE, INPUT_SIZE, 3), name="image")
    middle = CentreZoom(CAM_ZOOM, CAM_VIA, dtype="float32", name="zoom")(image)
    if backbone != "standard":
        features = backbone_features(backbone, middle, mark=_placed)
        return _network(image, _mean(features), classes, f"cam-cnn-{backbone}")
    hidden = middle
    for number, filters in enumerate((32, 64, 128, 128), start=1):
        hidden = keras.layers.Conv2D(filters, 3, activation="relu", name=f"conv{number}")(hidden)
        hidden = keras.layers.MaxPooling2D(2, name=f"pool{number}")(hidden)
    hidden = keras.layers.Flatten(name="flat")(_placed(hidden))
    hidden = keras.layers.Dropout(0.5, name="dropout1")(hidden)
    hidden = keras.layers.Dense(512, activation="relu", name="dense1")(hidden)
    hidden = keras.layers.Dropout(0.5, name="dropout2")(hidden)
    hidden = keras.layers.Dense(256, activation="relu", name=POOLED_LAYER)(hidden)
    return _network(image, hidden, classes, "cam-cnn-standard")


def _mean(features: Any) -> Any:
    return keras.layers.GlobalAveragePooling2D(name=POOLED_LAYER)(features)


def _placed(features: Any) -> Any:
    """The feature map in the middle of a map of the whole field, and cut out of it again.

    Changes no number; but a heat map of the padded layer lies where the network looked, and not
    stretched over the margins it never saw.
    """
    rows = features.shape[1]
    margin = round(rows * (1 / CAM_ZOOM - 1) / 2)
    padded = keras.layers.ZeroPadding2D(margin, name=FEATURE_MAP_LAYER)(features)
    return keras.layers.Cropping2D(margin, name="seen")(padded)


def _network(image: Any, hidden: Any, classes: int, name: str) -> keras.Model:
    # Softmax stays in float32 when the rest trains in mixed precision.
    probabilities = keras.layers.Dense(
        classes, activation="softmax", dtype="float32", name="probabilities"
    )(hidden)
    return keras.Model(image, probabilities, name=name)
