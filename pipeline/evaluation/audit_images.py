"""Which images an audit looks at, and which fields lend theirs a background or a scale bar."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bundle import Bundle
from pipeline.decode import decode
from pipeline.errors import ConfigurationError
from pipeline.evaluation.shortcuts import Change, Field
from pipeline.labels import LABELS, Label
from pipeline.training.data import LabelledImage, infer_folds, read_folds

#: Fields kept in memory, to be donors of backgrounds and scale bars again.
DONORS_KEPT = 200


@dataclass(frozen=True)
class AuditOptions:
    """What the person who audits decides.

    ``changes``: names; empty means all. ``explained``: images whose explanations are looked at.
    """

    data: Path
    out: Path
    splits: Path | None = None
    fold_column: str | None = None
    test_fold: int | None = None
    twins: Path | None = None
    changes: tuple[str, ...] = ()
    limit: int | None = None
    explained: int = 0
    seed: int = 2025


def held_out(bundle: Bundle, options: AuditOptions) -> tuple[list[LabelledImage], str]:
    """Images the bundle was not trained on, and which part of the data that is, in words.

    With a table of folds these are the images of one fold, by default of the one that the bundle's
    record calls its test fold; else all that are not among the bundle's references, which are its
    training images.
    """
    trained = set(bundle.references.ids)
    if options.splits is None:
        images = infer_folds(options.data)
        part = "all images that are not among the training images of the model"
    else:
        record = bundle.record.training
        column = options.fold_column or str(record.get("fold_column", "block_fold"))
        fold = options.test_fold if options.test_fold is not None else _recorded_fold(record)
        images = [
            image
            for image in read_folds(options.data, options.splits, column)
            if image.fold == fold
        ]
        part = f"fold {fold} by {column} of {options.splits.name}"
    unseen = [image for image in images if relative_name(image, options.data) not in trained]
    if options.splits is not None and len(unseen) < len(images):
        raise ConfigurationError(
            f"the model was trained on {len(images) - len(unseen)} of the {len(images)} images of "
            f"{part}; name the fold it was not trained on with --test-fold and --fold-column"
        )
    if not unseen:
        raise ConfigurationError(
            f"{options.data} has no images for an audit ({part}); name labelled images that the "
            "model was not trained on"
        )
    return sorted(unseen), part


def _recorded_fold(record: Mapping[str, Any]) -> int:
    found = re.search(r"test fold (\d+)", str(record.get("split", "")))
    if found is None:
        raise ConfigurationError(
            "the model's record does not say which fold it was tested on; give --test-fold"
        )
    return int(found[1])


def spread(images: Sequence[LabelledImage], limit: int | None) -> list[LabelledImage]:
    """``limit`` images, as many of each class as there are, evenly over each class's files."""
    if limit is None or limit >= len(images):
        return list(images)
    by_label: dict[Label, list[LabelledImage]] = defaultdict(list)
    for image in sorted(images):
        by_label[image.label].append(image)
    quotas = dict.fromkeys(by_label, 0)
    for _ in range(limit):
        # In turn, so that no class has more than one image more, unless others have run out.
        open_labels = [label for label in quotas if quotas[label] < len(by_label[label])]
        quotas[min(open_labels, key=lambda label: (quotas[label], LABELS.index(label)))] += 1
    chosen = []
    for label, count in quotas.items():
        positions = (np.arange(count) + 0.5) * len(by_label[label]) / max(count, 1)
        chosen += [by_label[label][int(position)] for position in positions]
    return sorted(chosen)


def read_twins(table: Path) -> list[tuple[Path, Path]]:
    """Pairs of full-resolution original and small twin from a CSV with ``full`` and ``small``.

    Paths are relative to the folder that holds the table, or to the one above.
    """
    pairs = []
    with table.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if "full" not in row or "small" not in row:
                raise ConfigurationError(f"{table} needs the columns full and small")
            pairs.append((_beside(table, row["full"]), _beside(table, row["small"])))
    if not pairs:
        raise ConfigurationError(f"{table} lists no pairs")
    return pairs


def _beside(table: Path, name: str) -> Path:
    for folder in (table.parent, table.parent.parent):
        if (folder / name).is_file():
            return folder / name
    raise ConfigurationError(f"{table} lists {name}, which is neither beside it nor one folder up")


def relative_name(image: LabelledImage, root: Path) -> str:
    """Path below the folder of the images, with / between its parts."""
    return image.path.relative_to(root).as_posix()


class Donors:
    """Other fields that give background or scale bar; which one depends on seed, image and change.

    Whatever part of ``pool`` is audited, an image gets the same donor.
    """

    def __init__(self, pool: Sequence[LabelledImage], root: Path, seed: int) -> None:
        self._pool = sorted(pool)
        self._root = root
        self.seed = seed
        self._field = lru_cache(maxsize=DONORS_KEPT)(_read_field)

    def donor(self, change: Change, name: str, label: Label) -> Field | None:
        """The field that ``change`` takes from, for the image ``name`` of class ``label``."""
        if change.donor == "none":
            return None
        same = change.donor == "same_class"
        others = [
            image
            for image in self._pool
            if (image.label == label) == same and relative_name(image, self._root) != name
        ]
        if not others:
            raise ConfigurationError(
                f"the change {change.name} needs other images of "
                f"{'the same class' if same else 'another class'} than {name}; there are none"
            )
        rng = generator(self.seed, name, f"{change.name} donor")
        if not same:
            # The class first, so that a large one does not give most backgrounds.
            labels = sorted({image.label for image in others})
            donor_label = labels[int(rng.integers(len(labels)))]
            others = [image for image in others if image.label == donor_label]
        return self._field(others[int(rng.integers(len(others)))].path)


def changed(field: Field, change: Change, name: str, label: Label, donors: Donors) -> np.ndarray:
    """The pixels of an image after a change, uint8 ``(height, width, 3)``; seeded by its name."""
    donor = donors.donor(change, name, label)
    return change.apply(field, donor, generator(donors.seed, name, change.name))


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator for one purpose, independent of what else was drawn before."""
    text = "\n".join([str(seed), *names])
    return np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest()[:16], 16))


def _read_field(path: Path) -> Field:
    return Field.of(decode(path.read_bytes()).pixels)
