"""A model beside the baselines, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.evaluation.baselines import BASELINES, baseline_named, judge_by_colour
from pipeline.evaluation.colours import colours_of
from pipeline.evaluation.examples import TRUTHS, Example
from pipeline.evaluation.figures import Resampling, benign_or_malignant, compared, four_classes
from pipeline.evaluation.judge import Judgement
from pipeline.evaluation.options import EvaluationOptions, JudgedPart
from pipeline.evaluation.protocols import Part, Protocol, parts_of
from pipeline.labels import LABELS


class Colours:
    """Colour numbers of images, measured once however many baselines and folds want them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, examples: Sequence[Example]) -> np.ndarray:
        """``(images, 12)``."""
        missing = [one.path for one in examples if one.path not in self._known]
        measured = colours_of(self._root / path for path in missing)
        self._known.update(zip(missing, measured, strict=True))
        return np.array([self._known[one.path] for one in examples])


def judge_with_baseline(
    name: str,
    options: EvaluationOptions,
    protocol: Protocol,
    examples: Sequence[Example],
    colours: Colours,
) -> list[JudgedPart]:
    """The test parts as the baseline called ``name`` judges them; it has no bundle and no flag.

    Raises ConfigurationError if the protocol leaves nothing to learn from.
    """
    if protocol.fold_column is None:
        raise ConfigurationError(
            f"the protocol {protocol.name} has nothing for {name} to learn from"
        )
    return [
        JudgedPart(part, _by_colour(name, part, part.test, colours, options.seed), [], None)
        for part in parts_of(protocol, examples, options.folds or None)
    ]


def _by_colour(
    name: str, part: Part, test: Sequence[Example], colours: Colours, seed: int
) -> list[Judgement]:
    """Judge ``test`` by a baseline that learned from the rest of the part.

    A set without subtypes is told apart as benign or malignant; its malignant images are written
    as ``early_b``, for there the name of the subtype is never looked at.
    """
    classes = [truth for truth in TRUTHS if truth != "outside"]
    labels = np.array([classes.index(one.truth) for one in part.learn if one.truth != "outside"])
    learn = [one for one in part.learn if one.truth != "outside"]
    found = judge_by_colour(
        baseline_named(name), colours(learn), labels, colours(test), len(classes), seed
    )
    found[:, 1] += found[:, 4]
    return [
        Judgement(one, LABELS[int(row.argmax())], row)
        for one, row in zip(test, found[:, :4], strict=True)
    ]


def compared_with_baselines(
    options: EvaluationOptions, judged: Sequence[JudgedPart], colours: Colours, draw: Resampling
) -> dict[str, Any]:
    """Every baseline on the images the model judged; empty where there is nothing to learn from."""
    judgements = [one for part in judged for one in part.judgements]
    if not judgements or any(not part.part.learn for part in judged):
        return {}
    found = {}
    for name in BASELINES:
        if name == options.recipe:
            continue
        theirs = [
            one
            for part in judged
            for one in _by_colour(
                name, part.part, [mine.example for mine in part.judgements], colours, options.seed
            )
        ]
        found[name] = {
            "words": BASELINES[name].words,
            "four_classes": four_classes(theirs, draw),
            "benign_or_malignant": benign_or_malignant(theirs, draw),
            "compared": compared(judgements, theirs, draw),
        }
    return found
