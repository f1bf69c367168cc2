"""LIME against the reference package and independent computations, on a small network."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.explain import perturbed
from pipeline.explain.lime import (
    ShownImage,
    draw_patterns,
    top_regions,
)
from pipeline.explain.maps import of_grey_png
from pipeline.explain.perturbed import PerturbedScores
from pipeline.explain.superpixels import hidden_colours
from pipeline.explain.surrogate import fit_surrogates
from pipeline.labels import LABELS
from pipeline.preprocess import Preprocessing
from pipeline.types import FieldTile, Rectangle
from tests.pipeline.explain.small import SIZE, lime


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
