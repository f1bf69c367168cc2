"""How good a model is on labelled images it was not trained on."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipeline.analyse import Analyser
from pipeline.decode import decode
from pipeline.evaluation.shortcuts import erase_white_cells
from pipeline.labels import LABELS, MALIGNANT_LABELS, Label
from pipeline.results import ImageAnalysis
from pipeline.statistics import wilson_interval
from pipeline.training.data import LabelledImage, Split, copies_across


@dataclass(frozen=True)
class Judged:
    """A labelled image and what the model said of it."""

    truth: Label
    label: Label
    high: bool

    @classmethod
    def of(cls, truth: Label, analysis: ImageAnalysis) -> Judged:
        """Pair an analysis with the true label."""
        if analysis.label is None or analysis.confidence is None:
            raise ValueError("only an image that could be judged can be compared with the truth")
        return cls(truth, analysis.label, analysis.confidence.flag == "high")

    @property
    def correct(self) -> bool:
        """Whether the label is the true one."""
        return self.label == self.truth

    @property
    def missed(self) -> bool:
        """Whether a malignant image was called benign, the costly error in screening."""
        return self.truth in MALIGNANT_LABELS and self.label not in MALIGNANT_LABELS


def judge_all(
    analyser: Analyser,
    images: Sequence[LabelledImage],
    on_image: Callable[[int], None] = lambda done: None,
) -> list[Judged]:
    """Run the whole per-image pipeline on labelled images."""
    judged = []
    for number, image in enumerate(images, start=1):
        judged.append(Judged.of(image.label, analyser(image.path.read_bytes()).result))
        on_image(number)
    return judged


def figures(judged: Sequence[Judged]) -> dict[str, Any]:
    """Accuracy, errors by class, and what the confidence flag keeps; intervals are Wilson 95 %."""
    high = [item for item in judged if item.high]
    confusion = Counter((item.truth, item.label) for item in judged)
    return {
        "images": len(judged),
        "accuracy": _share(item.correct for item in judged),
        "recall": {
            label: _share(item.correct for item in judged if item.truth == label)
            for label in LABELS
        },
        "precision": {
            label: _share(item.correct for item in judged if item.label == label)
            for label in LABELS
        },
        "confusion": [[confusion[truth, label] for label in LABELS] for truth in LABELS],
        "missed_malignant": _share(
            item.missed for item in judged if item.truth in MALIGNANT_LABELS
        ),
        "high_coverage": _share(item.high for item in judged),
        "high_error": _share(not item.correct for item in high),
        "high_missed_malignant": sum(item.missed for item in high),
    }


def figures_of_test_part(
    analyser: Analyser, split: Split, erased_images: int | None = None
) -> dict[str, Any]:
    """What a bundle's record and card say of its test part.

    ``erased_images``: in how many of them white cells are erased, spread evenly; None for all.
    """
    judged = judge_all(analyser, split.test)
    wanted = min(len(judged), len(judged) if erased_images is None else erased_images)
    chosen = np.linspace(0, len(judged) - 1, wanted).round().astype(int)
    return {
        **figures(judged),
        "copies_of_training_images": copies_across(split.train, split.test),
        "white_cells_erased": erased_figures(
            analyser, [split.test[i] for i in chosen], [judged[i] for i in chosen]
        ),
    }


def erased_figures(
    analyser: Analyser, images: Sequence[LabelledImage], judged: Sequence[Judged]
) -> dict[str, Any]:
    """How many decisions survive when the white cells, all there is to judge, are painted over.

    ``judged``: what was said of the images as they are. A model that looks at cells would have
    nothing left to go by.
    """
    unchanged, still_high, right = [], [], Counter[Label]()
    for image, before in zip(images, judged, strict=True):
        data = _without_white_cells(image.path.read_bytes())
        after = Judged.of(image.label, analyser(data).result)
        unchanged.append(after.label == before.label)
        still_high.append(after.high)
        right[image.label] += after.correct
    totals = Counter(image.label for image in images)
    return {
        "images": len(images),
        "same_label": _share(unchanged),
        "still_high": _share(still_high),
        "still_right": {label: [right[label], totals[label]] for label in LABELS},
    }


def _without_white_cells(data: bytes) -> bytes:
    painted = erase_white_cells(decode(data).pixels)
    buffer = io.BytesIO()
    Image.fromarray(painted).save(buffer, "PNG")
    return buffer.getvalue()


def _share(hits: Iterable[bool]) -> dict[str, Any]:
    """Hits, trials, share and interval, with null where there is nothing to divide by."""
    found = list(hits)
    interval = wilson_interval(sum(found), len(found))
    return {
        "hits": sum(found),
        "of": len(found),
        "share": sum(found) / len(found) if found else None,
        "interval": list(interval) if interval else None,
    }
