"""Writing a folder of sample smears, as a laboratory might hand them in, with the truth beside."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from pipeline.canonical import canonical_bytes
from pipeline.decode import SYNTHETIC_MARKER
from pipeline.errors import ConfigurationError
from pipeline.samples.field import SyntheticField, render_field
from pipeline.samples.recipe import RECIPES, FieldRecipe

TRUTH_NAME = "truth.json"
TRUTH_VERSION = 1

#: Blur (pixels) of the one field of the mixed patient that nobody focused.
FORGOTTEN_FOCUS = 6.0

JPEG_QUALITY = 92

_SOURCE = re.compile(r"S-\d{3,}/field-\d{2,}\.(png|jpg)", re.ASCII)


@dataclass(frozen=True)
class SampleSet:
    """What ``write_samples`` wrote. ``sources``: paths below ``directory``, sorted."""

    directory: Path
    sources: tuple[str, ...]
    patients: int
    white_cells: int


@dataclass(frozen=True)
class _Planned:
    """One image to be rendered."""

    source: str
    patient: str
    recipe_name: str
    recipe: FieldRecipe
    seed: int


def write_samples(
    directory: Path, *, patients: int = 4, fields: int = 3, seed: int = 2025
) -> SampleSet:
    """Render smears into ``directory/<patient>/<field>.png`` or ``.jpg``, and ``truth.json``.

    Patients take the recipes of ``RECIPES`` in turn; the one with few cells has fewer fields, and
    the last field of the mixed one is out of focus. Every image carries ``SYNTHETIC_MARKER``. The
    same arguments give the same bytes (on one class of processor). A folder that holds samples
    already is brought to what the arguments say: samples that are no longer part of it are removed,
    other files stay.

    ``truth.json`` lists for every image its white cells (kind, box, centre, radius, area, nucleus
    area, whether the edge cuts it) and artefacts, in pixels.

    Raises ConfigurationError if the folder holds something else or cannot be written.
    """
    former = _former_sources(directory)
    plan = _plan(patients, fields, seed)
    images: list[dict[str, Any]] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # First, so that a run that is interrupted leaves a folder that is known for what it is.
        _write_truth(directory, seed, images, sorted(former | {item.source for item in plan}))
        for item in plan:
            field = render_field(item.seed, item.recipe)
            path = directory / item.source
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(_encoded(field, path.suffix))
            images.append(_truth(item, field))
        for source in former - {item.source for item in plan}:
            _remove(directory, source)
        _write_truth(directory, seed, images, [item.source for item in plan])
    except OSError as error:
        raise ConfigurationError(
            f"samples cannot be written to {directory}: {error.strerror or error}; "
            "name a folder on a disk with space where you may write"
        ) from error
    return SampleSet(
        directory=directory,
        sources=tuple(item.source for item in plan),
        patients=patients,
        white_cells=sum(len(image["cells"]) for image in images),
    )


def _plan(patients: int, fields: int, seed: int) -> list[_Planned]:
    return list(_planned(patients, fields, seed))


def _planned(patients: int, fields: int, seed: int) -> Iterator[_Planned]:
    names = list(RECIPES)
    for number in range(patients):
        name = names[number % len(names)]
        count = max(1, fields - 1) if name.startswith("few_cells") else fields
        for index in range(count):
            recipe = RECIPES[name]
            if name == "mixed" and index == count - 1 and count > 1:
                recipe = replace(recipe, defocus=FORGOTTEN_FOCUS)
            # Most laboratories keep JPEG; each patient's first field is kept without loss.
            suffix = "png" if index == 0 else "jpg"
            patient = f"S-{number + 1:03d}"
            yield _Planned(
                source=f"{patient}/field-{index + 1:02d}.{suffix}",
                patient=patient,
                recipe_name=name,
                recipe=recipe,
                seed=(seed * 1_000 + number) * 1_000 + index,
            )


def _encoded(field: SyntheticField, suffix: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(field.pixels)
    if suffix == ".png":
        text = PngImagePlugin.PngInfo()
        text.add_text("Description", SYNTHETIC_MARKER)
        image.save(buffer, "PNG", pnginfo=text, optimize=False)
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, comment=SYNTHETIC_MARKER)
    return buffer.getvalue()


def _truth(item: _Planned, field: SyntheticField) -> dict[str, Any]:
    height, width = field.labels.shape
    return {
        "source": item.source,
        "patient": item.patient,
        "recipe": item.recipe_name,
        "seed": item.seed,
        "width": width,
        "height": height,
        "red_cell_diameter": item.recipe.red_cell_diameter,
        "defocus": item.recipe.defocus,
        "cells": [asdict(cell) for cell in field.cells],
        "artefacts": [spot._asdict() for spot in field.artefacts],
    }


def _write_truth(
    directory: Path, seed: int, images: list[dict[str, Any]], sources: list[str]
) -> None:
    truth = {
        "synthetic_smears": TRUTH_VERSION,
        "description": SYNTHETIC_MARKER,
        "seed": seed,
        "sources": sources,
        "images": images,
    }
    (directory / TRUTH_NAME).write_bytes(canonical_bytes(truth))


def _former_sources(directory: Path) -> set[str]:
    """Samples that the folder holds already. Raises ConfigurationError if it holds other things."""
    refusal = ConfigurationError(
        f"{directory} is not empty and holds no samples; name a new or an empty folder"
    )
    try:
        if directory.exists() and not directory.is_dir():
            raise ConfigurationError(f"{directory} is a file; name a folder for the samples")
        if not directory.exists() or not any(directory.iterdir()):
            return set()
        truth = json.loads((directory / TRUTH_NAME).read_bytes())
    except (FileNotFoundError, ValueError):
        raise refusal from None
    except OSError as error:
        raise ConfigurationError(
            f"{directory} cannot be read: {error.strerror}; check your permission"
        ) from error
    if not isinstance(truth, dict) or "synthetic_smears" not in truth:
        raise refusal
    # The file may have been edited: nothing but what a sample may be called is believed.
    return {name for name in truth.get("sources", ()) if _SOURCE.fullmatch(str(name))}


def _remove(directory: Path, source: str) -> None:
    path = directory / source
    path.unlink(missing_ok=True)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()
