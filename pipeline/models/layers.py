"""Layers of this project that a saved network may contain.

``Network.load`` imports this module, so that Keras' safe mode knows them: a layer that is used in a
bundle is defined here or imported here.
"""

from __future__ import annotations

from typing import Any, Literal

import keras

# For those who read a saved network; see above.
from pipeline.models.vit import TokensWithPlaces

__all__ = ["Beside", "CentreZoom", "ImageNetInput", "TokensWithPlaces", "ZScores"]

#: What the networks of keras.applications were trained on, from RGB in 0..1.
Scaling = Literal["bytes", "symmetric", "caffe", "standardised"]

#: Mean of ImageNet, blue, green, red in 0..255: what VGG and ResNet subtract.
CAFFE_MEAN = (103.939, 116.779, 123.68)

#: Mean and standard deviation of ImageNet, RGB in 0..1: what DenseNet takes.
STANDARD_MEAN, STANDARD_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@keras.saving.register_keras_serializable(package="screen")
class ImageNetInput(keras.layers.Layer):
    """Turns RGB in 0..1 into what a network trained on ImageNet expects.

    ``bytes``: 0..255. ``symmetric``: -1..1. ``caffe``: BGR in 0..255 less the mean.
    ``standardised``: less the mean, over the standard deviation. The same numbers as
    ``preprocess_input`` of the network's module in keras.applications gives.
    """

    def __init__(self, scaling: Scaling, **options: Any) -> None:
        super().__init__(**options)
        self.scaling = scaling

    def call(self, image: Any) -> Any:
        """Same shape as the image, ``(batch, rows, columns, 3)``."""
        if self.scaling == "bytes":
            return image * 255.0
        if self.scaling == "symmetric":
            return image * 2.0 - 1.0
        if self.scaling == "caffe":
            return keras.ops.flip(image, axis=-1) * 255.0 - self._constant(CAFFE_MEAN)
        return (image - self._constant(STANDARD_MEAN)) / self._constant(STANDARD_DEVIATION)

    def _constant(self, values: tuple[float, ...]) -> Any:
        return keras.ops.convert_to_tensor(values, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The scaling, as Keras asks for."""
        return {**super().get_config(), "scaling": self.scaling}


@keras.saving.register_keras_serializable(package="screen")
class ZScores(keras.layers.Layer):
    """Less the mean of each channel, over its standard deviation; both are weights of the network.

    Unlike with ``keras.layers.Normalization``, weights that are copied from network to network
    count at once. Without any it changes nothing.
    """

    def build(self, input_shape: Any) -> None:
        """Make mean and deviation, each ``(channels,)``."""
        shape = (input_shape[-1],)
        self.mean = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="mean")
        self.deviation = self.add_weight(
            shape=shape, initializer="ones", trainable=False, name="deviation"
        )
        self.built = True

    def call(self, image: Any) -> Any:
        """Same shape as the image, ``(batch, rows, columns, channels)``."""
        return (image - self.mean) / self.deviation

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape


@keras.saving.register_keras_serializable(package="screen")
class CentreZoom(keras.layers.Layer):
    """Shows the middle of the image, resampled bilinearly through ``via`` to its own size.

    ``share``: part of the side that is shown.
    """

    def __init__(self, share: float, via: int, **options: Any) -> None:
        super().__init__(**options)
        self.share, self.via = share, via

    def call(self, image: Any) -> Any:
        """Same shape as the image, ``(batch, rows, columns, 3)``."""
        rows, columns = image.shape[1], image.shape[2]
        top, left = round(rows * (1 - self.share) / 2), round(columns * (1 - self.share) / 2)
        middle = image[:, top : rows - top, left : columns - left]
        larger = keras.ops.image.resize(middle, (self.via, self.via), interpolation="bilinear")
        return keras.ops.image.resize(larger, (rows, columns), interpolation="bilinear")

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Share and size, as Keras asks for."""
        return {**super().get_config(), "share": self.share, "via": self.via}


@keras.saving.register_keras_serializable(package="screen")
class Beside(keras.layers.Layer):
    """Passes its first input on unchanged; the second becomes part of the network by it.

    So a network can have an embedding that its own decision does not go through.
    """

    def call(self, inputs: Any) -> Any:
        """The first of the two inputs."""
        return keras.ops.copy(inputs[0])

    def compute_output_shape(self, input_shape: Any) -> Any:
        """That of the first input."""
        return input_shape[0]
