"""``report.html``: everything about one patient on a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.labels import LABELS, MALIGNANT_LABELS
from pipeline.reference_images import ReferenceImages
from pipeline.report.names import visible
from pipeline.report.render import data_uri, render
from pipeline.report.words import (
    CALL_MEANINGS,
    CALL_NAMES,
    FLAG_MEANINGS,
    GEOMETRY_METHODS,
    NEIGHBOUR_NAMES,
    failure_mend,
    reason_in_words,
)
from pipeline.results import Box, Cell, ImageResult, PatientReport

#: Stored PNG of a picture (``field``, ``tile``, ``weights`` ...) of the image with that source.
PictureSource = Callable[[str, str], bytes | None]

#: Images that are named for a first look.
FIRST_LOOKS = 6


@dataclass(frozen=True)
class _ImageView:
    """One image as the template draws it."""

    number: int
    image: ImageResult
    field: str | None
    pictures: dict[str, str | None]
    whole_cells: str
    cut_cells: str
    explained_tile: Box | None
    layers_on: Box | None

    @property
    def anchor(self) -> str:
        return f"image-{self.number}"


def report_page(
    report: PatientReport,
    pictures: PictureSource,
    reference_images: ReferenceImages | None,
) -> str:
    """Draw the report of a patient: HTML without scripts or requests, for screen and A4 paper."""
    views = [_view(number, image, pictures) for number, image in enumerate(report.images, start=1)]
    return render(
        "report.html.j2",
        title=f"Patient {visible(report.patient)}",
        report=report,
        views=views,
        readable=[view for view in views if view.image.status == "ok"],
        failed=[view for view in views if view.image.status == "failed"],
        first_looks=_first_looks(report, views),
        references=_reference_pictures(report, reference_images),
        labels=LABELS,
        malignant=MALIGNANT_LABELS,
        call_names=CALL_NAMES | NEIGHBOUR_NAMES,
        call_meanings=CALL_MEANINGS,
        flag_meanings=FLAG_MEANINGS,
        methods=GEOMETRY_METHODS,
        in_words=reason_in_words,
        mend=failure_mend,
    )


def outline_path(cells: list[Cell]) -> str:
    """The outlines of cells as SVG path data, in pixels of the original image."""
    # Outlines run along pixel centres; SVG counts from pixel corners.
    return "".join(
        "M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in cell.outline) + "Z"
        for cell in cells
        if cell.outline
    )


def _view(number: int, image: ImageResult, pictures: PictureSource) -> _ImageView:
    stored = {name: data_uri(pictures(image.source, name)) for name in _pictures_of(image)}
    return _ImageView(
        number=number,
        image=image,
        field=stored.get("field"),
        pictures=stored,
        whole_cells=outline_path([cell for cell in image.cells if not cell.touches_edge]),
        cut_cells=outline_path([cell for cell in image.cells if cell.touches_edge]),
        explained_tile=_explained_tile(image),
        layers_on=_layers_on(image),
    )


def _pictures_of(image: ImageResult) -> list[str]:
    if image.status == "failed":
        return []
    return ["field", *(image.explanations.pictures if image.explanations else [])]


def _layers_on(image: ImageResult) -> Box | None:
    """The part of the field that was explained."""
    if image.explanations is None or image.geometry is None:
        return None
    return image.geometry.tiles[image.explanations.tile].box


def _explained_tile(image: ImageResult) -> Box | None:
    """The part of the field that was explained, where that is not simply the whole."""
    several = image.geometry is not None and len(image.geometry.tiles) > 1
    return _layers_on(image) if several else None


def _first_looks(report: PatientReport, views: list[_ImageView]) -> list[_ImageView]:
    """The images that speak most against an all-clear: malignant ones, certain ones first."""

    def key(view: _ImageView) -> tuple[bool, float]:
        image = view.image
        certain = image.confidence is not None and image.confidence.flag == "high"
        malignant = sum((image.probabilities or {}).get(label, 0.0) for label in MALIGNANT_LABELS)
        return not certain, -malignant

    suspicious = [view for view in views if view.image.label in MALIGNANT_LABELS]
    return sorted(suspicious, key=key)[:FIRST_LOOKS] if report.counts.images > 1 else []


def _reference_pictures(
    report: PatientReport, reference_images: ReferenceImages | None
) -> dict[str, tuple[str, str]]:
    """(anchor, data URI) by neighbour id: each picture is in the page once, however often used."""
    found: dict[str, tuple[str, str]] = {}
    if reference_images is None:
        return found
    for image in report.images:
        for neighbour in image.confidence.neighbours if image.confidence else []:
            if neighbour.id not in found:
                address = data_uri(reference_images(neighbour.id))
                if address:
                    found[neighbour.id] = (f"reference-{len(found) + 1}", address)
    return found
