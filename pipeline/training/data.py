"""Labelled image folders and how they are divided into training, calibration and test parts."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.labels import FOLDER_ALIASES, LABELS, Label

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})

#: Images of neighbouring numbers overlap (they are neighbouring fields of one slide), so parts
#: are made of runs of this many consecutive files, never of single files.
BLOCKS_PER_CLASS = 15


@dataclass(frozen=True, order=True)
class LabelledImage:
    """One training image. ``group`` names images that must stay in the same part."""

    path: Path
    label: Label
    group: str
    fold: int


@dataclass(frozen=True)
class Split:
    """Disjoint parts of a labelled folder; no group is in two of them."""

    train: tuple[LabelledImage, ...]
    calibration: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]
    description: str


def read_folds(root: Path, table: Path, column: str = "block_fold") -> list[LabelledImage]:
    """Read the images that ``table`` lists below ``root``, with the folds of ``column``.

    The table is a CSV with the columns ``path`` (label folder and file name are its last two
    parts), ``label``, ``block`` and ``column``.

    Raises ConfigurationError if a column or a file is missing.
    """
    images = []
    with table.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            try:
                relative = Path(*Path(row["path"]).parts[-2:])
                label = FOLDER_ALIASES[relative.parts[0]]
                image = LabelledImage(root / relative, label, row["block"], int(row[column]))
            except (KeyError, ValueError) as error:
                raise ConfigurationError(
                    f"{table}: cannot use row {row!r}: {error!r}; it needs path, block and {column}"
                ) from error
            if not image.path.is_file():
                raise ConfigurationError(f"{table} lists {image.path}, which is not there")
            images.append(image)
    return sorted(images)


def infer_folds(root: Path, folds: int = 5) -> list[LabelledImage]:
    """Read ``root/<label>/*`` and put contiguous runs of files into the same block.

    Files with equal content join the block of the first of them, so that no copy of a training
    image is tested on.

    Raises ConfigurationError if a class has no images.
    """
    images: list[LabelledImage] = []
    for label in LABELS:
        files = sorted(_files_of(root, label))
        if not files:
            raise ConfigurationError(
                f"{root} has no images for the class {label}: expected a folder {root / label}"
            )
        blocks = min(BLOCKS_PER_CLASS, len(files))
        block_of_content: dict[str, int] = {}
        for position, path in enumerate(files):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            block = block_of_content.setdefault(digest, position * blocks // len(files))
            images.append(LabelledImage(path, label, f"{label}-{block:02d}", block % folds))
    return sorted(images)


def hold_out(
    images: Sequence[LabelledImage], test_fold: int, calibration_groups: int, seed: int
) -> Split:
    """Keep ``test_fold`` for testing and some groups of each class for thresholds.

    ``calibration_groups`` groups of each class are drawn with ``seed`` from the folds that are not
    tested on.
    """
    remaining = [image for image in images if image.fold != test_fold]
    groups: dict[Label, set[str]] = defaultdict(set)
    for image in remaining:
        groups[image.label].add(image.group)
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for label in LABELS:
        candidates = sorted(groups[label])
        if len(candidates) <= calibration_groups:
            raise ConfigurationError(
                f"the class {label} has {len(candidates)} groups outside the test fold; "
                f"{calibration_groups} for calibration would leave none to train on"
            )
        chosen.update(rng.permutation(candidates)[:calibration_groups].tolist())
    return Split(
        train=tuple(image for image in remaining if image.group not in chosen),
        calibration=tuple(image for image in remaining if image.group in chosen),
        test=tuple(image for image in images if image.fold == test_fold),
        description=(
            f"test fold {test_fold}; calibration groups (seed {seed}): {', '.join(sorted(chosen))}"
        ),
    )


def _files_of(root: Path, label: Label) -> Iterable[Path]:
    for alias, meaning in FOLDER_ALIASES.items():
        folder = root / alias
        if meaning == label and folder.is_dir():
            yield from (
                path
                for path in folder.iterdir()
                if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
            )


def copies_across(one: Sequence[LabelledImage], other: Sequence[LabelledImage]) -> int:
    """How many images of ``other`` have a byte-identical copy in ``one``."""

    def contents(images: Sequence[LabelledImage]) -> list[str]:
        return [hashlib.sha256(image.path.read_bytes()).hexdigest() for image in images]

    known = set(contents(one))
    return sum(content in known for content in contents(other))
