"""Labelled synthetic smears, and models of which it is known what they look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.bundle import Bundle
from pipeline.decode import decode
from pipeline.labels import LABELS, Label
from pipeline.neighbours import References
from pipeline.results import Confidence, ImageAnalysis
from pipeline.samples import FieldRecipe, SyntheticField, render_field
from pipeline.samples.recipe import BLUE, EOSIN
from pipeline.segment import segment
from pipeline.segment.background import background_colour
from tests.pipeline.report_builder import ok_image
from tests.stub_records import stub_record

#: Benign smears have small white cells and blue stain, early ones large cells and eosin.
FOLDERS: dict[str, Label] = {"benign": "benign", "early": "early_b"}

#: Area of a white cell, in pixels, between those of the two classes; see ``field``.
AREA = 1200


def field(folder: str, seed: int) -> SyntheticField:
    """A small field of one class."""
    benign = folder == "benign"
    return render_field(
        seed,
        FieldRecipe(
            stain=BLUE if benign else EOSIN,
            white_cells={"haematogone" if benign else "lymphoblast": 4.0},
            width=280,
            height=210,
            red_cell_diameter=21.0 if benign else 30.0,
            red_cells=45 if benign else 28,
            touching=0.0,
            at_edge=0.0,
            platelets=0.0,
            debris=0.0,
            defocus=0.5,
        ),
    )


def write_smears(root: Path, per_class: int) -> Path:
    """``root/<class>/<number>.png``."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
        for number in range(per_class):
            pixels = field(folder, 100 * number + len(folder)).pixels
            Image.fromarray(pixels).save(root / folder / f"{number:02}.png")
    return root


@dataclass(frozen=True)
class Said:
    """What an analyser returns, as far as an audit looks at it."""

    result: ImageAnalysis


def said(label: Label, reasons: list[str]) -> Said:
    confidence = Confidence(
        flag="low" if reasons else "high",
        reasons=reasons,
        vote=label,
        agreement=1.0,
        distance=0.1,
        neighbours=[],
    )
    probabilities = {one: 1.0 if one == label else 0.0 for one in LABELS}
    return Said(
        ImageAnalysis(status="ok", label=label, probabilities=probabilities, confidence=confidence)
    )


def looks_at_background(data: bytes) -> Said:
    """Decides by the colour of the empty slide, always sure."""
    red, _, blue = background_colour(decode(data).pixels)
    return said("benign" if blue > red else "early_b", [])


def explained(data: bytes) -> Said:
    """The same with explanations: the brighter the slide, the better; doubted where it is red."""
    red, _, blue = background_colour(decode(data).pixels)
    found = said("benign", ["background"] if red > blue else [])
    example = ok_image().explanations
    assert example is not None
    share = float(blue) / 255
    lime = example.lime.model_copy(update={"inside_white_cells": share, "stability": None})
    explanations = example.model_copy(update={"lime": lime, "mr_ssim": share})
    return Said(found.result.model_copy(update={"explanations": explanations}))


def looks_at_cells(data: bytes) -> Said:
    """Decides by the size of the white cells; unsure without any, or if they have no structure."""
    pixels = decode(data).pixels
    cells = segment(pixels)
    if not cells.cells:
        return said("benign", ["no_white_cell", "far_from_references"])
    areas = [cell.area for cell in cells.cells]
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    structure = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 2))
    inside = cv2.erode((cells.labels > 0).astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
    # A nucleus has an edge within its cell, a blurred cell has nothing.
    plain = not inside.any() or float(np.percentile(structure[inside], 90)) < 3.0
    label: Label = "benign" if np.median(areas) < AREA else "early_b"
    return said(label, ["far_from_references"] if plain else [])


def bundle_of(*trained_on: str, training: dict[str, object] | None = None) -> Bundle:
    """A bundle without a network, with these references."""
    names = trained_on or ("elsewhere/1.png",)
    record = stub_record(training)
    embeddings = np.zeros((len(names), 2), np.float32)
    references = References(embeddings, np.zeros(len(names), np.int8), names)
    return Bundle(Path("stub"), record, references)
