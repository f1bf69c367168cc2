"""Pretraining on kinds of normal blood cells, named at three levels at once.

Genovese, Piuri, Scotti 2024 pretrain on images whose labels form a tree of three levels. Here that
is a folder of cell crops, one folder per kind (such as those of Acevedo et al. 2020, Data in Brief
30:105474), and the levels are: whether there is a nucleus, which lineage, which kind. The result is
no network to judge with, but weights for one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.labels import Label
from pipeline.statistics import wilson_interval
from pipeline.training.batches import LoadImage, PlainBatches
from pipeline.training.data import BLOCKS_PER_CLASS, IMAGE_SUFFIXES, LabelledImage, Split
from pipeline.training.injection import measures_of, nothing_of, second_half
from pipeline.training.kinds import KINDS, NOTHING, SECOND_HALF
from pipeline.training.recipe import Classes, Recipe
from pipeline.training.two_classes import FOLDS

if TYPE_CHECKING:
    import keras

BACKBONE_FILE = "backbone.keras"
RECORD_FILE = "training.json"

#: What was cut out and split, so that a training that goes on need not do it again.
INJECTED_FILE = "injected.json"

_SEED = 2025


def read_kinds(root: Path, work_dir: Path) -> tuple[list[LabelledImage], Classes]:
    """Images of ``root/<kind>/*`` for the kinds of ``KINDS``, and the classes they make.

    Patches without cells, as many as a kind has images on average, are written to ``work_dir`` and
    become the class ``nothing``; of a kind that is two by ``second_half``, the smaller part becomes
    ``<kind>/2``. Runs of consecutive files are a group, with the patches cut from them, and groups
    are dealt out to folds.

    Raises ConfigurationError if fewer than two kinds have images.
    """
    images = []
    for kind in KINDS:
        own = sorted(
            path
            for path in (root / kind).glob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
        )
        blocks = min(BLOCKS_PER_CLASS, len(own))
        for position, path in enumerate(own):
            block = position * blocks // len(own)
            # Kinds are labels of their own; everything that only passes labels on takes them.
            label = cast(Label, kind)
            images.append(LabelledImage(path, label, f"{kind}-{block:02d}", block % FOLDS))
    if len({image.label for image in images}) < 2:
        raise ConfigurationError(
            f"{root} has no kinds of cells to pretrain on: expected folders of images called "
            f"{', '.join(KINDS)}"
        )
    found = _injected(images, work_dir)
    relabelled = [
        LabelledImage(image.path, cast(Label, label), image.group, image.fold)
        for image, label in zip(images, found["labels"], strict=True)
    ]
    relabelled += [
        LabelledImage(
            work_dir / NOTHING / name, cast(Label, NOTHING), images[i].group, images[i].fold
        )
        for name, i in found["patches"].items()
    ]
    present = {str(image.label) for image in relabelled}
    named = [name for kind in KINDS for name in (kind, kind + SECOND_HALF) if name in present]
    return sorted(relabelled), Classes((*named, *({NOTHING} & present)))


def _injected(images: Sequence[LabelledImage], work_dir: Path) -> dict[str, Any]:
    """Labels of all images in their order, and files of patches with the number of their image."""
    path = work_dir / INJECTED_FILE
    names = [f"{image.label}/{image.path.name}" for image in images]
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if known["images"] == names:
            return known
    folder = work_dir / NOTHING
    folder.mkdir(parents=True, exist_ok=True)
    measures, patches = _measured(images, folder)
    labels = [str(image.label) for image in images]
    for kind in KINDS:
        own = [i for i, image in enumerate(images) if image.label == kind and i in measures]
        half = second_half(np.array([measures[i] for i in own]), _SEED)
        for i, second in zip(own, half if half is not None else (), strict=half is not None):
            labels[i] += SECOND_HALF if second else ""
    found = {"images": names, "labels": labels, "patches": patches}
    path.write_text(json.dumps(found), encoding="utf-8")
    return found


def _measured(
    images: Sequence[LabelledImage], folder: Path
) -> tuple[dict[int, np.ndarray], dict[str, int]]:
    """Measures of the cells by number of the image, and the patches that were written."""
    from pipeline.decode import decode
    from pipeline.segment import segment

    wanted = len(images) // len({image.label for image in images})
    order = np.random.default_rng(_SEED).permutation(len(images))
    measures: dict[int, np.ndarray] = {}
    patches: dict[str, int] = {}
    for i in map(int, order):
        pixels = decode(images[i].path.read_bytes()).pixels
        cells = segment(pixels)
        if (found := measures_of(cells)) is not None:
            measures[i] = found
        if len(patches) < wanted and (patch := nothing_of(pixels, cells)) is not None:
            name = f"{images[i].label}-{images[i].path.stem}.png"
            cv2.imwrite(str(folder / name), patch[..., ::-1])
            patches[name] = i
    return measures, patches


def split_kinds(images: Sequence[LabelledImage], test_fold: int) -> Split:
    """The test fold and all others; raises ConfigurationError if either is empty."""
    split = Split(
        train=tuple(image for image in images if image.fold != test_fold),
        calibration=(),
        test=tuple(image for image in images if image.fold == test_fold),
        description=f"test fold {test_fold} of groups; no calibration part",
    )
    if not split.train or not split.test:
        raise ConfigurationError(f"fold {test_fold} leaves nothing to train on or to test")
    return split


def write_backbone(
    directory: Path,
    network: keras.Model,
    recipe: Recipe,
    load: LoadImage,
    test: Sequence[LabelledImage],
    record: Mapping[str, Any],
) -> str:
    """Test the network, write its backbone with the record; returns one line for people.

    ``BACKBONE_FILE`` goes from standardised input to embedding; ``screen train --weights`` takes
    it.
    """
    from pipeline.models.dss import backbone_of

    assert recipe.classes is not None  # noqa: S101
    classes = recipe.classes
    batches = PlainBatches(test, load, classes=classes, batch_size=recipe.batch_size)
    called = network.predict(batches, verbose=0).argmax(axis=1)
    confusion = np.zeros((len(classes.names), len(classes.names)), int)
    for image, number in zip(test, called, strict=True):
        confusion[classes.number_of(image.label), number] += 1
    hits, of = int(confusion.trace()), len(test)
    directory.mkdir(parents=True, exist_ok=True)
    backbone_of(network).save(directory / BACKBONE_FILE)
    words = {
        **record,
        "classes": list(classes.names),
        "preprocessing": recipe.preprocessing.model_dump(),
        "test": {
            "images": of,
            "accuracy": {"hits": hits, "of": of, "interval": wilson_interval(hits, of)},
            "confusion": confusion.tolist(),
        },
    }
    (directory / RECORD_FILE).write_text(json.dumps(words, indent=1) + "\n", encoding="utf-8")
    return (
        f"{hits} of {of} test images of the right kind ({hits / of:.1%}); weights to start from: "
        f"--weights {directory / BACKBONE_FILE}"
    )
