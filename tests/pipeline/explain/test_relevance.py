"""Figures of how well relevance fits: where it lies, and what hiding it does."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.explain.perturbed import PerturbedScores
from pipeline.explain.relevance import deletion_and_insertion, order_of, share_inside
from pipeline.labels import LABELS


def test_deletion_and_insertion_hide_and_show_in_the_given_order(network, shown):
    scores_of = PerturbedScores(network)
    order = np.random.default_rng(0).permutation(shown.count)
    found = deletion_and_insertion(shown, [order, order[::-1]], "pro_b", scores_of)
    curves = {"deletion": [], "insertion": []}
    for done in range(shown.count + 1):
        first = np.isin(shown.superpixels, order[:done])[..., None]
        for name, image in (
            ("deletion", np.where(first, shown.hidden, shown.image)),
            ("insertion", np.where(first, shown.image, shown.hidden)),
        ):
            curves[name].append(network.probabilities(image[None])[0, LABELS.index("pro_b")])
    for name, values in curves.items():
        assert found[0][name] == pytest.approx(np.mean(values), abs=1e-6)
    assert found[0]["deletion"] == pytest.approx(found[1]["insertion"], abs=1e-6)


def test_superpixels_are_ordered_by_mean_relevance():
    superpixels = np.array([[0, 0, 1], [2, 2, 1]])
    relevance = np.array([[4.0, 0, 3], [1, 1, 3]])
    assert order_of(relevance, superpixels).tolist() == [1, 0, 2]


def test_share_inside_is_null_where_it_means_nothing():
    relevance = np.array([[3.0, 1.0]])
    assert share_inside(relevance, np.array([[True, False]])) == 0.75
    assert share_inside(relevance, np.array([[False, False]])) is None
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = np.pad(rng.uniform(0, 1, (21, 21)), 3)
        assert share_inside(values, values > 0) <= 1.0
    assert share_inside(np.zeros((1, 2)), np.array([[True, False]])) is None
