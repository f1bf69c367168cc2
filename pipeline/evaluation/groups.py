"""Folds for a folder that comes without: what belongs together is inferred from the images.

* **Near-duplicates**: equal bytes, or thumbnails whose fine structure correlates by at least
  ``DUPLICATE_CORRELATION``, within a class.
* **Blocks**: contiguous runs of files of a class in the order of their names; a near-duplicate
  joins the block of the first of its kind.
* **Stain groups**: agglomerative clusters (Ward) of the background and mid-tone colours of a
  class.
* **Subjects**: what a pattern finds in the names.

Groups are dealt to folds whole, the largest first, each to the fold that has the fewest images of
the class. None of this replaces knowing the patients; the record says what was done.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.decode import decode
from pipeline.errors import BadInputError, ConfigurationError
from pipeline.evaluation.colours import colour_numbers
from pipeline.evaluation.examples import Example
from pipeline.training.data import BLOCKS_PER_CLASS

#: Thumbnails are this wide, and what is broader than ``THUMBNAIL_SIGMA`` pixels is taken off: stain
#: and the one cell in the middle, which unrelated images share, do not make a duplicate.
THUMBNAIL, THUMBNAIL_SIGMA = 64, 3.0

#: Against 81 pairs of near-duplicates known in the Taleqani set it finds 80 and none besides; of
#: the pairs of centred cells of C-NMC 0.2 % reach it.
DUPLICATE_CORRELATION = 0.8

#: Rows of the table of correlations that are held at once.
_ROWS = 512

FOLDS = {"random_fold": 5, "block_fold": 5, "stain_fold": 4, "subject_fold": 5}

#: Clusters per class: three for every stain fold, so that folds can be made of even size.
STAIN_GROUPS_PER_CLASS = 12

HOW_INFERRED = (
    "folds were inferred: near-duplicates are files of a class with equal bytes or whose "
    f"{THUMBNAIL}-pixel thumbnails, less what is broad, correlate by {DUPLICATE_CORRELATION} or "
    f"more; blocks are {BLOCKS_PER_CLASS} runs of files per class in order of name; stain groups "
    f"are at most {STAIN_GROUPS_PER_CLASS} clusters (Ward) of background and mid-tone colour per "
    "class; subjects come from the file names; nothing of this is knowledge of patients"
)


@dataclass(frozen=True)
class _Looked:
    """What grouping needs of one image."""

    example: Example
    content: str
    structure: np.ndarray
    colours: np.ndarray


def infer_table(
    root: Path,
    examples: Sequence[Example],
    table: Path,
    seed: int,
    on_image: Callable[[int], None] = lambda done: None,
) -> None:
    """Write a table of folds for ``examples`` to ``table``; columns as ``read_table`` reads them.

    Deterministic for equal images, names and seed. ``subject`` and ``subject_fold`` are there only
    if every image has a patient. Images that cannot be decoded raise ConfigurationError: a table
    that left them out would be a claim about another set.
    """
    by_class: dict[str, list[_Looked]] = defaultdict(list)
    for number, example in enumerate(sorted(examples), start=1):
        by_class[example.truth].append(_look(root, example))
        on_image(number)
    rows: list[dict[str, str | int]] = []
    for truth, looked in sorted(by_class.items()):
        rows += _rows_of_class(truth, looked, seed)
    _deal(rows, "random", "path", seed)
    _deal(rows, "block", "block", seed)
    _deal(rows, "stain", "stain_group", seed)
    if all(one.patient for one in examples):
        patients = {one.path: one.patient or "" for one in examples}
        for row in rows:
            row["subject"] = patients[str(row["path"])]
        _deal(rows, "subject", "subject", seed)
    table.parent.mkdir(parents=True, exist_ok=True)
    temporary = table.with_name(f"new-{table.name}")
    with temporary.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(table)


def fine_structure(pixels: np.ndarray) -> np.ndarray:
    """A thumbnail without its broad parts, float32 ``(THUMBNAIL**2,)``, of mean 0 and length 1.

    ``pixels``: uint8 RGB ``(height, width, 3)``. The product of two is their correlation.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    fine = small.astype(np.float32) - cv2.GaussianBlur(
        small.astype(np.float32), (0, 0), THUMBNAIL_SIGMA
    )
    centred = (fine - fine.mean()).ravel()
    return centred / max(float(np.linalg.norm(centred)), 1e-6)


def near_duplicates(contents: Sequence[str], structures: np.ndarray) -> list[int]:
    """For each image the position of the first one it is a near-duplicate of, directly or by chain.

    ``contents``: digests of the bytes; ``structures``: what ``fine_structure`` gives, in rows.
    """
    first_with: dict[str, int] = {}
    parent = [first_with.setdefault(content, index) for index, content in enumerate(contents)]

    def root_of(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    for start in range(0, len(contents), _ROWS):
        alike = structures[start : start + _ROWS] @ structures.T >= DUPLICATE_CORRELATION
        for row, other in np.argwhere(alike):
            low, high = sorted((root_of(start + int(row)), root_of(int(other))))
            parent[high] = low
    return [root_of(index) for index in range(len(contents))]


def _look(root: Path, example: Example) -> _Looked:
    data = (root / example.path).read_bytes()
    try:
        pixels = decode(data).pixels
    except BadInputError as error:
        raise ConfigurationError(
            f"{root / example.path} cannot be read ({error}); take it out of the folder, or give "
            "a table of folds with --splits"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    return _Looked(example, digest, fine_structure(pixels), colour_numbers(pixels))


def _rows_of_class(truth: str, looked: Sequence[_Looked], seed: int) -> list[dict[str, str | int]]:
    firsts = near_duplicates(
        [one.content for one in looked], np.array([one.structure for one in looked])
    )
    blocks = min(BLOCKS_PER_CLASS, len(looked))
    stains = _stain_groups(np.array([one.colours for one in looked]), firsts)
    return [
        {
            "path": one.example.path,
            "label": truth,
            "duplicate_group": f"{truth}-{first}",
            "block": f"{truth}-{first * blocks // len(looked):02d}",
            "stain_group": f"{truth}-{stain:02d}",
        }
        for one, first, stain in zip(looked, firsts, stains, strict=True)
    ]


def _stain_groups(colours: np.ndarray, firsts: Sequence[int]) -> list[int]:
    """Cluster by mid-tone and background colour; near-duplicates go with the first of them."""
    from sklearn.cluster import AgglomerativeClustering

    distinct = sorted(set(firsts))
    clusters = min(STAIN_GROUPS_PER_CLASS, len(distinct))
    if clusters < 2:
        return [0] * len(firsts)
    found = AgglomerativeClustering(n_clusters=clusters).fit_predict(colours[distinct, 3:9])
    cluster_of = dict(zip(distinct, found.tolist(), strict=True))
    return [cluster_of[first] for first in firsts]


def _deal(rows: Iterable[dict[str, str | int]], name: str, group_column: str, seed: int) -> None:
    """Give every group a fold, so that folds have even shares of every class."""
    rows = list(rows)
    column = f"{name}_fold"
    sizes: dict[str | int, dict[str | int, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        sizes[row[group_column]][row["label"]] += 1
    groups = np.random.default_rng(seed).permutation(sorted(sizes, key=str)).tolist()
    groups.sort(key=lambda group: -sum(sizes[group].values()))
    filled: dict[str | int, list[int]] = defaultdict(lambda: [0] * FOLDS[column])
    fold_of = {}
    for group in groups:
        # Fewest images of the group's classes first; then fewest images at all.
        load = [
            (
                sum(filled[label][fold] for label in sizes[group]),
                sum(images[fold] for images in filled.values()),
            )
            for fold in range(FOLDS[column])
        ]
        fold_of[group] = load.index(min(load))
        for label, count in sizes[group].items():
            filled[label][fold_of[group]] += count
    for row in rows:
        row[column] = fold_of[row[group_column]]
