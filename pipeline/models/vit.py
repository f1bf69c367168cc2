"""ViT-B/16: a transformer on patches of 16x16 pixels.

Dosovitskiy et al. 2021, "An image is worth 16x16 words" (arXiv:2010.11929), table 1 and section
3.1: patches are embedded, a class token is put before them, learned positions are added, and twelve
encoder blocks follow, each attention and a perceptron, both normalised before and added to what
went in. The class token of the last, normalised, stands for the image.
"""

from __future__ import annotations

from typing import Any

import keras

PATCH, WIDTH, DEPTH, HEADS, MLP_UNITS = 16, 768, 12, 12, 3072
EPSILON = 1e-6


@keras.saving.register_keras_serializable(package="screen")
class TokensWithPlaces(keras.layers.Layer):
    """Puts a learned class token before the patches and adds a learned vector to each place."""

    def build(self, input_shape: Any) -> None:
        """Make the token ``(1, 1, width)`` and the places ``(1, patches + 1, width)``."""
        _, patches, width = input_shape
        normal = keras.initializers.TruncatedNormal(stddev=0.02)
        self.token = self.add_weight(shape=(1, 1, width), initializer="zeros", name="token")
        self.places = self.add_weight(
            shape=(1, patches + 1, width), initializer=normal, name="places"
        )
        self.built = True

    def call(self, patches: Any) -> Any:
        """From ``(batch, patches, width)`` to ``(batch, patches + 1, width)``."""
        count, width = keras.ops.shape(patches)[0], patches.shape[-1]
        token = keras.ops.cast(self.token, self.compute_dtype)
        tokens = keras.ops.broadcast_to(token, (count, 1, width))
        joined = keras.ops.concatenate([tokens, patches], axis=1)
        return joined + keras.ops.cast(self.places, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """One place more than in the input."""
        return (input_shape[0], input_shape[1] + 1, input_shape[2])


def vit_features(image: Any, feature_map_layer: str) -> Any:
    """Features ``(batch, 768)`` of ViT-B/16 with fresh weights.

    ``image``: symbolic ``(batch, side, side, 3)``, side a multiple of 16. With 224 there are
    85,798,656 parameters. The layer ``feature_map_layer`` gives the patches as they enter the last
    block, ``(batch, side / 16, side / 16, 768)``: after it nothing goes from patches to the
    decision.
    """
    hidden = keras.layers.Conv2D(WIDTH, PATCH, PATCH, name="patches")(image)
    rows, columns = hidden.shape[1:3]
    hidden = keras.layers.Reshape((rows * columns, WIDTH), name="sequence")(hidden)
    hidden = TokensWithPlaces(name="tokens")(hidden)
    for number in range(1, DEPTH):
        hidden = _block(hidden, f"block{number}")
    token = keras.layers.Cropping1D((0, rows * columns), name="token_before_last")(hidden)
    patches = keras.layers.Cropping1D((1, 0), name="patches_before_last")(hidden)
    field = keras.layers.Reshape((rows, columns, WIDTH), name=feature_map_layer)(patches)
    patches = keras.layers.Reshape((rows * columns, WIDTH), name="sequence_before_last")(field)
    hidden = keras.layers.Concatenate(axis=1, name="joined_before_last")([token, patches])
    hidden = _block(hidden, f"block{DEPTH}")
    token = keras.layers.Cropping1D((0, rows * columns), name="token_after_last")(hidden)
    token = keras.layers.LayerNormalization(epsilon=EPSILON, name="normalised")(token)
    return keras.layers.Flatten(name="class_token")(token)


def _block(hidden: Any, name: str) -> Any:
    inner = keras.layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm1")(hidden)
    inner = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"{name}_attention")(
        inner, inner
    )
    hidden = keras.layers.Add(name=f"{name}_add1")([hidden, inner])
    inner = keras.layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm2")(hidden)
    inner = keras.layers.Dense(MLP_UNITS, activation="gelu", name=f"{name}_mlp1")(inner)
    inner = keras.layers.Dense(WIDTH, name=f"{name}_mlp2")(inner)
    return keras.layers.Add(name=f"{name}_add2")([hidden, inner])
