"""The network: from tiles to class scores and an embedding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS
from pipeline.preprocess import Preprocessing, network_input, view_of
from pipeline.quiet import load_keras
from pipeline.types import ClassScores, FieldGeometry, FieldTile


class Network:
    """A trained Keras network with the two inner layers the pipeline looks at.

    Inputs are float32 ``(batch, input_size, input_size, 3)``, RGB in 0..1.
    """

    def __init__(
        self,
        model: Any,
        *,
        preprocessing: Preprocessing,
        embedding_layer: str,
        feature_map_layer: str,
    ) -> None:
        load_keras()
        import keras
        import tensorflow as tf

        self.model = model
        self.preprocessing = preprocessing
        self.feature_map_layer = feature_map_layer
        inner = keras.Model(
            model.inputs,
            [model.get_layer(embedding_layer).output, model.outputs[0]],
        )
        shape = (None, preprocessing.input_size, preprocessing.input_size, 3)
        signature = [tf.TensorSpec(shape, tf.float32)]
        self._embed_and_score: Callable[..., Any] = tf.function(
            lambda images: inner(images, training=False), input_signature=signature
        )
        self._feature_gradients: Callable[..., Any] = tf.function(
            _feature_gradients_of(model, feature_map_layer),
            input_signature=[*signature, tf.TensorSpec((), tf.int32)],
        )
        self._similarity_gradients: Callable[..., Any] = tf.function(
            _similarity_gradients_of(model, feature_map_layer, embedding_layer)
        )

    @classmethod
    def load(cls, path: Path, **layers: Any) -> Network:
        """Read a ``.keras`` file; refuses files that carry code (Keras' safe mode)."""
        load_keras()
        import keras

        # Makes this project's layers known to Keras.
        import pipeline.models.layers  # noqa: F401

        try:
            model = keras.models.load_model(path, compile=False, safe_mode=True)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(f"{path} is not a network Keras can load: {error}") from error
        return cls(model, **layers)

    def input_of(self, tile: FieldTile) -> np.ndarray:
        """The network input that shows the tile, float32 ``(1, input_size, input_size, 3)``."""
        return network_input(view_of(tile, self.preprocessing))

    def embed_and_score(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings ``(batch, dimensions)`` and probabilities ``(batch, classes)``, float32."""
        embeddings, probabilities = self._embed_and_score(images)
        return embeddings.numpy(), probabilities.numpy()

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities float32 ``(batch, classes)``."""
        return self.embed_and_score(images)[1]

    def feature_gradients(self, image: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Last feature map of one image and the gradient of a class score with respect to it.

        The score is the logit of class ``number``, before the softmax, as Grad-CAM asks for. Both
        arrays are float64 ``(rows, columns, channels)``.
        """
        features, gradients = self._feature_gradients(image, number)
        return features.numpy()[0].astype(np.float64), gradients.numpy()[0].astype(np.float64)

    def similarity_gradients(self, image: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Gradients of ``directions @ embedding`` with respect to the last feature map.

        ``directions``: ``(n, dimensions)``. Float64 ``(n, rows, columns, channels)``.
        """
        found = self._similarity_gradients(image, directions.astype(np.float32))
        return np.stack([gradient.numpy()[0] for gradient in found]).astype(np.float64)


def _similarity_gradients_of(
    model: Any, feature_map_layer: str, embedding_layer: str
) -> Callable[[Any, Any], Any]:
    """Build the function behind ``Network.similarity_gradients``."""
    import keras
    import tensorflow as tf

    layers = [model.get_layer(name).output for name in (feature_map_layer, embedding_layer)]
    inner = keras.Model(model.inputs, layers)

    def gradients_of(image: Any, directions: Any) -> Any:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(image)
            features, embedding = inner(image, training=False)
            along = tf.unstack(tf.linalg.matvec(directions, embedding[0]))
        return [tape.gradient(value, features) for value in along]

    return gradients_of


def _feature_gradients_of(model: Any, feature_map_layer: str) -> Callable[[Any, Any], Any]:
    """Build the function behind ``Network.feature_gradients``."""
    import keras
    import tensorflow as tf

    head = model.layers[-1]
    inner = keras.Model(model.inputs, [model.get_layer(feature_map_layer).output, head.input])

    def gradients_of(image: Any, number: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(image)
            features, hidden = inner(image, training=False)
            logits = tf.matmul(hidden, head.kernel) + head.bias
            score = logits[0, number]
        return features, tape.gradient(score, features)

    return gradients_of


def classify(geometry: FieldGeometry, network: Network) -> ClassScores:
    """Score every tile and combine them.

    A field's probabilities and embedding are the means over its tiles, weighted by the white cells
    in each; tiles without white cells do not count unless no tile has any. With one tile they are
    that tile's.
    """
    scored = [network.embed_and_score(network.input_of(tile)) for tile in geometry.tiles]
    embeddings = np.concatenate([embedding for embedding, _ in scored]).astype(np.float64)
    tile_probabilities = np.concatenate([scores for _, scores in scored]).astype(np.float64)
    tile_probabilities /= tile_probabilities.sum(axis=1, keepdims=True)

    cells = np.array([tile.cell_count for tile in geometry.tiles], dtype=np.float64)
    weights = cells if cells.any() else np.ones(len(geometry.tiles))
    weights = weights / weights.sum()
    probabilities = weights @ tile_probabilities
    winner = int(probabilities.argmax())
    return ClassScores(
        label=LABELS[winner],
        probabilities=probabilities,
        embedding=(weights @ embeddings).astype(np.float32),
        tile_probabilities=tile_probabilities,
        decisive_tile=int((weights * tile_probabilities[:, winner]).argmax()),
    )
