"""Why the network decided as it did: LIME and Grad-CAM of the decisive tile."""

from __future__ import annotations

from pipeline.classify import Network
from pipeline.explain.grad_cam import grad_cam
from pipeline.explain.lime import explain_with_lime
from pipeline.explain.pictures import draw_grad_cam, draw_lime
from pipeline.results import Explanations, GradCamExplanation
from pipeline.types import ClassScores, FieldGeometry


def explain(
    scores: ClassScores, geometry: FieldGeometry, network: Network, *, samples: int, seed: int
) -> tuple[Explanations, dict[str, bytes]]:
    """Explain the field's label on the tile that speaks most clearly for it.

    Returns the numbers and the pictures as PNG, by name.
    """
    tile = geometry.tiles[scores.decisive_tile]
    lime, superpixels = explain_with_lime(tile, scores.label, network, samples=samples, seed=seed)
    cam, inside = grad_cam(tile, scores.label, network)
    pictures = {
        "lime": draw_lime(tile, superpixels, lime),
        "grad_cam": draw_grad_cam(tile, cam),
    }
    explanations = Explanations(
        tile=scores.decisive_tile,
        lime=lime,
        grad_cam=GradCamExplanation(
            label=scores.label, map=cam.tolist(), inside_white_cells=inside
        ),
        pictures=sorted(pictures),
    )
    return explanations, pictures


__all__ = ["explain"]
