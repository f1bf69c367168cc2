"""Every explanation of one decision, with its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from skimage.metrics import structural_similarity

from pipeline.classify import Network
from pipeline.explain.grad_cam import grad_cam
from pipeline.explain.lime import ShownImage, explain_with_lime
from pipeline.explain.maps import enlarged, grey_png, scaled_to_one
from pipeline.explain.perturbed import PerturbedScores
from pipeline.explain.pictures import draw_cam, draw_tile, draw_top_regions, draw_weights
from pipeline.explain.relevance import deletion_and_insertion, order_of, share_inside
from pipeline.explain.score_cam import score_cam
from pipeline.labels import LABELS, Label
from pipeline.results import AnalysisOptions, CamExplanation, Explanations, SimilarityMap
from pipeline.types import ClassScores, FieldGeometry, FieldTile, Rectangle


@dataclass(frozen=True)
class Likeness:
    """A tile of a reference, and over it what makes the reference similar; PNG files."""

    box: Rectangle
    tile: bytes
    layer: bytes


class Explainer:
    """Explains what a network says, image by image."""

    def __init__(self, network: Network, options: AnalysisOptions, *, threads: int = 1) -> None:
        self._network, self._options = network, options
        self._scores_of = PerturbedScores(network, threads=threads)

    def __call__(
        self,
        scores: ClassScores,
        geometry: FieldGeometry,
        similar: Mapping[str, np.ndarray],
        seed: int,
    ) -> tuple[Explanations, dict[str, bytes]]:
        """Explain the field's label on the tile that speaks most clearly for it.

        ``similar``: for the nearest references, by name, how the similarity to each changes with
        the embedding, ``(dimensions,)``.
        Returns the numbers and the pictures as PNG, by name.
        """
        tile, label = geometry.tiles[scores.decisive_tile], scores.label
        image = self._network.input_of(tile)
        options = self._options
        shown = ShownImage.of(
            image[0],
            self._network.preprocessing,
            options.lime_superpixels,
            options.lime_hidden,
        )
        lime = explain_with_lime(
            tile, shown, label, self._scores_of, samples=options.lime_samples, seed=seed
        )
        features, gradients = self._network.feature_gradients(image, LABELS.index(label))
        grad = grad_cam(features, gradients)
        score = score_cam(shown.image, features, label, self._scores_of)
        directions = np.stack(list(similar.values()))
        alike = [
            grad_cam(features, slope)
            for slope in self._network.similarity_gradients(image, directions)
        ]
        orders = [np.argsort(-np.asarray(lime.weights), kind="stable")]
        orders += [
            order_of(enlarged(cam, len(shown.image)), shown.superpixels) for cam in (grad, score)
        ]
        areas = deletion_and_insertion(shown, orders, label, self._scores_of)
        pictures = {
            "tile": draw_tile(tile),
            "top_regions": draw_top_regions(shown.superpixels, lime),
            "weights": draw_weights(shown.superpixels, np.asarray(lime.weights)),
            "grad_cam": draw_cam(grad, len(shown.image)),
            "score_cam": draw_cam(score, len(shown.image)),
            "similarity": draw_cam(scaled_to_one(np.mean(alike, axis=0)), len(shown.image)),
        }
        explanations = Explanations(
            tile=scores.decisive_tile,
            lime=lime.model_copy(update=areas[0]),
            grad_cam=_record(grad, label, tile, areas[1]),
            score_cam=_record(score, label, tile, areas[2]),
            mr_ssim=similarity(grad, score, len(tile.pixels)),
            similarity=[
                SimilarityMap(id=name, map=grey_png(np.rint(255 * cam).astype(np.uint8)))
                for name, cam in zip(similar, alike, strict=True)
            ],
            pictures=sorted(pictures),
        )
        return explanations, pictures

    def likeness(self, tile: FieldTile, slope: np.ndarray) -> Likeness:
        """The other side of a similarity map: what in a reference makes it similar to an image.

        ``tile``: the reference's. ``slope``: how the similarity changes with its embedding,
        ``(dimensions,)``.
        """
        image = self._network.input_of(tile)
        features, _ = self._network.feature_gradients(image, 0)
        (gradients,) = self._network.similarity_gradients(image, slope[None])
        layer = draw_cam(grad_cam(features, gradients), len(image[0]))
        return Likeness(tile.box, draw_tile(tile), layer)


def _record(
    cam: np.ndarray, label: Label, tile: FieldTile, areas: dict[str, float]
) -> CamExplanation:
    relevance = enlarged(cam, len(tile.pixels))
    return CamExplanation(
        label=label,
        map=cam.tolist(),
        inside_white_cells=share_inside(relevance, tile.white_cells),
        inside_nuclei=share_inside(relevance, tile.nuclei),
        **areas,
    )


def similarity(first: np.ndarray, second: np.ndarray, size: int) -> float:
    """Structural similarity (Wang et al. 2004) of two maps in 0..1, enlarged to the image.

    Di Giammarco et al. 2024 compare Grad-CAM and Score-CAM so.
    """
    return float(
        structural_similarity(enlarged(first, size), enlarged(second, size), data_range=1.0)
    )
