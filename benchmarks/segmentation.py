"""White-cell segmentation against masks and boxes drawn by people.

    python -m benchmarks.segmentation --data DIR [--out FILE.json]

Every set is sorted by file name. Odd-numbered files (1st, 3rd, ...) are for tuning; what is printed
is measured on the even-numbered ones alone.
"""

from __future__ import annotations

import argparse
import json
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.segment import METHODS, Method, segment
from pipeline.types import Rectangle, WhiteCells

SETS = ("jtsc", "cellavision", "bccd", "all-idb2")
SEED = 0
RESAMPLES = 10_000
MEASURES = ("cell_iou", "cell_dice", "nucleus_iou", "nucleus_dice")

#: Cytoplasm is drawn as about 128 or 155, nuclei as 255; compression left noise around both.
CELL_LEVEL, NUCLEUS_LEVEL = 77, 205

#: Factors on red, green and blue.
GAINS = {
    "red x 0.85": (0.85, 1.0, 1.0),
    "red x 1.15": (1.15, 1.0, 1.0),
    "green x 0.85": (1.0, 0.85, 1.0),
    "green x 1.15": (1.0, 1.15, 1.0),
    "blue x 0.85": (1.0, 1.0, 0.85),
    "blue x 1.15": (1.0, 1.0, 1.15),
    "red x 1.15, blue x 0.85": (1.15, 1.0, 0.85),
    "red x 0.85, blue x 1.15": (0.85, 1.0, 1.15),
    "all x 0.85": (0.85, 0.85, 0.85),
    "all x 1.15": (1.15, 1.15, 1.15),
}

#: A white cell of bccd counts as found by the cell whose box overlaps its own by this IoU.
BOX_IOU = 0.5


@dataclass(frozen=True)
class MaskedImage:
    """An image with masks drawn by people: ``cell`` includes ``nucleus``, both bool."""

    name: str
    pixels: np.ndarray
    cell: np.ndarray
    nucleus: np.ndarray


def even_numbered(paths: list[Path]) -> list[Path]:
    """The 2nd, 4th, ... file in sorted order."""
    return sorted(paths)[1::2]


def read_image(path: Path) -> np.ndarray:
    """Read uint8 RGB pixels."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"{path} is not an image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def masked_images(data: Path, name: str) -> Iterator[MaskedImage]:
    """Read the even-numbered images of one set."""
    folder = data / "all_idb2" if name == "all-idb2" else data / "wbc_masks" / name / "images"
    images = {path.stem: path for path in folder.rglob("*") if path.is_file()}
    masks = list((data / "wbc_masks" / name / "masks").iterdir())
    for path in even_numbered(masks):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        yield MaskedImage(
            path.stem, read_image(images[path.stem]), mask > CELL_LEVEL, mask > NUCLEUS_LEVEL
        )


def overlap(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Intersection over union and Dice coefficient; 1 where both are empty."""
    both = int((found & truth).sum())
    total = int(found.sum()) + int(truth.sum())
    return (both / (total - both), 2 * both / total) if total else (1.0, 1.0)


def scores(result: WhiteCells, image: MaskedImage) -> list[float]:
    """The values of ``MEASURES`` for one image."""
    return [*overlap(result.labels > 0, image.cell), *overlap(result.nuclei, image.nucleus)]


def annotated_only(result: WhiteCells, image: MaskedImage) -> WhiteCells:
    """Drop cells that nobody drew a mask for: some sets outline the cell in the middle alone."""
    drawn = np.unique(result.labels[image.cell])
    labels = np.where(np.isin(result.labels, drawn), result.labels, 0)
    return WhiteCells(result.cells, labels, result.nuclei & (labels > 0))


def bootstrap_interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of the mean of paired differences."""
    generator = np.random.default_rng(SEED)
    picks = generator.integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def compare_on_masks(data: Path) -> dict[str, dict]:
    """Score every method on every set, with the paired difference of the default to the others."""
    tables: dict[str, dict] = {}
    for name in SETS:
        values: dict[Method, list[list[float]]] = {method: [] for method in METHODS}
        drawn: dict[Method, list[list[float]]] = {method: [] for method in METHODS}
        seconds: dict[Method, list[float]] = {method: [] for method in METHODS}
        for image in masked_images(data, name):
            for method in METHODS:
                start = time.process_time()
                result = segment(image.pixels, method)
                seconds[method].append(time.process_time() - start)
                values[method].append(scores(result, image))
                drawn[method].append(scores(annotated_only(result, image), image))
        tables[name] = {
            method: _summary(method, values, drawn, seconds[method]) for method in METHODS
        }
    return tables


def _summary(
    method: Method,
    values: dict[Method, list[list[float]]],
    drawn: dict[Method, list[list[float]]],
    seconds: list[float],
) -> dict:
    own, best = np.array(values[method]), np.array(values["default"])
    row = {
        "n": len(own),
        **{measure: float(own[:, i].mean()) for i, measure in enumerate(MEASURES)},
        "annotated_cells_only": {
            measure: float(np.array(drawn[method])[:, i].mean())
            for i, measure in enumerate(MEASURES)
        },
        "seconds": float(np.mean(seconds)),
    }
    if method != "default":
        row["default_is_better_by"] = {
            measure: {
                "mean": float((best - own)[:, i].mean()),
                "interval": bootstrap_interval((best - own)[:, i]),
            }
            for i, measure in enumerate(MEASURES)
        }
    return row


def compare_gains(data: Path) -> dict[str, dict]:
    """Score every method with changed channel gains: mean cell and nucleus IoU by set."""
    tables: dict[str, dict] = {}
    for name in SETS:
        images = list(masked_images(data, name))
        tables[name] = {}
        for gain, factors in GAINS.items():
            rows = {}
            for method in METHODS:
                values = []
                for image in images:
                    changed = np.clip(np.rint(image.pixels * np.array(factors)), 0, 255)
                    values.append(scores(segment(changed.astype(np.uint8), method), image))
                means = np.mean(values, axis=0)
                rows[method] = {"cell_iou": float(means[0]), "nucleus_iou": float(means[2])}
            tables[name][gain] = rows
    return tables


def white_cell_boxes(annotation: Path) -> list[Rectangle]:
    """Read the boxes of white cells from a VOC file."""
    boxes = []
    for element in ET.parse(annotation).findall("object"):
        if element.findtext("name") == "WBC":
            left, top, right, bottom = (
                int(float(element.findtext(f"bndbox/{side}", "nan")))
                for side in ("xmin", "ymin", "xmax", "ymax")
            )
            boxes.append(Rectangle(left, top, right - left, bottom - top))
    return boxes


def box_iou(one: Rectangle, other: Rectangle) -> float:
    """Intersection over union of two boxes."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    both = max(0, width) * max(0, height)
    return both / (one.width * one.height + other.width * other.height - both)


def match(result: WhiteCells, truth: list[Rectangle]) -> tuple[int, int]:
    """Count the boxes found one to one: by IoU of the boxes, and by centres inside them."""
    overlaps = sorted(
        (
            (box_iou(cell.box, box), i, j)
            for i, cell in enumerate(result.cells)
            for j, box in enumerate(truth)
        ),
        reverse=True,
    )
    by_box = _one_to_one([(i, j) for iou, i, j in overlaps if iou >= BOX_IOU])
    by_centre = _one_to_one(
        [(i, j) for _, i, j in overlaps if truth[j].contains(*result.cells[i].centre)]
    )
    return by_box, by_centre


def _one_to_one(pairs: list[tuple[int, int]]) -> int:
    cells: set[int] = set()
    boxes: set[int] = set()
    for i, j in pairs:
        if i not in cells and j not in boxes:
            cells.add(i)
            boxes.add(j)
    return len(boxes)


def compare_on_boxes(data: Path) -> dict[str, dict]:
    """Count white cells found, missed and false on bccd.

    Leaves out even-numbered fields that are also odd-numbered among the masks: they were tuned on.
    """
    masks = sorted((data / "wbc_masks" / "bccd" / "masks").iterdir())
    tuned_on = {path.stem for path in masks[0::2]}
    fields = [
        path
        for path in even_numbered(list((data / "bccd" / "images").iterdir()))
        if path.stem not in tuned_on
    ]
    table = {}
    for method in METHODS:
        white_cells = reported = by_box = by_centre = 0
        for path in fields:
            truth = white_cell_boxes(data / "bccd" / "annotations" / f"{path.stem}.xml")
            result = segment(read_image(path), method)
            box_matches, centre_matches = match(result, truth)
            white_cells += len(truth)
            reported += len(result.cells)
            by_box += box_matches
            by_centre += centre_matches
        table[method] = {
            "fields": len(fields),
            "white_cells": white_cells,
            **{
                name: {"found": hits, "missed": white_cells - hits, "false": reported - hits}
                for name, hits in (("box_iou_0.5", by_box), ("centre_in_box", by_centre))
            },
        }
    return table


def measure_speed(data: Path) -> dict[str, dict]:
    """Processor seconds per image for the smallest and the largest fields in use."""
    folders = {
        "224 x 224": data / "taleqani" / "pre",
        "1024 x 768": data / "taleqani_fullres",
        "2592 x 1944": data / "all_idb1" / "healthy",
    }
    table = {}
    for size, folder in folders.items():
        width, height = map(int, size.split(" x "))
        files = even_numbered(list(folder.rglob("*.jpg")))[:20]
        images = [read_image(path) for path in files]
        images = [image for image in images if image.shape[:2] == (height, width)]
        table[size] = {"n": len(images)}
        for method in METHODS:
            times = []
            for image in images:
                start = time.process_time()
                segment(image, method)
                times.append(time.process_time() - start)
            table[size][method] = {"median": float(np.median(times)), "worst": max(times)}
    return table


def markdown(report: dict) -> str:
    """Lay the report out as Markdown tables."""
    lines = [
        "| set | method | n | cell IoU | cell Dice | nucleus IoU | nucleus Dice |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, methods in report["masks"].items():
        for method, row in methods.items():
            cells = " | ".join(f"{row[measure]:.3f}" for measure in MEASURES)
            lines.append(f"| {name} | {method} | {row['n']} | {cells} |")
    lines += [
        "",
        "| set | default minus | cell IoU | cell Dice | nucleus IoU | nucleus Dice |",
        "|---|---|---|---|---|---|",
    ]
    for name, methods in report["masks"].items():
        for method, row in methods.items():
            if method == "default":
                continue
            better = row["default_is_better_by"]
            cells = " | ".join(
                "{:+.3f} ({:+.3f} to {:+.3f})".format(
                    better[measure]["mean"], *better[measure]["interval"]
                )
                for measure in MEASURES
            )
            lines.append(f"| {name} | {method} | {cells} |")
    lines += ["", *_annotated_lines(report), "", *_gain_lines(report)]
    lines += ["", *_box_lines(report), "", *_speed_lines(report)]
    return "\n".join(lines)


def _annotated_lines(report: dict) -> list[str]:
    lines = [
        "| set | method | cell IoU, drawn cells | nucleus IoU, drawn cells |",
        "|---|---|---|---|",
    ]
    for name, methods in report["masks"].items():
        for method, row in methods.items():
            drawn = row["annotated_cells_only"]
            lines.append(
                f"| {name} | {method} | {drawn['cell_iou']:.3f} | {drawn['nucleus_iou']:.3f} |"
            )
    return lines


def _gain_lines(report: dict) -> list[str]:
    lines = [
        f"| gains | {' | '.join(f'{name}: cell, nucleus IoU' for name in SETS)} |",
        "|---" * (len(SETS) + 1) + "|",
    ]
    plain = {name: report["masks"][name] for name in SETS}
    for method in METHODS:
        for gain in ("none", *GAINS):
            cells = []
            for name in SETS:
                row = plain[name][method] if gain == "none" else report["gains"][name][gain][method]
                cells.append(f"{row['cell_iou']:.3f}, {row['nucleus_iou']:.3f}")
            lines.append(f"| {method}, {gain} | {' | '.join(cells)} |")
    return lines


def _box_lines(report: dict) -> list[str]:
    lines = [
        "| method | fields | white cells | found | missed | false "
        "| found by centre | missed | false |",
        "|---" * 9 + "|",
    ]
    for method, row in report["boxes"].items():
        counts = [
            str(row[how][what])
            for how in ("box_iou_0.5", "centre_in_box")
            for what in ("found", "missed", "false")
        ]
        lines.append(
            f"| {method} | {row['fields']} | {row['white_cells']} | {' | '.join(counts)} |"
        )
    return lines


def _speed_lines(report: dict) -> list[str]:
    lines = ["| size | n | method | seconds, median | worst |", "|---|---|---|---|---|"]
    for size, row in report["speed"].items():
        for method in METHODS:
            times = row[method]
            lines.append(
                f"| {size} | {row['n']} | {method} | {times['median']:.3f} | {times['worst']:.3f} |"
            )
    return lines


def main() -> None:
    """Measure everything, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with wbc_masks and bccd")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    report = {
        "seed": SEED,
        "resamples": RESAMPLES,
        "masks": compare_on_masks(arguments.data),
        "gains": compare_gains(arguments.data),
        "boxes": compare_on_boxes(arguments.data),
        "speed": measure_speed(arguments.data),
    }
    print(markdown(report))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_rounded(report), indent=1)
        arguments.out.write_text(text + "\n", encoding="utf-8")


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


if __name__ == "__main__":
    main()
