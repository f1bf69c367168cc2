"""The record of an evaluation: ``evaluation.json``, the page, the table and the pictures."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from pipeline.canonical import canonical_bytes
from pipeline.evaluation.comparison import Colours, compared_with_baselines
from pipeline.evaluation.examples import Example
from pipeline.evaluation.figures import (
    Resampling,
    benign_or_malignant,
    confidence,
    four_classes,
    is_wrong,
    patients,
    summarise,
)
from pipeline.evaluation.groups import HOW_INFERRED
from pipeline.evaluation.judge import write_table
from pipeline.evaluation.options import EvaluationOptions, JudgedPart
from pipeline.evaluation.page import evaluation_page
from pipeline.evaluation.pictures import draw_all
from pipeline.evaluation.protocols import Protocol, crossing_duplicates, describe
from pipeline.results import AnalysisOptions, ModelRecord

EVALUATION_FILE = "evaluation.json"
PAGE_FILE = "EVALUATION.md"
TABLE_FILE = "judgements.csv"

#: As a run without explanations judges; they change no decision.
JUDGING = AnalysisOptions(explain="none")


def content_of(
    options: EvaluationOptions,
    protocol: Protocol,
    examples: Sequence[Example],
    judged: Sequence[JudgedPart],
    colours: Colours,
) -> dict[str, Any]:
    """Everything that is known of an evaluation, as plain JSON."""
    judgements = [one for part in judged for one in part.judgements]
    draw = Resampling(options.resamples, options.seed)
    crossing = sum(crossing_duplicates(part.part) for part in judged)
    failed = Counter(
        one.result.error.reason
        for part in judged
        for one in part.failures
        if one.result.error is not None
    )
    inferred = protocol.fold_column is not None and options.splits is None
    return {
        "evaluation_schema": 1,
        "model": _model(options, judged),
        "split": {
            **describe(protocol, examples),
            "tested": [part.part.name for part in judged],
            "crossing_duplicates": crossing,
            "inferred": HOW_INFERRED if inferred else None,
        },
        "images": len(judgements),
        "failed": dict(sorted(failed.items())),
        **summarise(judgements, draw),
        "patients": _patients(judged),
        "baselines": compared_with_baselines(options, judged, colours, draw),
        "folds": [_fold(part, draw) for part in judged],
        "bootstrap": {"resamples": options.resamples, "seed": options.seed},
        "command": options.command,
        "software": {
            "python": platform.python_version(),
            **{
                name: version(name)
                for name in ("keras", "numpy", "scikit-learn", "smear-screen", "tensorflow")
            },
        },
    }


def _model(options: EvaluationOptions, judged: Sequence[JudgedPart]) -> dict[str, Any]:
    bundles = [part.bundle for part in judged if part.bundle is not None]
    by_content = bool(bundles) and all("seen" in bundle.record.training for bundle in bundles)
    return {
        "name": bundles[0].record.name if bundles else options.recipe,
        "bundle_digests": sorted({bundle.digest for bundle in bundles}),
        "unseen": (
            ("checked by content" if by_content else "checked by the names of its references")
            if bundles
            else None
        ),
        "recipe": options.recipe,
        "seed": options.seed,
        "histories": {
            part.part.name: part.bundle.record.training["history"]
            for part in judged
            if part.bundle is not None
        },
    }


def _patients(judged: Sequence[JudgedPart]) -> dict[str, Any] | None:
    """Patients of all parts: with the subjects protocol each lies in one part."""
    judgements = [one for part in judged for one in part.judgements]
    bundle = next((part.bundle for part in judged if part.bundle is not None), None)
    if bundle is None:
        return None
    model = ModelRecord(name=bundle.record.name, bundle_digest=bundle.digest, tested="")
    return patients(judgements, model, JUDGING)


def _fold(judged: JudgedPart, draw: Resampling) -> dict[str, Any]:
    four, flag = four_classes(judged.judgements, draw), confidence(judged.judgements, draw)
    two = benign_or_malignant(judged.judgements, draw)
    shown = four or two
    return {
        "fold": judged.part.name,
        "images": len(judged.judgements),
        "accuracy": shown["accuracy"] if shown else {"value": None, "interval": None, "n": 0},
        "coverage": flag["coverage"] if flag else None,
        "error": flag["error"] if flag else None,
        "crossing_duplicates": crossing_duplicates(judged.part),
        "wrong": sorted(one.example.path for one in judged.judgements if is_wrong(one)),
    }


def write_record(
    options: EvaluationOptions, evaluation: dict[str, Any], judged: Sequence[JudgedPart]
) -> None:
    """Write all files of an evaluation; ``evaluation.json`` last, so that it stands for all."""
    judgements = [one for part in judged for one in part.judgements]
    failures = [one for part in judged for one in part.failures]
    write_table(options.out / TABLE_FILE, judgements, failures)
    pictures = draw_all(options.out, evaluation, judgements, options.seed)
    (options.out / PAGE_FILE).write_text(evaluation_page(evaluation, pictures), encoding="utf-8")
    (options.out / EVALUATION_FILE).write_bytes(canonical_bytes(evaluation))
