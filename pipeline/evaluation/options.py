"""What the parts of an evaluation hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle import Bundle
from pipeline.evaluation.bootstrap import RESAMPLES
from pipeline.evaluation.examples import CNMC_SUBJECT, Truth
from pipeline.evaluation.judge import Failure, Judgement
from pipeline.evaluation.protocols import Part


@dataclass(frozen=True)
class EvaluationOptions:
    """What the person who evaluates decides: a ``bundle`` that is there, or a ``recipe``."""

    data: Path
    out: Path
    protocol: str
    bundle: Path | None = None
    recipe: str | None = None
    splits: Path | None = None
    folds: tuple[int, ...] = ()
    truth: Truth | None = None
    patient_pattern: str = CNMC_SUBJECT
    epochs: int | None = None
    seed: int = 2025
    resamples: int = RESAMPLES
    #: Further options of TrainingOptions, by name.
    training: tuple[tuple[str, Any], ...] = ()
    command: str = "screen evaluate"


@dataclass(frozen=True)
class JudgedPart:
    """A part after it was judged, with the bundle that did (None for a baseline)."""

    part: Part
    judgements: list[Judgement]
    failures: list[Failure]
    bundle: Bundle | None
