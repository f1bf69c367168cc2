"""Which pictures an evaluation has, from its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluation import plots
from pipeline.evaluation.figures import is_wrong
from pipeline.evaluation.judge import Judgement
from pipeline.evaluation.page import plain
from pipeline.labels import DISPLAY_NAMES, LABELS

_SHORT = [DISPLAY_NAMES[label].split(" ")[0] for label in LABELS]


def draw_all(
    out: Path, evaluation: Mapping[str, Any], judgements: Sequence[Judgement], seed: int
) -> list[str]:
    """Draw what the figures allow into ``out``; returns the files' names, in reading order."""
    drawn = []
    four, two = evaluation["four_classes"], evaluation["benign_or_malignant"]
    if four:
        plots.draw_confusion(out / "confusion.svg", four["confusion"], _SHORT)
        drawn.append("confusion.svg")
    if two and not four:
        names = ["benign", "malignant"]
        plots.draw_confusion(out / "confusion-malignant.svg", two["confusion"], names)
        drawn.append("confusion-malignant.svg")
    curves, areas = _roc(four, two)
    if curves:
        plots.draw_roc(out / "roc.svg", curves, areas)
        drawn.append("roc.svg")
    reliability = {
        **({"top probability, right label": four["reliability"]} if four else {}),
        **({"malignant": two["reliability"]} if two else {}),
    }
    if reliability:
        plots.draw_reliability(out / "reliability.svg", reliability)
        drawn.append("reliability.svg")
    flag = evaluation["confidence"]
    if flag:
        kept = flag["error"]["value"] is not None
        point = (flag["coverage"]["value"], flag["error"]["value"]) if kept else None
        plots.draw_risk_coverage(out / "risk-coverage.svg", flag["risk_coverage"], point)
        drawn.append("risk-coverage.svg")
    histories = evaluation["model"]["histories"]
    if any(histories.values()):
        plots.draw_training(out / "training.svg", histories)
        drawn.append("training.svg")
    return drawn + _embeddings(out, judgements, seed)


def _roc(
    four: Mapping[str, Any] | None, two: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, str]]:
    curves: dict[str, Any] = dict(four["roc"]) if four else {}
    areas: dict[str, str] = (
        {str(label): f", area {plain(four['classes'][label]['auc'])}" for label in LABELS}
        if four
        else {}
    )
    if two:
        curves["malignant"] = two["roc"]
        areas["malignant"] = f", area {plain(two['auc'])}"
    return {name: curve for name, curve in curves.items() if curve}, areas


def _embeddings(out: Path, judgements: Sequence[Judgement], seed: int) -> list[str]:
    """One picture per fold: every fold has a network, and an embedding, of its own."""
    drawn = []
    folds = sorted({one.example.fold for one in judgements if one.embedding is not None})
    for fold in folds:
        ones = [one for one in judgements if one.example.fold == fold and one.embedding is not None]
        name = "embedding.svg" if len(folds) == 1 else f"embedding-{fold}.svg"
        done = plots.draw_embedding(
            out / name,
            np.array([one.embedding for one in ones], dtype=np.float64),
            [one.example.truth for one in ones],
            np.array([is_wrong(one) for one in ones]),
            seed,
        )
        if done:
            drawn.append(name)
    return drawn
