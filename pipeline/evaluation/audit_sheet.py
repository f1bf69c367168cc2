"""A contact sheet: one field under every change, so that a reader sees what was done."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pipeline.decode import decode
from pipeline.evaluation.audit_images import Donors, changed, relative_name
from pipeline.evaluation.shortcuts import Change, Field
from pipeline.training.data import LabelledImage

#: The field shown is that of the most white cells among so many, spread over the images, ...
LOOKED_AT = 12
#: ... of those in which they cover no more than this.
MOST_WHITE = 0.25

#: Layout, in pixels.
TILE, CAPTION, GAP, COLUMNS = 224, 34, 8, 6
LETTERS, FONT_SIZE = 36, 12


def example_sheet(
    images: Sequence[LabelledImage], changes: Sequence[Change], donors: Donors, root: Path
) -> Image.Image:
    """Draw one of ``images`` under every change, with captions."""
    image, field = _example(images)
    name = relative_name(image, root)
    rows = -(-len(changes) // COLUMNS)
    size = (COLUMNS * (TILE + GAP) + GAP, rows * (TILE + CAPTION + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for number, change in enumerate(changes):
        left = GAP + number % COLUMNS * (TILE + GAP)
        top = GAP + number // COLUMNS * (TILE + CAPTION + GAP)
        tile = Image.fromarray(changed(field, change, name, image.label, donors))
        tile.thumbnail((TILE, TILE))
        sheet.paste(tile, (left, top))
        words = textwrap.fill(change.title, LETTERS)
        draw.multiline_text((left, top + TILE + 2), words, fill="black", font=font, spacing=1)
    return sheet


def _example(images: Sequence[LabelledImage]) -> tuple[LabelledImage, Field]:
    """A field with many white cells, but with room between them."""
    step = max(1, len(images) // LOOKED_AT)
    candidates = [
        (image, Field.of(decode(image.path.read_bytes()).pixels)) for image in images[::step]
    ]
    roomy = [one for one in candidates if one[1].white.mean() <= MOST_WHITE]
    return max(roomy or candidates, key=lambda one: float(one[1].white.mean()))
