"""Measure what the constants of ``pipeline.geometry`` and ``pipeline.quality`` rest on.

    python benchmarks/geometry.py [--data ../shared/data] [--sample 40] [--out geometry.json]

Prints four tables and writes their numbers as JSON: how the training fields were resampled, the
size of their cells, how fields of other sets are shown, and how quality limits do on spoiled
fields.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin

from pipeline.geometry import fit_field
from pipeline.geometry.fit import REFERENCE_HEIGHT, REFERENCE_WIDTH
from pipeline.quality import QualityLimits, measure_quality, quality_limits, quality_numbers
from pipeline.segment import segment
from pipeline.types import FieldGeometry, FieldTile, Rectangle, SmearImage, WhiteCells

SIZE = 224
TRAINING = ("benign", "early", "pre", "pro")
OTHERS = {
    "taleqani_fullres": "taleqani_fullres/*/*.jpg",
    "all_idb1": "all_idb1/*/*.jpg",
    "all_idb2": "all_idb2/*/*.png",
    "bccd": "bccd/images/*",
    "pbc": "pbc/*/*.jpg",
    "aml": "aml/*/*.jpg",
    "malaria": "malaria/*",
    "chula": "chula/*",
    "cellavision": "wbc_masks/cellavision/images/*",
    "jtsc": "wbc_masks/jtsc/images/*",
    "cnmc": "cnmc/*/*.png",
}
OPENCV = {
    "opencv area": cv2.INTER_AREA,
    "opencv linear": cv2.INTER_LINEAR,
    "opencv cubic": cv2.INTER_CUBIC,
    "opencv lanczos4": cv2.INTER_LANCZOS4,
    "opencv nearest": cv2.INTER_NEAREST,
}
PILLOW = {
    "pillow box": Image.Resampling.BOX,
    "pillow bilinear": Image.Resampling.BILINEAR,
    "pillow hamming": Image.Resampling.HAMMING,
    "pillow bicubic": Image.Resampling.BICUBIC,
    "pillow lanczos": Image.Resampling.LANCZOS,
    "pillow nearest": Image.Resampling.NEAREST,
}
BLURS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
GAINS = (0.9, 0.8, 0.7, 0.6, 0.5, 1.02, 1.05, 1.1, 1.2, 1.4)


def main() -> None:
    """Run all four measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sample", type=int, default=40, help="images per class or set")
    parser.add_argument("--out", type=Path, default=Path("geometry.json"))
    options = parser.parse_args()
    results = {
        "resampling": resampling(options.data),
        "training_cells": training_cells(options.data, options.sample),
        "sets": other_sets(options.data, options.sample),
        "quality": quality(options.data),
    }
    options.out.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


def resampling(data: Path) -> dict[str, Any]:
    """Distance of the resampled originals from their small twins, before and after JPEG."""
    with (data / "taleqani_fullres" / "pairs.csv").open() as lines:
        pairs = list(csv.DictReader(lines))
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for pair in pairs:
        small = Image.open(data / pair["small"])
        twin = np.asarray(small.convert("RGB"))
        original = read(data / pair["full"])
        for name, resized in resized_by_each(original).items():
            saved = io.BytesIO()
            Image.fromarray(resized).save(
                saved,
                "JPEG",
                qtables=small.quantization,  # type: ignore[attr-defined]
                subsampling=JpegImagePlugin.get_sampling(small),
            )
            again = np.asarray(Image.open(saved).convert("RGB"))
            rows.setdefault(name, []).append(
                (
                    float(np.abs(resized.astype(int) - twin).mean()),
                    float(np.abs(again.astype(int) - twin).mean()),
                    math.log10(sharpness(resized) / sharpness(twin)),
                )
            )
    table = {name: np.mean(values, axis=0).round(3).tolist() for name, values in rows.items()}
    print("\nfilter            difference  after JPEG  log10 sharpness ratio")
    for name, (raw, jpeg, ratio) in table.items():
        print(f"{name:16s}  {raw:10.2f}  {jpeg:10.2f}  {ratio:+10.3f}")
    return table


def resized_by_each(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The whole field squashed to the network's size by every filter."""
    opencv = {
        name: cv2.resize(pixels, (SIZE, SIZE), interpolation=method)
        for name, method in OPENCV.items()
    }
    picture = Image.fromarray(pixels)
    pillow = {
        name: np.asarray(picture.resize((SIZE, SIZE), method)) for name, method in PILLOW.items()
    }
    return opencv | pillow


def training_cells(data: Path, sample: int) -> dict[str, Any]:
    """Diameters in the training fields, in pixels of 1024 x 768."""
    factor = math.sqrt(REFERENCE_WIDTH * REFERENCE_HEIGHT) / SIZE
    table: dict[str, Any] = {}
    for label in TRAINING:
        red, white, known = [], [], []
        for path in spread(sorted((data / "taleqani" / label).glob("*.jpg")), sample):
            pixels = read(path)
            cells = segment(pixels)
            geometry = fit_field(SmearImage(pixels, ""), cells)
            known.append(geometry.scale_known)
            if geometry.red_cell_diameter is not None:
                red.append(geometry.red_cell_diameter * factor)
            white += [
                2 * math.sqrt(cell.area / math.pi) * factor
                for cell in cells.cells
                if not cell.touches_edge
            ]
        table[label] = {
            "images": len(known),
            "measured": len(red),
            "scale_known": float(np.mean(known)),
            "red": np.percentile(red, [1, 5, 50, 95, 99]).round(1).tolist(),
            "white": np.percentile(white, [5, 50, 95]).round(1).tolist(),
        }
        print(f"{label:8s} {table[label]}")
    return table


def other_sets(data: Path, sample: int) -> dict[str, Any]:
    """How fields of each set are shown, and how large their cells come out."""
    table: dict[str, Any] = {}
    print(
        "\nset: methods, tiles, scale known, red cells in the file, in the tiles (of 1024), seconds"
    )
    for name, pattern in OTHERS.items():
        methods, tiles, diameters, shown, seconds, known = Counter(), [], [], [], [], []
        for path in spread(sorted(data.glob(pattern)), sample):
            pixels = read(path)
            cells = segment(pixels)
            start = time.process_time()
            geometry = fit_field(SmearImage(pixels, ""), cells)
            seconds.append(time.process_time() - start)
            methods[geometry.method] += 1
            tiles.append(len(geometry.tiles))
            known.append(geometry.scale_known)
            if geometry.red_cell_diameter is not None:
                diameters.append(geometry.red_cell_diameter)
                shown.append(
                    geometry.red_cell_diameter * REFERENCE_WIDTH / geometry.tiles[0].box.width
                )
        table[name] = {
            "images": len(tiles),
            "methods": dict(methods),
            "tiles": [min(tiles), max(tiles)],
            "scale_known": round(float(np.mean(known)), 3),
            "red": percentiles(diameters),
            "red_in_tiles": percentiles(shown),
            "seconds": round(max(seconds), 3),
        }
        print(f"{name:16s} {table[name]}")
    return table


def quality(data: Path) -> dict[str, Any]:
    """Limits from all folds but one; what they say of the fold that is left, whole and spoiled."""
    with (data / "splits" / "taleqani.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    kept = [row["path"] for row in rows if row["block_fold"] == "0"]
    others = spread([row["path"] for row in rows if row["block_fold"] != "0"], 800)
    limits = quality_limits([quality_numbers(*as_is(read(data / path))) for path in others])
    fields = [read(data / path) for path in kept]
    some = spread(fields, 120)
    table: dict[str, Any] = {
        "limits": limits.model_dump(),
        "calibration_images": len(others),
        "held_out_images": len(fields),
        "untouched": shares(fields, limits, lambda pixels: pixels),
    }
    for sigma in BLURS:
        table[f"blur {sigma}"] = shares(
            some, limits, lambda pixels, sigma=sigma: cv2.GaussianBlur(pixels, (0, 0), sigma)
        )
    for gain in GAINS:
        table[f"gain {gain}"] = shares(
            some,
            limits,
            lambda pixels, gain=gain: np.clip(pixels * gain, 0, 255).astype(np.uint8),
        )
    print()
    for name, value in table.items():
        print(f"{name:20s} {value}")
    return table


def shares(
    fields: list[np.ndarray], limits: QualityLimits, spoil: Callable[[np.ndarray], np.ndarray]
) -> dict[str, float]:
    """Share of the fields with each reason."""
    found: Counter[str] = Counter()
    for pixels in fields:
        reasons = measure_quality(*as_is(spoil(pixels)), limits).reasons
        found.update(reason for reason in reasons if reason != "no_white_cell")
    return {reason: round(count / len(fields), 3) for reason, count in sorted(found.items())}


def as_is(pixels: np.ndarray) -> tuple[FieldGeometry, WhiteCells]:
    """The geometry of an input of the network's size, without measuring its cells."""
    empty = np.zeros(pixels.shape[:2], np.int32)
    tile = FieldTile(pixels, Rectangle(0, 0, SIZE, SIZE), empty > 0, empty > 0, cell_count=0)
    return FieldGeometry("as_is", None, True, (tile,)), WhiteCells((), empty, empty > 0)


def percentiles(values: list[float]) -> list[float] | None:
    """5th, 50th and 95th."""
    return np.percentile(values, [5, 50, 95]).round(1).tolist() if values else None


def sharpness(pixels: np.ndarray) -> float:
    """Variance of the Laplacian."""
    return float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def spread(items: list[Any], count: int) -> list[Any]:
    """At most ``count`` items, evenly spread."""
    chosen = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[i] for i in chosen]


def read(path: Path) -> np.ndarray:
    """Pixels as uint8 RGB."""
    return np.asarray(Image.open(path).convert("RGB"))


if __name__ == "__main__":
    main()
