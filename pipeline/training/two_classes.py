"""Training on two classes, benign and malignant: cell crops, or fields without a subtype.

A bundle names four classes, and reports are made of those. A network of two therefore does not
become a bundle: it is written with its record and the figures of its test part, to be compared with
the papers, and `screen submit` does not take it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.labels import FOLDER_ALIASES, REFERENCE_LABELS, Label
from pipeline.neighbours import References
from pipeline.statistics import wilson_interval
from pipeline.training.batches import LoadImage, PlainBatches
from pipeline.training.data import BLOCKS_PER_CLASS, IMAGE_SUFFIXES, LabelledImage, Split
from pipeline.training.recipe import TWO_CLASSES, Recipe

#: Folder names of the two classes; other sets call them differently.
FOLDERS = {
    "benign": ("benign", "healthy", "hem", "normal"),
    "malignant": ("malignant", "all", "blast"),
}

#: C-NMC 2019 names its files ``UID_<subject>_<image>_<cell>_<class>``.
_SUBJECT = re.compile(r"UID_([^_]+)_")

FOLDS = 5
NETWORK_FILE = "network.keras"
RECORD_FILE = "training.json"


def has_subtypes(root: Path) -> bool:
    """Whether the folder has one of the malignant subtypes as a folder of its own."""
    return any(
        (root / name).is_dir() for name, label in FOLDER_ALIASES.items() if label != "benign"
    )


def read_two_classes(root: Path) -> list[LabelledImage]:
    """Images of ``root/<class>/*``, by the folder names of FOLDERS.

    A group is a subject where the file names one (C-NMC 2019), else a run of consecutive files.
    Groups of each class are dealt out to FOLDS folds, or to as many as the class of the fewest
    groups has, but two at least. Raises ConfigurationError if a class has no images.
    """
    files: dict[str, list[Path]] = {}
    groups: dict[str, list[str]] = {}
    for name in TWO_CLASSES.names:
        files[name] = own = sorted(
            path
            for folder in FOLDERS[name]
            for path in (root / folder).glob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        )
        if not own:
            raise ConfigurationError(
                f"{root} has no {name} images: expected a folder of it called "
                f"{', '.join(FOLDERS[name])}"
            )
        groups[name] = [f"{name}-{_group_of(path, i, len(own))}" for i, path in enumerate(own)]
    folds = max(2, min(FOLDS, *(len(set(own)) for own in groups.values())))
    images = []
    for name in TWO_CLASSES.names:
        fold_of = {group: i % folds for i, group in enumerate(dict.fromkeys(groups[name]))}
        # Two classes have labels of their own; everything that only passes labels on takes them.
        label = cast(Label, name)
        images += [
            LabelledImage(path, label, group, fold_of[group])
            for path, group in zip(files[name], groups[name], strict=True)
        ]
    return sorted(images)


def _group_of(path: Path, position: int, of: int) -> str:
    if found := _SUBJECT.match(path.name):
        return found[1]
    return f"{position * min(BLOCKS_PER_CLASS, of) // of:02d}"


def keep_out(
    images: Sequence[LabelledImage], groups: int, seed: int
) -> tuple[tuple[LabelledImage, ...], tuple[LabelledImage, ...]]:
    """Images to train on, and those that choose the epoch: so many groups of each class."""
    of_class: dict[int, set[str]] = defaultdict(set)
    for image in images:
        of_class[TWO_CLASSES.number_of(image.label)].add(image.group)
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for number in sorted(of_class):
        if len(of_class[number]) <= groups:
            raise ConfigurationError(
                f"{TWO_CLASSES.names[number]} images make {len(of_class[number])} groups, too few "
                f"to keep {groups} for choosing the epoch: give more images"
            )
        chosen.update(rng.permutation(sorted(of_class[number]))[:groups].tolist())
    return (
        tuple(image for image in images if image.group not in chosen),
        tuple(image for image in images if image.group in chosen),
    )


def keep_fold_out(
    images: Sequence[LabelledImage], test_fold: int
) -> tuple[tuple[LabelledImage, ...], tuple[LabelledImage, ...]]:
    """Images to train on, and the fold after the test fold, which chooses the epoch.

    Where that would leave one of them without a class, as of C-NMC with two healthy subjects, the
    last quarter of every group is kept instead: the epoch is then chosen by images of subjects that
    are trained on, but none of the test fold. Raises ConfigurationError if no group has a quarter.
    """
    folds = sorted({image.fold for image in images} | {test_fold})
    chosen = folds[(folds.index(test_fold) + 1) % len(folds)]
    kept = {image for image in images if image.fold == chosen}
    labels = {image.label for image in images}
    if not labels == {one.label for one in kept} == {i.label for i in images if i not in kept}:
        of_group: dict[str, list[LabelledImage]] = defaultdict(list)
        for image in sorted(images):
            of_group[image.group].append(image)
        kept = {image for own in of_group.values() for image in own[len(own) - len(own) // 4 :]}
    if not kept:
        raise ConfigurationError(
            f"beside the test fold {test_fold} there are too few images to keep some for choosing "
            "the epoch: give more"
        )
    return (
        tuple(image for image in images if image not in kept),
        tuple(image for image in images if image in kept),
    )


def split_two_classes(images: Sequence[LabelledImage], test_fold: int) -> Split:
    """The test fold and all others; two classes have no thresholds, and so no calibration part."""
    split = Split(
        train=tuple(image for image in images if image.fold != test_fold),
        calibration=(),
        test=tuple(image for image in images if image.fold == test_fold),
        description=f"test fold {test_fold} of groups; no calibration part",
    )
    for part in (split.train, split.test):
        if {TWO_CLASSES.number_of(image.label) for image in part} != {0, 1}:
            raise ConfigurationError(
                f"fold {test_fold} does not leave both classes to train on and to test: name "
                f"another --test-fold, 0 to {max(image.fold for image in images)}, or give more "
                "images"
            )
    return split


def two_class_figures(truth: Sequence[int], called: Sequence[int]) -> dict[str, Any]:
    """Figures of benign (0) against malignant (1), malignant being what is looked for.

    Accuracy, recall (sensitivity) and specificity as hits, number and Wilson 95 % interval;
    precision, F1 and Matthews' correlation as numbers, null where nothing defines them.
    """
    pairs = list(zip(truth, called, strict=True))
    hit, missed = pairs.count((1, 1)), pairs.count((1, 0))
    quiet, alarm = pairs.count((0, 0)), pairs.count((0, 1))
    product = (hit + alarm) * (hit + missed) * (quiet + alarm) * (quiet + missed)
    return {
        "images": len(pairs),
        "confusion": [[quiet, alarm], [missed, hit]],
        "accuracy": _share(hit + quiet, len(pairs)),
        "recall": _share(hit, hit + missed),
        "specificity": _share(quiet, quiet + alarm),
        "precision": hit / (hit + alarm) if hit + alarm else None,
        "f1": 2 * hit / (2 * hit + alarm + missed) if hit + alarm + missed else None,
        "mcc": (hit * quiet - alarm * missed) / product**0.5 if product else None,
    }


def called_by_vote(
    references: np.ndarray, labels: Sequence[Label], queries: np.ndarray, neighbours: int
) -> list[int]:
    """What most of the nearest references are called, 0 for benign and 1 for malignant.

    ``references``: float32 ``(references, dimensions)``, and a label for each. ``queries``:
    ``(queries, dimensions)``. Both are scaled so that the references span 0 to 1; distances are
    Euclidean, and of equally supported calls the nearest reference's counts.
    """
    numbers = np.array(
        [REFERENCE_LABELS.index(TWO_CLASSES.names[TWO_CLASSES.number_of(one)]) for one in labels],
        np.int8,
    )
    known = References(references, numbers, tuple(str(i) for i in range(len(numbers))))
    return [
        TWO_CLASSES.number_of(found.vote) for found in known.nearest_of_all(queries, neighbours)
    ]


def write_two_class_network(
    directory: Path,
    network: keras.Model,
    recipe: Recipe,
    load: LoadImage,
    trained: Sequence[LabelledImage],
    test: Sequence[LabelledImage],
    record: dict[str, Any],
) -> dict[str, Any]:
    """Test the network and write it with its record; returns the figures.

    ``trained``: the images it was trained on, the neighbours of ``recipe.votes``.
    """
    inner = keras.Model(
        network.inputs, [network.get_layer(recipe.embedding_layer).output, network.outputs[0]]
    )

    def seen(images: Sequence[LabelledImage]) -> tuple[np.ndarray, np.ndarray]:
        batches = PlainBatches(images, load, classes=TWO_CLASSES, batch_size=recipe.batch_size)
        embeddings, probabilities = inner.predict(batches, verbose=0)
        return embeddings, probabilities

    truth = [TWO_CLASSES.number_of(image.label) for image in test]
    queries, probabilities = seen(test)
    called = probabilities.argmax(axis=1).tolist()
    figures = two_class_figures(truth, called)
    calls: dict[str, list[int]] = {"softmax": called}
    if recipe.votes:
        references, _ = seen(trained)
        labels = [image.label for image in trained]
        calls |= {
            f"vote of {k}": called_by_vote(references, labels, queries, k) for k in recipe.votes
        }
    directory.mkdir(parents=True, exist_ok=True)
    network.save(directory / NETWORK_FILE)
    words = {
        **record,
        "classes": list(TWO_CLASSES.names),
        "preprocessing": recipe.preprocessing.model_dump(),
        "augmented": recipe.augment is not None,
        "sampling": asdict(recipe.sampling),
        "test": figures,
        "votes": {
            name: two_class_figures(truth, own) for name, own in calls.items() if own is not called
        },
        "judged": {
            "image": [image.path.name for image in test],
            "group": [image.group for image in test],
            "truth": truth,
            **calls,
        },
    }
    (directory / RECORD_FILE).write_text(json.dumps(words, indent=1) + "\n", encoding="utf-8")
    return figures


def _share(hits: int, of: int) -> dict[str, Any]:
    interval = wilson_interval(hits, of)
    return {
        "hits": hits,
        "of": of,
        "share": hits / of if of else None,
        "interval": list(interval) if interval else None,
    }


def describe(figures: dict[str, Any]) -> str:
    """One line of the figures for people."""
    accuracy = figures["accuracy"]
    mcc = "undefined" if figures["mcc"] is None else f"{figures['mcc']:.3f}"
    return (
        f"{accuracy['hits']} of {accuracy['of']} test images right ({accuracy['share']:.1%}), "
        f"MCC {mcc}; two classes: a network to compare, not a bundle to screen with"
    )
