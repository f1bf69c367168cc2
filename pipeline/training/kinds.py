"""Kinds of blood cells at three levels, each label of an image at every level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

NOTHING = "nothing"

#: Ending of the class that the smaller part of a mixed kind becomes.
SECOND_HALF = "/2"

NUCLEATED, ANUCLEATE = "nucleated", "without nucleus"

#: What a kind is at the first and the second level; the third is the kind itself. Immature
#: granulocytes (``ig``) are promyelocytes, myelocytes and metamyelocytes.
KINDS: dict[str, tuple[str, str]] = {
    "basophil": (NUCLEATED, "granulocytic"),
    "eosinophil": (NUCLEATED, "granulocytic"),
    "neutrophil": (NUCLEATED, "granulocytic"),
    "ig": (NUCLEATED, "granulocytic"),
    "monocyte": (NUCLEATED, "monocytic"),
    "lymphocyte": (NUCLEATED, "lymphoid"),
    "erythroblast": (NUCLEATED, "erythroid"),
    "platelet": (ANUCLEATE, "megakaryocytic"),
}

#: The names of the first two levels, in the order of a network's outputs; nothing is nothing at
#: every level.
LEVELS: tuple[tuple[str, ...], tuple[str, ...]] = (
    (NUCLEATED, ANUCLEATE, NOTHING),
    ("granulocytic", "monocytic", "lymphoid", "erythroid", "megakaryocytic", NOTHING),
)


def names_of(kind: str) -> tuple[str, str, str]:
    """What an image of this class is called at each level."""
    if kind == NOTHING:
        return (NOTHING, NOTHING, NOTHING)
    first, second = KINDS[kind.removesuffix(SECOND_HALF)]
    return (first, second, kind)


def outputs_of(level: int, classes: Sequence[str]) -> tuple[str, ...]:
    """Names of a network's outputs at level 0, 1 or 2."""
    return LEVELS[level] if level < 2 else tuple(classes)


def labels_of(level: int, classes: Sequence[str]) -> np.ndarray:
    """Which outputs of a level are true of each class: 0 or 1, float32 ``(classes, outputs)``."""
    outputs = outputs_of(level, classes)
    return np.array(
        [[float(names_of(kind)[level] == output) for output in outputs] for kind in classes],
        np.float32,
    )


def label_weights(level: int, images: Mapping[str, int]) -> list[float]:
    """Weight of each output of a level: all images over those it is true of (one at least)."""
    counts = np.array(list(images.values())) @ labels_of(level, list(images))
    total = sum(images.values())
    return [float(total / max(count, 1)) for count in counts]
