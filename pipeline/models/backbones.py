"""The networks of keras.applications, without their tops, on RGB in 0..1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from pipeline.errors import ConfigurationError
from pipeline.models.layers import ImageNetInput, Scaling

INPUT_SIZE = 224

#: Name of the layer that gives the backbone's last feature map.
FEATURE_MAP_LAYER = "features"

#: Name of the layer that gives the mean of the feature map over all places.
POOLED_LAYER = "average"

#: What h5py and Keras raise for files that are damaged or another network's.
_UNUSABLE = (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError)


@dataclass(frozen=True)
class Backbone:
    """A network of keras.applications: what it is called there and what it is fed with."""

    constructor: str
    scaling: Scaling
    arguments: tuple[tuple[str, Any], ...] = ()


#: EfficientNet and MobileNetV3 scale their input themselves.
BACKBONES: dict[str, Backbone] = {
    "efficientnet": Backbone("EfficientNetB0", "bytes"),
    "mobilenetv3": Backbone("MobileNetV3Large", "bytes"),
    "vgg16": Backbone("VGG16", "caffe"),
    "vgg19": Backbone("VGG19", "caffe"),
    "xception": Backbone("Xception", "symmetric"),
    "inceptionv3": Backbone("InceptionV3", "symmetric"),
    "resnet50": Backbone("ResNet50", "caffe"),
    "resnet50v2": Backbone("ResNet50V2", "symmetric"),
    "nasnetlarge": Backbone("NASNetLarge", "symmetric"),
    "densenet121": Backbone("DenseNet121", "standardised"),
    "densenet201": Backbone("DenseNet201", "standardised"),
    "mobilenet": Backbone("MobileNet", "symmetric"),
    "mobilenetv2": Backbone("MobileNetV2", "symmetric"),
    "mobilenetv2-0.35": Backbone("MobileNetV2", "symmetric", (("alpha", 0.35),)),
}


def backbone_features(
    name: str, image: Any, *, frozen: bool = False, mark: Callable[[Any], Any] | None = None
) -> Any:
    """Last feature map ``(batch, rows, columns, channels)`` of a backbone with fresh weights.

    ``image``: symbolic, RGB in 0..1. ``frozen``: none of its weights is trained, and batch
    normalisation uses the stored means. ``mark`` gives the layer called FEATURE_MAP_LAYER where
    that is more than the backbone's output by this name.
    """
    chosen = BACKBONES[name]
    scaled = ImageNetInput(chosen.scaling, dtype="float32", name="imagenet_input")(image)
    build = getattr(keras.applications, chosen.constructor)
    backbone = build(include_top=False, weights=None, input_tensor=scaled, **dict(chosen.arguments))
    if frozen:
        backbone.trainable = False
    output = backbone.outputs[0]
    if mark is not None:
        return mark(output)
    return keras.layers.Activation("linear", name=FEATURE_MAP_LAYER)(output)


def read_backbone_weights(network: keras.Model, path: Path) -> None:
    """Put the weights of a backbone without top from a file of Keras into a network.

    ``path``: ``.keras``, ``.weights.h5``, or ``.h5`` as keras.applications publishes them
    (``..._notop.h5``). Raises ConfigurationError if it is no such file or another network's.
    """
    read_weights_into(backbone_of(network), path)


def read_weights_into(part: keras.Model, path: Path) -> None:
    """The same for any part of a network, whose weights the file has all and no others."""
    try:
        if path.suffix == ".keras":
            given = keras.models.load_model(path, compile=False, safe_mode=True)
            part.set_weights(given.get_weights())
        else:
            part.load_weights(path)
    except _UNUSABLE as error:
        raise ConfigurationError(
            f"{path} does not hold weights of this network without its top: {error}"
        ) from error


def backbone_of(network: keras.Model) -> keras.Model:
    """The part of a network up to its backbone's output; it shares the weights."""
    return keras.Model(network.inputs, network.get_layer(FEATURE_MAP_LAYER).input)
