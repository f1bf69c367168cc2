"""Explanations against independent computations on a small network."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.explain import Explainer, doubted, perturbed
from pipeline.explain.grad_cam import grad_cam
from pipeline.explain.lime import (
    ShownImage,
    draw_patterns,
    explain_with_lime,
    top_regions,
)
from pipeline.explain.maps import of_grey_png
from pipeline.explain.perturbed import PerturbedScores
from pipeline.explain.pictures import (
    draw_cam,
    draw_top_regions,
    draw_weights,
    laid_over,
    viridis,
)
from pipeline.explain.relevance import deletion_and_insertion, order_of, share_inside
from pipeline.explain.score_cam import score_cam
from pipeline.explain.superpixels import hidden_colours
from pipeline.explain.surrogate import fit_surrogates
from pipeline.labels import LABELS
from pipeline.neighbours import References
from pipeline.preprocess import Preprocessing
from pipeline.results import AnalysisOptions, Confidence
from pipeline.types import ClassScores, FieldGeometry, FieldTile, Rectangle

SIZE = 48


@pytest.fixture(scope="module")
def network():
    """A small random network of ALL-Net's kind."""
    import keras

    from pipeline.classify import Network

    keras.utils.set_random_seed(4)
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    features = layers.Conv2D(6, 3, activation="relu")(image)
    features = layers.MaxPooling2D(name="features")(features)
    hidden = layers.Dense(8, activation="relu", name="embedding")(
        layers.GlobalAveragePooling2D()(features)
    )
    scores = layers.Dense(4, activation="softmax", kernel_initializer="he_normal")(hidden)
    return Network(
        keras.Model(image, scores),
        preprocessing=Preprocessing(input_size=SIZE, tile_size=SIZE),
        embedding_layer="embedding",
        feature_map_layer="features",
    )


@pytest.fixture(scope="module")
def tile() -> FieldTile:
    """A pale field with two dark discs; the left one is a white cell."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pixels = np.full((SIZE, SIZE, 3), 230, np.uint8)
    cell = (rows - 20) ** 2 + (columns - 14) ** 2 < 64
    pixels[cell] = (90, 40, 150)
    pixels[(rows - 30) ** 2 + (columns - 36) ** 2 < 36] = (200, 140, 150)
    noise = np.random.default_rng(1).integers(-8, 8, pixels.shape)
    pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return FieldTile(pixels, Rectangle(0, 0, SIZE, SIZE), cell, cell, 1)


@pytest.fixture(scope="module")
def shown(network, tile) -> ShownImage:
    image = network.input_of(tile)[0]
    return ShownImage.of(image, network.preprocessing)


def lime(network, tile, shown, *, label="pre_b", samples=100, seed=5):
    return explain_with_lime(
        tile, shown, label, PerturbedScores(network), samples=samples, seed=seed
    )


def test_lime_says_what_the_reference_package_says(network, tile, shown):
    """Its segmentation, its samples, its fit, one image at a time; for two classes."""
    from lime.lime_image import LimeImageExplainer

    theirs = LimeImageExplainer(random_state=np.random.RandomState(11)).explain_instance(
        shown.image,
        lambda batch: network.probabilities(np.stack(batch)),
        labels=(0, 2),
        top_labels=None,
        num_samples=120,
        random_seed=11,
    )
    np.testing.assert_array_equal(shown.superpixels, theirs.segments)
    ours = lime(network, tile, shown, samples=120, seed=11)
    for record, label, sign in ((ours, 2, 1), (ours.malignancy, 0, -1)):
        expected = dict(theirs.local_exp[label])
        weights = [sign * expected[number] for number in range(len(expected))]
        np.testing.assert_allclose(record.weights, weights, atol=1e-6)
    # The package keeps the fit of the last label.
    assert ours.fit == pytest.approx(theirs.score, abs=1e-6)
    assert ours.intercept == pytest.approx(theirs.intercept[2], abs=1e-6)
    assert ours.malignancy.intercept == pytest.approx(1 - theirs.intercept[0], abs=1e-6)


@pytest.mark.parametrize(("hidden", "colour"), [("mean", None), ("black", 0.0), ("white", 1.0)])
def test_slic_and_fixed_colours_are_those_of_the_reference_package(network, tile, hidden, colour):
    from lime.lime_image import LimeImageExplainer
    from lime.wrappers.scikit_image import SegmentationAlgorithm

    image = network.input_of(tile)[0]
    shown = ShownImage.of(image, network.preprocessing, "slic", hidden)
    theirs = LimeImageExplainer(random_state=np.random.RandomState(11)).explain_instance(
        image,
        lambda batch: network.probabilities(np.stack(batch)),
        labels=(2,),
        top_labels=None,
        hide_color=colour,
        num_samples=120,
        segmentation_fn=SegmentationAlgorithm("slic", start_label=0),
        random_seed=11,
    )
    np.testing.assert_array_equal(shown.superpixels, theirs.segments)
    expected = dict(theirs.local_exp[2])
    weights = [expected[number] for number in range(len(expected))]
    ours = lime(network, tile, shown, samples=120, seed=11)
    np.testing.assert_allclose(ours.weights, weights, atol=1e-6)


def test_a_fixed_colour_leaves_the_ground_of_white_cells_blank():
    cells_alone = Preprocessing(input_size=SIZE, tile_size=SIZE, view="white_cells")
    image = np.zeros((SIZE, SIZE, 3), np.float32)
    image[10:20, 10:20] = 0.7
    shown = ShownImage.of(image, cells_alone, "slic", "grey")
    blank = ~image.any(axis=2)
    assert not shown.hidden[blank].any()
    assert (shown.hidden[~blank] == 0.5).all()
    assert not set(np.unique(shown.superpixels[blank])) & set(np.unique(shown.superpixels[~blank]))


def test_patches_are_shared_and_change_nothing(network, shown):
    scores_of = PerturbedScores(network)
    assert scores_of.reason is None
    samples = shown.samples(draw_patterns(shown.count, 77, 3))
    np.testing.assert_allclose(scores_of(samples), scores_of._in_batches(samples), atol=1e-6)
    shared = PerturbedScores(network, threads=3)
    np.testing.assert_array_equal(shared(samples), scores_of(samples))


@pytest.mark.parametrize("largest_share", [0.25, 0.0])
def test_deep_networks_share_their_first_layers_or_none(
    network, tile, shown, monkeypatch, largest_share
):
    expected = lime(network, tile, shown)
    monkeypatch.setattr(perturbed, "LARGEST_FIELD_OF_VIEW", 0.01)
    monkeypatch.setattr(perturbed, "LARGEST_FIRST_FIELD_OF_VIEW", 0.07)
    monkeypatch.setattr(perturbed, "LARGEST_DISTINCT_SHARE", largest_share)
    scores_of = PerturbedScores(network)
    assert "sees 8% of the image's side" in scores_of.reason
    asked, real = [], scores_of._in_batches
    monkeypatch.setattr(scores_of, "_in_batches", lambda some: asked.append(some) or real(some))
    scores_of(shown.samples(draw_patterns(shown.count, 77, 3)))
    assert bool(asked) == (largest_share == 0)
    np.testing.assert_allclose(lime(network, tile, shown).weights, expected.weights, atol=1e-6)


def test_lime_is_the_same_for_the_same_seed_and_lists_what_speaks_for_the_label(
    network, tile, shown
):
    first, again = (lime(network, tile, shown) for _ in range(2))
    assert first == again
    assert len(first.weights) == shown.count
    np.testing.assert_array_equal(of_grey_png(first.superpixels), shown.superpixels)
    weights = [region.weight for region in first.top_regions]
    assert weights == sorted(weights, reverse=True)
    assert all(weight > 0 for weight in weights)
    assert len(weights) <= 5
    for region in first.top_regions:
        inside = shown.superpixels == region.number
        assert region.area == pytest.approx(inside.mean())
        assert (
            inside[
                region.box.y : region.box.y + region.box.height,
                region.box.x : region.box.x + region.box.width,
            ].sum()
            == inside.sum()
        )


def test_what_changes_nothing_has_no_weight(network, tile, shown):
    image = shown.image.copy()
    half = np.arange(SIZE) < SIZE // 2
    image[half] = 0.0
    superpixels = np.where(half[:, None], 0, shown.superpixels + 1)
    superpixels = np.unique(superpixels, return_inverse=True)[1].reshape(SIZE, SIZE)
    hidden = hidden_colours(image, superpixels, network.preprocessing)
    found = lime(network, tile, ShownImage(image, superpixels, hidden))
    assert found.weights[0] == 0
    assert found.malignancy.weights[0] == 0
    assert 0 not in [region.number for region in found.top_regions]
    assert any(found.weights)


def test_stability_is_what_other_seeds_have_in_common(network, tile, shown):
    assert lime(network, tile, shown, samples=999).stability is None
    found = lime(network, tile, shown, samples=3000)
    scores_of = PerturbedScores(network)
    patterns = draw_patterns(shown.count, 3000, 5)
    tops = []
    for part in np.split(patterns, 3):
        scores = scores_of(shown.samples(part))[:, [LABELS.index("pre_b")]]
        tops.append(set(top_regions(fit_surrogates(part, scores)[0].weights)))
    pairs = [(0, 1), (0, 2), (1, 2)]
    shares = [len(tops[a] & tops[b]) / max(len(tops[a]), len(tops[b]), 1) for a, b in pairs]
    assert found.stability == pytest.approx(np.mean(shares))


def test_one_superpixel_is_explained_without_error(network):
    blank = np.zeros((SIZE, SIZE, 3), np.float32)
    shown = ShownImage(blank, np.zeros((SIZE, SIZE), int), blank)
    pixels, nothing = np.zeros((SIZE, SIZE, 3), np.uint8), np.zeros((SIZE, SIZE), bool)
    tile = FieldTile(pixels, Rectangle(0, 0, SIZE, SIZE), nothing, nothing, 0)
    found = lime(network, tile, shown)
    assert found.weights == pytest.approx([0], abs=1e-9)
    assert found.inside_white_cells is None


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


def test_slopes_towards_an_embedding_are_those_of_the_similarity():
    rng = np.random.default_rng(8)
    stored = rng.uniform(0, 1, (4, 8)).astype(np.float32)
    references = References(stored, np.zeros(4, np.int8), ("a", "b", "c", "d"))
    image, reference, step = rng.uniform(0, 1, (3, 8))
    (slope,) = references.slopes_towards(image[None])

    def similarity(embedding: np.ndarray) -> float:
        return float(
            references.normalise(image[None])[0] @ references.normalise(embedding[None])[0]
        )

    change = similarity(reference + step) - similarity(reference)
    assert slope @ step == pytest.approx(change)


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


def test_share_inside_is_null_where_it_means_nothing():
    relevance = np.array([[3.0, 1.0]])
    assert share_inside(relevance, np.array([[True, False]])) == 0.75
    assert share_inside(relevance, np.array([[False, False]])) is None
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = np.pad(rng.uniform(0, 1, (21, 21)), 3)
        assert share_inside(values, values > 0) <= 1.0
    assert share_inside(np.zeros((1, 2)), np.array([[True, False]])) is None
