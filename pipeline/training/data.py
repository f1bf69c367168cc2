"""Labelled image folders and how they are divided into training, calibration and test parts."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.labels import FOLDER_ALIASES, LABELS, Label

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})

#: Images of neighbouring numbers overlap (they are neighbouring fields of one slide), so parts
#: are made of runs of this many consecutive files, never of single files.
BLOCKS_PER_CLASS = 15

#: Column of a table of folds that names what stays together, for each column of folds; ``block``
#: for any other.
GROUP_COLUMNS = {
    "random_fold": "duplicate_group",
    "stain_fold": "stain_group",
    "subject_fold": "subject",
}

#: Small stain groups of a fold are joined until they hold this share of the class, so that two of
#: them are enough images for thresholds.
_SMALLEST_STAIN_SHARE = 1 / 30

#: A group with more than this share of its class is never kept out of training.
_LARGEST_KEPT_OUT = 1 / 4


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
    parts), ``column``, and the one that names what stays together (``GROUP_COLUMNS``). For random
    folds near-duplicates are gathered into BLOCKS_PER_CLASS random groups per class; small stain
    groups of one fold are joined.

    Raises ConfigurationError if a column or a file is missing.
    """
    images = []
    group_column = GROUP_COLUMNS.get(column, "block")
    with table.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            try:
                relative = Path(*Path(row["path"]).parts[-2:])
                label = FOLDER_ALIASES[relative.parts[0]]
                group, fold = row[group_column], int(row[column])
            except (KeyError, ValueError) as error:
                raise ConfigurationError(
                    f"{table}: cannot use row {row!r}: {error!r}; it needs path, {group_column} "
                    f"and {column}"
                ) from error
            if column == "random_fold":
                group = _random_group(label, group)
            image = LabelledImage(root / relative, label, group, fold)
            if not image.path.is_file():
                raise ConfigurationError(f"{table} lists {image.path}, which is not there")
            images.append(image)
    return sorted(_joined(images) if column == "stain_fold" else images)


def _random_group(label: Label, duplicates: str) -> str:
    """One of a class's random groups, the same for all near-duplicates."""
    number = int(hashlib.sha256(f"{label} {duplicates}".encode()).hexdigest(), 16)
    return f"{label}-random-{number % BLOCKS_PER_CLASS:02d}"


def _joined(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """Join the small groups of a fold and class, in the order of their names."""
    of_label = Counter(image.label for image in images)
    sizes: dict[tuple[Label, int], Counter[str]] = defaultdict(Counter)
    for image in images:
        sizes[image.label, image.fold][image.group] += 1
    new_name = {}
    for (label, fold), groups in sizes.items():
        open_name, held = "", 0
        smallest = of_label[label] * _SMALLEST_STAIN_SHARE
        for group, size in sorted(groups.items()):
            if size >= smallest:
                new_name[label, fold, group] = group
                continue
            if not open_name or held >= smallest:
                open_name, held = group, 0
            held += size
            new_name[label, fold, group] = f"{open_name}-and-others"
    return [
        replace(image, group=new_name[image.label, image.fold, image.group]) for image in images
    ]


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
    tested on, from those that are not too large a part of their class where there are enough.
    """
    remaining = [image for image in images if image.fold != test_fold]
    groups: dict[Label, Counter[str]] = defaultdict(Counter)
    for image in remaining:
        groups[image.label][image.group] += 1
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for label in LABELS:
        candidates = sorted(groups[label])
        if len(candidates) <= calibration_groups:
            raise ConfigurationError(
                f"the class {label} has {len(candidates)} groups outside the test fold; "
                f"{calibration_groups} for calibration would leave none to train on"
            )
        largest = groups[label].total() * _LARGEST_KEPT_OUT
        small = [group for group in candidates if groups[label][group] <= largest]
        if len(small) >= calibration_groups:
            candidates = small
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
    known = set(contents_of(image.path for image in one))
    return sum(content in known for content in contents_of(image.path for image in other))


def contents_of(paths: Iterable[Path]) -> list[str]:
    """What tells the bytes of files apart: the first 16 hexadecimal digits of their SHA-256."""
    return [hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths]
