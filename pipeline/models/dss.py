"""The networks of Genovese, Piuri, Scotti 2024 (dss): a backbone, its features, one dense layer.

All take float32 ``(batch, 224, 224, 3)``, RGB in 0..1, and give float32 ``(batch, classes)``,
softmax probabilities. Their input is standardised by numbers of the training part, which the
network keeps (``standardise``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import keras
import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.models.backbones import FEATURE_MAP_LAYER, INPUT_SIZE, read_weights_into
from pipeline.models.layers import Beside, ZScores
from pipeline.models.resnet import resnet_features
from pipeline.models.vit import vit_features

Backbone = Literal["resnet18", "resnet34", "resnet50", "vit-b16"]

BACKBONES: tuple[Backbone, ...] = get_args(Backbone)

INPUT_LAYER = "zscores"
EMBEDDING_LAYER = "embedding"
OUTPUT_LAYER = "probabilities"
KINDS_LAYER = "kinds"


def build_dss(backbone: Backbone, classes: int) -> keras.Model:
    """Build the network with fresh weights; ``embedding`` is what the neighbours are searched by.

    That is the mean over places of a ResNet (512 numbers, 2,048 for ResNet50) and the class token
    of ViT-B/16 (768).
    """
    image = keras.Input((INPUT_SIZE, INPUT_SIZE, 3), name="image")
    embedding = embedding_of(backbone, image)
    probabilities = keras.layers.Dense(
        classes, activation="softmax", dtype="float32", name=OUTPUT_LAYER
    )(embedding)
    return keras.Model(image, probabilities, name=f"dss-{backbone}")


def build_dss_pretraining(backbone: Backbone, levels: Sequence[int], classes: int) -> keras.Model:
    """The backbone under parallel heads, for its pretraining; fresh weights.

    ``levels``: outputs of the heads ``level1``, ``level2`` and so on, one after the other; a last
    one, ``kinds``, has ``classes``. All heads give logits, float32; the network itself gives the
    softmax of ``kinds``.
    """
    image = keras.Input((INPUT_SIZE, INPUT_SIZE, 3), name="image")
    embedding = embedding_of(backbone, image)
    heads = [
        keras.layers.Dense(count, dtype="float32", name=f"level{number}")(embedding)
        for number, count in enumerate(levels, start=1)
    ]
    hidden = keras.layers.Dense(classes, dtype="float32", name=KINDS_LAYER)(embedding)
    # Heads that the output does not depend on are part of the network all the same.
    for number, head in enumerate(heads, start=1):
        hidden = Beside(dtype="float32", name=f"beside_level{number}")([hidden, head])
    output = keras.layers.Softmax(dtype="float32", name=OUTPUT_LAYER)(hidden)
    return keras.Model(image, output, name=f"dss-pretrain-{backbone}")


def embedding_of(backbone: Backbone, image: Any) -> Any:
    """Embedding ``(batch, dimensions)``, float32, of a symbolic image in 0..1."""
    scaled = ZScores(dtype="float32", name=INPUT_LAYER)(image)
    if backbone == "vit-b16":
        features = vit_features(scaled, FEATURE_MAP_LAYER)
        return keras.layers.Activation("linear", dtype="float32", name=EMBEDDING_LAYER)(features)
    if backbone == "resnet50":
        features = keras.applications.ResNet50(
            include_top=False, weights=None, input_tensor=scaled
        ).outputs[0]
    else:
        features = resnet_features(int(backbone.removeprefix("resnet")), scaled)
    features = keras.layers.Activation("linear", name=FEATURE_MAP_LAYER)(features)
    return keras.layers.GlobalAveragePooling2D(dtype="float32", name=EMBEDDING_LAYER)(features)


def standardise(network: keras.Model, images: Iterable[np.ndarray]) -> None:
    """Give the network the mean and standard deviation of each channel over all pixels of images.

    ``images``: float32 ``(rows, columns, 3)`` in 0..1. Raises ConfigurationError without images.
    """
    pixels, total, squares = 0, np.zeros(3), np.zeros(3)
    for image in images:
        values = image.reshape(-1, 3).astype(np.float64)
        pixels += len(values)
        total += values.sum(axis=0)
        squares += (values**2).sum(axis=0)
    if pixels == 0:
        raise ConfigurationError("there are no images to take the mean and the deviation of")
    mean = total / pixels
    deviation = np.sqrt(np.maximum(squares / pixels - mean**2, 0.0))
    # A channel that never changes is only moved to zero.
    deviation[deviation < 1e-6] = 1.0
    network.get_layer(INPUT_LAYER).set_weights([mean, deviation])


def backbone_of(network: keras.Model) -> keras.Model:
    """The part from standardised input to embedding; it shares the weights."""
    return keras.Model(
        network.get_layer(INPUT_LAYER).output, network.get_layer(EMBEDDING_LAYER).output
    )


def read_weights(network: keras.Model, path: Path) -> None:
    """Put the weights of a backbone into a network: of its pretraining, or of keras.applications.

    Raises ConfigurationError if the file is not of that backbone.
    """
    read_weights_into(backbone_of(network), path)
