"""Grad-CAM, similarity maps and Score-CAM against independent computations."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.explain.grad_cam import grad_cam
from pipeline.explain.perturbed import PerturbedScores
from pipeline.explain.score_cam import score_cam
from pipeline.labels import LABELS
from pipeline.neighbours import References
from tests.pipeline.explain.small import SIZE


def test_grad_cam_follows_from_finite_differences_of_the_logit(network, tile):
    import keras

    found = network.feature_gradients(network.input_of(tile), LABELS.index("pro_b"))
    cam = grad_cam(*found)
    model = network.model
    features = keras.Model(model.inputs, model.get_layer("features").output)
    maps = features.predict(tile.pixels[None] / np.float32(255), verbose=0)[0].astype(np.float64)
    kernels = [
        layer.get_weights() for layer in model.layers if isinstance(layer, keras.layers.Dense)
    ]
    (hidden_kernel, hidden_bias), (kernel, bias) = kernels

    def logit(values: np.ndarray) -> float:
        pooled = values.mean(axis=(0, 1))
        hidden = np.maximum(pooled @ hidden_kernel + hidden_bias, 0)
        return float(hidden @ kernel[:, 3] + bias[3])

    step = 1e-3
    importance = np.zeros(maps.shape[-1])
    for channel in range(maps.shape[-1]):
        up, down = maps.copy(), maps.copy()
        # Raising a whole channel sums the derivatives over its cells: cells x their mean.
        up[..., channel] += step
        down[..., channel] -= step
        importance[channel] = (logit(up) - logit(down)) / (2 * step) / maps[..., 0].size
    expected = np.maximum((maps * importance).sum(axis=-1), 0)
    assert expected.max() > 0
    np.testing.assert_allclose(cam, expected / expected.max(), atol=1e-4)


def test_similarity_maps_follow_from_finite_differences_of_the_similarity(network, tile):
    import keras

    image = network.input_of(tile)
    features, _ = network.feature_gradients(image, 0)
    rng = np.random.default_rng(8)
    stored = rng.uniform(0, 1, (4, 8)).astype(np.float32)
    references = References(stored, np.zeros(4, np.int8), ("a", "b", "c", "d"))
    slopes = references.similarity_gradients(["c", "a"])
    gradients = network.similarity_gradients(image, slopes)
    assert gradients.shape == (2, *features.shape)
    tail = keras.Model(
        network.model.get_layer("features").output, network.model.get_layer("embedding").output
    )

    def similarity(values: np.ndarray) -> np.ndarray:
        embedding = np.asarray(tail(values[None].astype(np.float32)))
        return references.normalise(stored[[2, 0]]) @ references.normalise(embedding)[0]

    # The head is linear between kinks, so that large steps are exact but for rounding.
    for _ in range(5):
        step = 1e-2 * rng.normal(size=features.shape)
        expected = (similarity(features + step) - similarity(features - step)) / 2
        np.testing.assert_allclose((gradients * step).sum(axis=(1, 2, 3)), expected, atol=2e-5)


def test_score_cam_weighs_channels_by_the_masked_image(network, tile):
    image = network.input_of(tile)
    features, _ = network.feature_gradients(image, 0)
    cam = score_cam(image[0], features, "early_b", PerturbedScores(network))
    expected = np.zeros(features.shape[:2])
    for channel in range(features.shape[-1]):
        values = features[..., channel]
        if np.ptp(values) == 0:
            continue
        scaled = ((values - values.min()) / np.ptp(values)).astype(np.float32)
        mask = cv2.resize(scaled, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        scores = network.probabilities(image * mask[None, :, :, None])
        expected += float(scores[0, LABELS.index("early_b")]) * values
    expected = np.maximum(expected, 0)
    assert expected.max() > 0
    np.testing.assert_allclose(cam, expected / expected.max(), atol=1e-5)


def test_channels_without_contrast_give_an_empty_map(network):
    blank = np.zeros((SIZE, SIZE, 3), np.float32)
    flat = np.ones((5, 5, 6))
    assert not score_cam(blank, flat, "early_b", PerturbedScores(network)).any()
