"""Losses against their formulas written out in NumPy, and their gradients against differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.training.losses import MultilabelSoftMargin, TripletMargin, WeightedCrossEntropy
from pipeline.training.orthogonality import Orthogonality

RNG = np.random.default_rng(7)


def gradient(loss: Callable[[Any], Any], at: np.ndarray) -> np.ndarray:
    """What TensorFlow derives, float64."""
    import tensorflow as tf

    variable = tf.constant(at)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = loss(variable)
    return np.asarray(tape.gradient(value, variable))


def differences(loss: Callable[[Any], Any], at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The same from central differences."""
    found = np.zeros_like(at)
    for place in np.ndindex(*at.shape):
        moved = np.zeros_like(at)
        moved[place] = step
        found[place] = (float(loss(at + moved)) - float(loss(at - moved))) / (2 * step)
    return found


def check_gradient(loss: Callable[[Any], Any], at: np.ndarray) -> None:
    import keras

    def of(point: Any) -> Any:
        return loss(keras.ops.convert_to_tensor(point, dtype="float64"))

    np.testing.assert_allclose(gradient(of, at), differences(of, at), atol=1e-6)


def test_the_weighted_cross_entropy_is_the_weighted_mean():
    logits = RNG.normal(size=(6, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth, weights = np.array([0, 1, 2, 0, 0, 1]), [1.0, 2.5, 6.0]
    each = [weights[t] * -np.log(p[t]) for t, p in zip(truth, probabilities, strict=True)]
    expected = sum(each) / sum(weights[t] for t in truth)
    loss = WeightedCrossEntropy(weights)
    assert float(loss(truth, probabilities)) == pytest.approx(expected, abs=1e-6)
    twice = WeightedCrossEntropy([2 * weight for weight in weights])
    assert float(twice(truth, probabilities)) == pytest.approx(expected, abs=1e-6)
    check_gradient(lambda p: loss.call(truth, p), probabilities)


def test_the_multilabel_soft_margin_sums_a_logistic_loss_of_every_label():
    labels_of = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 0]])
    weights, truth = [1.0, 3.0, 0.5], np.array([0, 1, 2, 1])
    logits = RNG.normal(size=(4, 3)) * 3
    expected = []
    for number, row in zip(truth, logits, strict=True):
        terms = []
        for has, weight, x in zip(labels_of[number], weights, row, strict=True):
            logistic = 1 / (1 + np.exp(-x))
            terms.append(-weight * (np.log(logistic) if has else np.log(1 - logistic)))
        expected.append(np.mean(terms))
    loss = MultilabelSoftMargin(labels_of, weights)
    assert float(loss(truth, logits)) == pytest.approx(np.mean(expected), abs=1e-6)
    check_gradient(lambda x: keras_mean(loss.call(truth, x)), logits)
    far = loss.call(truth, np.full((4, 3), -1e4, np.float32))
    assert np.isfinite(np.asarray(far)).all()


def keras_mean(values: Any) -> Any:
    import keras

    return keras.ops.mean(values)


def triplets_by_hand(points: np.ndarray, truth: np.ndarray, margin: float) -> float:
    found = []
    for a in range(len(points)):
        for p in range(len(points)):
            for n in range(len(points)):
                if a != p and truth[a] == truth[p] and truth[a] != truth[n]:
                    near = np.linalg.norm(points[a] - points[p])
                    far = np.linalg.norm(points[a] - points[n])
                    found.append(max(0.0, near - far + margin))
    lossy = [value for value in found if value > 0]
    return sum(lossy) / len(lossy) if lossy else 0.0


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_the_triplet_loss_is_the_mean_over_triplets_that_have_one(spread):
    points, truth = RNG.normal(size=(8, 4)) * spread, np.array([0, 0, 0, 1, 1, 1, 2, 2])
    loss = TripletMargin(1.0)
    expected = triplets_by_hand(points, truth, 1.0)
    assert float(loss(truth, points)) == pytest.approx(expected, abs=1e-5)
    check_gradient(lambda x: loss.call(truth, x), points)


@pytest.mark.parametrize("truth", [[1, 1, 1, 1], [0, 1, 2, 3], [0]])
def test_a_batch_without_triplets_has_no_triplet_loss(truth):
    points = RNG.normal(size=(len(truth), 3))
    loss = TripletMargin(1.0)
    assert float(loss(np.array(truth), points)) == 0.0
    assert not gradient(lambda x: loss.call(np.array(truth), x), points).any()


def test_equal_embeddings_have_the_margin_as_loss_and_a_finite_gradient():
    truth, points = np.array([0, 0, 1, 1]), np.ones((4, 3))
    loss = TripletMargin(1.0)
    assert float(loss(truth, points)) == pytest.approx(1.0)
    assert not gradient(lambda x: loss.call(truth, x), points).any()


def test_well_separated_classes_have_no_triplet_loss():
    points = np.array([[0.0, 0], [0.1, 0], [9, 0], [9.1, 0]])
    assert float(TripletMargin(1.0)(np.array([0, 0, 1, 1]), points)) == 0.0


def orthogonality_by_hand(kernel: np.ndarray, strides: int) -> float:
    """Every filter slid over every padded filter, place by place."""
    rows, columns, _, filters = kernel.shape
    pad = (rows - 1) // strides * strides
    total = 0.0
    for i in range(filters):
        padded = np.pad(kernel[..., i], ((pad, pad), (pad, pad), (0, 0)))
        for j in range(filters):
            for down in range(0, 2 * pad + 1, strides):
                for across in range(0, 2 * pad + 1, strides):
                    window = padded[down : down + rows, across : across + columns]
                    product = (window * kernel[..., j]).sum()
                    total += (product - (i == j and down == across == pad)) ** 2
    return float(np.sqrt(total))


@pytest.mark.parametrize("strides", [1, 2])
def test_orthogonality_compares_filters_with_moved_filters(strides):
    kernel = RNG.normal(size=(3, 3, 2, 3))
    penalty = Orthogonality(0.5, strides)
    expected = 0.5 * orthogonality_by_hand(kernel, strides)
    assert float(penalty(kernel)) == pytest.approx(expected, abs=1e-5)
    check_gradient(penalty, kernel)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 1, 3, 5)])
def test_a_matrix_is_compared_on_its_shorter_side(shape):
    kernel = RNG.normal(size=shape)
    matrix = kernel.reshape(shape[-2:])
    gram = matrix @ matrix.T if len(matrix) == 3 else matrix.T @ matrix
    expected = np.linalg.norm(gram - np.eye(3))
    assert float(Orthogonality(1.0)(kernel)) == pytest.approx(expected, abs=1e-5)
    check_gradient(Orthogonality(1.0), kernel)


def test_orthonormal_filters_are_not_penalised_and_have_a_finite_gradient():
    kernel = np.zeros((3, 3, 4, 4))
    kernel[1, 1] = np.eye(4)
    for one in (kernel, np.eye(4)):
        assert float(Orthogonality(1.0)(one)) == 0.0
        assert not gradient(Orthogonality(1.0), one).any()
