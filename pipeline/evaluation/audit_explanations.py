"""What a model's explanations are worth: the figures of some images, and how they are distributed.

An explanation carries figures of its own quality (``pipeline.results.Relevance`` and others). One
image says little; a model whose relevance lies beside the cells in most images, or whose maps
contradict each other, is one not to trust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from pydantic import Field

from pipeline.canonical import rounded
from pipeline.errors import BadInputError
from pipeline.evaluation.audit_figures import Proportion
from pipeline.labels import LABELS, Label
from pipeline.results import Explanations, ImageAnalysis, Record, Relevance

#: Rises when a figure means something else than before.
EXPLANATIONS_VERSION = 1

#: The reason that an explanation beside the cells gives.
DOUBTED = "background"


class ExplainedImage(Record):
    """The figures of one image's explanations; a line of the explanations file."""

    audit: str = Field(description="digest of what else the figures depend on")
    sha256: str
    image: str
    change: str
    truth: Label
    doubted: bool = Field(description="LIME points beside the white cells")
    figures: dict[str, float | None] = Field(description="by name, see MEASURES; null: not defined")


class Distribution(Record):
    """Median and quartiles of n images (by linear interpolation)."""

    n: int
    lower_quartile: float
    median: float
    upper_quartile: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Distribution | None:
        """Of those that are defined; None if none is."""
        found = [value for value in values if value is not None]
        if not found:
            return None
        low, middle, high = np.quantile(found, [0.25, 0.5, 0.75]).tolist()
        return cls(n=len(found), lower_quartile=low, median=middle, upper_quartile=high)


class MeasureFigures(Record):
    """How one figure is distributed."""

    measure: str
    title: str
    all: Distribution | None
    by_class: dict[Label, Distribution | None]


class ExplanationFigures(Record):
    """What the explanations of a sample are worth, by true class."""

    images: dict[Label, int]
    doubted: Proportion
    doubted_by_class: dict[Label, Proportion]
    measures: list[MeasureFigures]


def _relevance_measures(
    name: str, title: str, part: Callable[[Explanations], Relevance | None]
) -> dict[str, tuple[str, Callable[[Explanations], float | None]]]:
    def measure(field: str) -> Callable[[Explanations], float | None]:
        def of(explanations: Explanations) -> float | None:
            found = part(explanations)
            return None if found is None else getattr(found, field)

        return of

    return {
        f"{name}.{field}": (f"{title}: {words}", measure(field))
        for field, words in (
            ("inside_white_cells", "share on white cells"),
            ("inside_nuclei", "share on nuclei"),
            ("deletion", "deletion"),
            ("insertion", "insertion"),
        )
    }


#: Title and value of every figure, by name.
MEASURES: Mapping[str, tuple[str, Callable[[Explanations], float | None]]] = {
    "mr_ssim": ("MR-SSIM of Grad-CAM and Score-CAM", lambda found: found.mr_ssim),
    "stability": ("LIME: stability", lambda found: found.lime.stability),
    "fit": ("LIME: weighted R²", lambda found: found.lime.fit),
    **_relevance_measures("lime", "LIME", lambda found: found.lime),
    **_relevance_measures("grad_cam", "Grad-CAM", lambda found: found.grad_cam),
    **_relevance_measures("score_cam", "Score-CAM", lambda found: found.score_cam),
}


def explained_image(
    result: ImageAnalysis, *, key: str, sha256: str, image: str, change: str, truth: Label
) -> ExplainedImage:
    """The figures of a result; raises BadInputError if it has no explanations."""
    if result.explanations is None or result.confidence is None:
        raise BadInputError("internal_error", f"{image} could not be explained")
    return ExplainedImage(
        audit=key,
        sha256=sha256,
        image=image,
        change=change,
        truth=truth,
        doubted=DOUBTED in result.confidence.reasons,
        # As they are written, so that an audit that was interrupted ends with the same figures.
        figures={
            name: None if (found := value(result.explanations)) is None else rounded(found)
            for name, (_, value) in MEASURES.items()
        },
    )


def explanation_figures(images: Sequence[ExplainedImage]) -> ExplanationFigures | None:
    """Distributions over the images, all and by true class; None without images."""
    if not images:
        return None
    of_class = {label: [one for one in images if one.truth == label] for label in LABELS}
    return ExplanationFigures(
        images={label: len(found) for label, found in of_class.items()},
        doubted=Proportion.of(one.doubted for one in images),
        doubted_by_class={
            label: Proportion.of(one.doubted for one in found) for label, found in of_class.items()
        },
        measures=[
            MeasureFigures(
                measure=name,
                title=title,
                all=Distribution.of(one.figures[name] for one in images),
                by_class={
                    label: Distribution.of(one.figures[name] for one in found)
                    for label, found in of_class.items()
                },
            )
            for name, (title, _) in MEASURES.items()
        ],
    )
