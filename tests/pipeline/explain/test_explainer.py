"""Whole explanations: their numbers, their pictures, and what they do to the flag."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.explain import Explainer, doubted
from pipeline.explain.grad_cam import grad_cam
from pipeline.explain.maps import of_grey_png
from pipeline.explain.perturbed import PerturbedScores
from pipeline.explain.pictures import (
    draw_cam,
    draw_top_regions,
    draw_weights,
    laid_over,
    viridis,
)
from pipeline.explain.score_cam import score_cam
from pipeline.labels import LABELS
from pipeline.results import AnalysisOptions, Confidence
from pipeline.types import ClassScores, FieldGeometry
from tests.pipeline.explain.small import SIZE, lime


@pytest.fixture(scope="module")
def explained(network, tile):
    geometry = FieldGeometry("as_is", None, True, (tile,))
    probabilities = network.probabilities(tile.pixels[None] / np.float32(255)).astype(np.float64)
    scores = ClassScores("pre_b", probabilities[0], np.zeros(8, np.float32), probabilities, 0)
    similar = {"a.jpg": np.ones(8), "b.jpg": np.zeros(8)}
    return Explainer(network, AnalysisOptions(lime_samples=60))(scores, geometry, similar, 1)


def test_an_explanation_carries_numbers_and_readable_pictures(explained):
    explanations, pictures = explained
    assert explanations.lime.label == explanations.grad_cam.label == "pre_b"
    assert -1 <= explanations.mr_ssim <= 1
    layers = ["grad_cam", "score_cam", "similarity", "top_regions", "weights"]
    assert [one.id for one in explanations.similarity] == ["a.jpg", "b.jpg"]
    strongest = [of_grey_png(one.map).max() for one in explanations.similarity]
    assert strongest == [255, 0]
    assert explanations.pictures == sorted(pictures) == sorted([*layers, "tile"])
    for name, content in pictures.items():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            assert picture.mode == "P"
            assert picture.size == ((SIZE, SIZE) if name == "tile" else (2 * SIZE, 2 * SIZE))
            assert ("transparency" in picture.info) == (name != "tile")
    whole = laid_over(pictures["tile"], pictures["weights"], (120, 90))
    with Image.open(io.BytesIO(whole)) as picture:
        assert (picture.size, picture.mode) == ((120, 90), "RGB")


def test_the_other_side_of_a_similarity_is_computed_as_this_one_is(network, tile):
    explainer = Explainer(network, AnalysisOptions(lime_samples=60))
    geometry = FieldGeometry("as_is", None, True, (tile,))
    probabilities = network.probabilities(network.input_of(tile)).astype(np.float64)
    scores = ClassScores("pre_b", probabilities[0], np.zeros(8, np.float32), probabilities, 0)
    slopes = np.random.default_rng(3).normal(size=(2, 8))
    for slope, other in (slopes, slopes[::-1]):
        _, pictures = explainer(scores, geometry, {"a.jpg": slope}, 1)
        likeness = explainer.likeness(tile, slope)
        assert likeness.tile == pictures["tile"]
        assert likeness.layer == pictures["similarity"]
        assert likeness.layer != explainer.likeness(tile, other).layer
        assert likeness.box == tile.box


def test_the_layers_show_the_numbers(network, tile, shown):
    found = lime(network, tile, shown)
    weights = np.asarray(found.weights)
    colours = rgba(draw_weights(shown.superpixels, weights))[::2, ::2]
    strongest = np.abs(weights).argmax()
    for number, weight in enumerate(weights):
        red, _, blue, opacity = colours[shown.superpixels == number][0].astype(int)
        if opacity:
            assert (red > blue) == (weight > 0)
        assert opacity <= colours[shown.superpixels == strongest][0, 3]
    cam = np.linspace(0, 1, 36).reshape(6, 6)
    heat = rgba(draw_cam(cam, SIZE)).astype(int)
    assert heat[0, 0].tolist() == [*viridis()[0], 128]
    assert heat[-1, -1].tolist() == [*viridis()[-1], 128]
    top = rgba(draw_top_regions(shown.superpixels, found))[::2, ::2, 3]
    inside = np.isin(shown.superpixels, [region.number for region in found.top_regions])
    assert (top[~inside] > 0).all()
    assert (top[inside] == 0).any()


def rgba(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGBA"))


def test_an_explanation_beside_the_cells_lowers_the_flag(explained):
    explanations, _ = explained
    confidence = Confidence(
        flag="high", reasons=[], vote="pre_b", agreement=1, distance=0.1, score=0.7, neighbours=[]
    )
    for inside, flag in ((0.49, "low"), (0.5, "high"), (None, "high")):
        lime = explanations.lime.model_copy(update={"inside_white_cells": inside})
        found = doubted(confidence, explanations.model_copy(update={"lime": lime}))
        assert found.flag == flag
        assert ("background" in found.reasons) == (flag == "low")


def test_a_network_with_random_weights_is_explained_otherwise(network, tile, shown):
    """Adebayo et al. 2018: an explanation that ignores the weights would be no explanation."""
    import keras

    from pipeline.classify import Network

    rng = np.random.default_rng(99)
    model = keras.models.clone_model(network.model)
    for layer in model.layers:
        layer.set_weights([rng.normal(0, 0.4, w.shape) for w in layer.get_weights()])
    other = Network(
        model,
        preprocessing=network.preprocessing,
        embedding_layer="embedding",
        feature_map_layer="features",
    )
    image = network.input_of(tile)

    def maps(of):
        features, gradients = of.feature_gradients(image, LABELS.index("pre_b"))
        weights = np.asarray(lime(of, tile, shown).weights)
        scores = score_cam(image[0], features, "pre_b", PerturbedScores(of))
        return weights, grad_cam(features, gradients), scores

    for before, after in zip(maps(network), maps(other), strict=True):
        assert before.any()
        assert np.abs(before - after).max() > 0.2 * np.abs(before).max()
