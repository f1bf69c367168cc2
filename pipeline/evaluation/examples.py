"""Labelled images to evaluate on, and what their folders say of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pipeline.errors import ConfigurationError
from pipeline.labels import FOLDER_ALIASES, LABELS
from pipeline.training.data import IMAGE_SUFFIXES

#: What an image is: one of the four classes, malignant of unknown subtype, or nothing the model
#: knows (another disease, another stain, no smear): there every confident decision is wrong.
Truth = Literal["benign", "early_b", "pre_b", "pro_b", "malignant", "outside"]
TRUTHS: tuple[Truth, ...] = get_args(Truth)

#: Folder names of other image sets, besides those of the four classes.
FOLDER_TRUTHS: dict[str, Truth] = {
    **FOLDER_ALIASES,
    "healthy": "benign",
    "hem": "benign",
    "normal": "benign",
    "all": "malignant",
    "blast": "malignant",
    "malignant": "malignant",
}

#: C-NMC 2019 names its files ``UID_<subject>_<image>_<cell>_<class>``.
CNMC_SUBJECT = r"(?:.*/)?UID_(?P<patient>[^_/]+)_[^/]*"

#: Folds of a table that were not asked for.
NO_FOLD = -1


@dataclass(frozen=True, order=True)
class Example:
    """An image whose truth is known.

    ``path`` is relative to the folder of the images, with ``/`` between its parts. Images of one
    ``group`` never lie on both sides of a split that keeps groups together, near-duplicates share a
    ``duplicate`` (both empty where nobody looked), ``patient`` is None where nothing names one.
    """

    path: str
    truth: Truth
    fold: int = NO_FOLD
    group: str = ""
    duplicate: str = ""
    patient: str | None = None

    @property
    def malignant(self) -> bool:
        """Whether it is a malignant image, of whichever subtype."""
        return self.truth not in {"benign", "outside"}

    @property
    def of_four(self) -> bool:
        """Whether one of the model's four labels is the right one."""
        return self.truth in LABELS


def truth_of(path: str, root_name: str = "") -> Truth:
    """What the folder nearest to the file says; ``outside`` if no folder says anything known."""
    for part in (*reversed(path.split("/")[:-1]), root_name):
        if part.lower() in FOLDER_TRUTHS:
            return FOLDER_TRUTHS[part.lower()]
    return "outside"


def patient_of(path: str, pattern: str) -> str | None:
    """The group ``patient`` of ``pattern`` matched against the whole path; None without a match."""
    match = re.fullmatch(pattern, path)
    return match["patient"] if match else None


def check_pattern(pattern: str) -> None:
    """Raise ConfigurationError unless ``pattern`` is a regular expression that names a patient."""
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ConfigurationError(f"{pattern!r} is no regular expression: {error}") from error
    if "patient" not in groups:
        raise ConfigurationError(f"{pattern!r} needs a group (?P<patient>...)")


def list_examples(root: Path, *, truth: Truth | None, patient_pattern: str) -> list[Example]:
    """Every image below ``root``, in the order of the paths.

    ``truth``: what all of them are; None: what the folders say. Raises ConfigurationError if there
    are no images.
    """
    check_pattern(patient_pattern)
    paths = sorted(path.relative_to(root).as_posix() for path in _images(root))
    if not paths:
        raise ConfigurationError(f"{root} has no images below it; --data names their folder")
    return [
        Example(
            path,
            truth or truth_of(path, root.resolve().name),
            patient=patient_of(path, patient_pattern),
        )
        for path in paths
    ]


def read_table(
    root: Path, table: Path, *, fold_column: str, group_column: str, patient_pattern: str
) -> list[Example]:
    """The images a table of folds lists, those that are below ``root``, in its order of paths.

    The table is a CSV with ``path`` (its last two parts are folder and file below ``root``),
    ``fold_column``, and, if it has them, ``group_column`` and ``duplicate_group``. Raises
    ConfigurationError if a column or a file is missing.
    """
    check_pattern(patient_pattern)
    examples = []
    with table.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            try:
                path, fold = "/".join(Path(row["path"]).parts[-2:]), int(row[fold_column])
            except (KeyError, ValueError) as error:
                raise ConfigurationError(
                    f"{table}: cannot use row {row!r}: {error!r}; it needs path and {fold_column}"
                ) from error
            if not (root / path).is_file():
                raise ConfigurationError(
                    f"{table} lists {row['path']}, but {root / path} is not there; is --data the "
                    "folder that holds the folders of the classes?"
                )
            examples.append(
                Example(
                    path,
                    truth_of(path),
                    fold,
                    group=row.get(group_column) or row.get("duplicate_group") or path,
                    duplicate=row.get("duplicate_group") or "",
                    patient=patient_of(path, patient_pattern),
                )
            )
    if not examples:
        raise ConfigurationError(f"{table} lists no images")
    return sorted(examples)


def _images(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not hidden:
            yield path
