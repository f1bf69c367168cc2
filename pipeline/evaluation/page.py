"""``EVALUATION.md``: the figures for people, in the order in which they should be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.labels import DISPLAY_NAMES, LABELS
from pipeline.results import DISCLAIMER

Figures = Mapping[str, Any]

_MEASURES = {
    "accuracy": "accuracy",
    "accuracy_by_group": "accuracy, interval by group",
    "balanced_accuracy": "balanced accuracy",
    "missed_malignant": "malignant images called benign",
    "sensitivity": "sensitivity for malignant",
    "specificity": "specificity for malignant",
    "precision": "precision for malignant",
    "f1": "F1 for malignant",
    "matthews": "Matthews correlation",
    "auc": "area under the ROC curve",
    "brier": "Brier score",
    "calibration_error": "expected calibration error",
}
#: Measures that are shares; the others are plain numbers.
_SHARES = {
    "accuracy",
    "accuracy_by_group",
    "balanced_accuracy",
    "missed_malignant",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
}
_PICTURES = {
    "confusion.svg": "Confusion matrix, four classes",
    "confusion-malignant.svg": "Confusion matrix, benign or malignant",
    "roc.svg": "ROC curves",
    "reliability.svg": "Reliability diagram",
    "risk-coverage.svg": "Risk-coverage curve",
    "training.svg": "Training curves",
    "embedding.svg": "t-SNE of the embedding",
}


def evaluation_page(evaluation: Figures, pictures: Sequence[str]) -> str:
    """Markdown of an evaluation (the content of ``evaluation.json``) and its pictures."""
    sections = [
        f"# Evaluation: {evaluation['model']['name']}, protocol {evaluation['split']['protocol']}",
        DISCLAIMER,
        _what(evaluation),
        _four(evaluation["four_classes"]),
        _two(evaluation["benign_or_malignant"]),
        _flag(evaluation["confidence"]),
        _patients(evaluation["patients"]),
        _baselines(evaluation["baselines"]),
        _folds(evaluation["folds"]),
        *(f"![{_caption(name)}]({name})" for name in pictures),
        _how(evaluation),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def percent(figure: Figures) -> str:
    """``95.8 % (93.9 to 97.2)``."""
    if figure["value"] is None:
        return "none"
    text = f"{figure['value']:.1%}".replace("%", " %")
    if figure["interval"] is None:
        return text
    low, high = figure["interval"]
    return f"{text} ({100 * low:.1f} to {100 * high:.1f})"


def plain(figure: Figures) -> str:
    """``0.954 (0.921 to 0.977)``."""
    if figure["value"] is None:
        return "none"
    if figure["interval"] is None:
        return f"{figure['value']:.3f}"
    low, high = figure["interval"]
    return f"{figure['value']:.3f} ({low:.3f} to {high:.3f})"


def _caption(name: str) -> str:
    if name in _PICTURES:
        return _PICTURES[name]
    fold = name.removeprefix("embedding-").removesuffix(".svg")
    return f"{_PICTURES['embedding.svg']}, fold {fold}"


def _what(evaluation: Figures) -> str:
    split, failed = evaluation["split"], evaluation["failed"]
    lines = [
        f"{evaluation['images']} images judged; {split['words']}. {_seen(evaluation)}",
        f"Near-duplicates of these among the images to learn from: {split['crossing_duplicates']}.",
    ]
    if failed:
        words = ", ".join(f"{count} {reason}" for reason, count in failed.items())
        lines.append(f"**Not judged, and not in the figures: {words}.**")
    if split.get("inferred"):
        lines.append(f"How the images were divided: {split['inferred']}.")
    return "\n".join(lines)


def _seen(evaluation: Figures) -> str:
    checked = evaluation["model"].get("unseen")
    return f"The model was not trained on them ({checked})." if checked else ""


def _four(figures: Figures | None) -> str:
    if figures is None:
        return ""
    classes = "\n".join(
        f"| {DISPLAY_NAMES[label]} | {figures['classes'][label]['recall']['n']} | "
        + " | ".join(
            percent(figures["classes"][label][name])
            for name in ("recall", "precision", "specificity", "f1")
        )
        + " |"
        for label in LABELS
    )
    return f"""## Four classes

{_measures(figures)}

| class | images | recall | precision | specificity | F1 |
|---|---|---|---|---|---|
{classes}"""


def _two(figures: Figures | None) -> str:
    if figures is None:
        return ""
    missed = figures["missed_malignant"]
    return f"""## Benign or malignant

A missed malignant image is the costly error: {missed["hits"]} of {missed["n"]}.

{_measures(figures)}"""


def _measures(figures: Figures) -> str:
    rows = [
        f"| {words} | {(percent if name in _SHARES else plain)(figures[name])} "
        f"| {figures[name]['n']} |"
        for name, words in _MEASURES.items()
        if name in figures
    ]
    return "\n".join(["| measure | value (95 % interval) | n |", "|---|---|---|", *rows])


def _flag(figures: Figures | None) -> str:
    if figures is None:
        return ""
    rows = "\n".join(
        f"| {words} | {figures[name]['hits']} of {figures[name]['n']} | {percent(figures[name])} "
        f"| {_bound(figures[name])} |"
        for name, words in (
            ("coverage", "flagged `high`"),
            ("error", "wrong among `high`"),
            ("missed_malignant", "missed malignant among malignant `high`"),
            ("high_and_wrong", "`high` and wrong, of all"),
        )
    )
    reasons = ", ".join(f"{reason} {count}" for reason, count in figures["reasons"].items())
    return f"""## Confidence flag

| | images | share (95 % interval) | exact upper bound |
|---|---|---|---|
{rows}

Reasons for `low` (an image may have several): {reasons or "none"}."""


def _bound(figure: Figures) -> str:
    return "none" if figure["upper_95"] is None else f"{100 * figure['upper_95']:.2f} %"


def _patients(figures: Figures | None) -> str:
    if figures is None:
        return ""
    rows = "\n".join(
        f"| {row['patient']} | {row['images']} | {row['truth']} | {row['call']} | {row['flag']} "
        f"| {'right' if row['right'] else 'wrong'} |"
        for row in figures["calls"]
    )
    return f"""## Patients

{figures["patients"]} patients; call right for {figures["right"]["hits"]}, malignant patients \
called benign: {figures["missed_malignant"]["hits"]} of {figures["missed_malignant"]["n"]}.

| patient | images | truth | call | flag | |
|---|---|---|---|---|---|
{rows}"""


def _baselines(baselines: Figures) -> str:
    if not baselines:
        return ""
    rows = []
    for name, found in baselines.items():
        four, two = found["four_classes"], found["benign_or_malignant"]
        rows.append(
            f"| {name} | {percent(four['accuracy']) if four else ''} "
            f"| {percent(two['balanced_accuracy']) if two else ''} "
            f"| {percent(two['missed_malignant']) if two else ''} "
            f"| {_points(found['compared']['accuracy_difference'])} "
            f"| {_points(found['compared']['accuracy_difference_by_group'])} |"
        )
    table = "\n".join(rows)
    return f"""## Baselines that look at no cell

Trained on everything outside the test part, tested on the same images. Differences in points of \
accuracy, the model less the baseline (paired bootstrap); above zero the model is better.

| baseline | accuracy, four classes | balanced, benign or malignant | missed malignant \
| model's gain by image | by group |
|---|---|---|---|---|---|
{table}"""


def _points(figure: Figures) -> str:
    if figure["interval"] is None:
        return "none"
    low, high = figure["interval"]
    return f"{100 * figure['value']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _folds(folds: Sequence[Figures]) -> str:
    if len(folds) < 2:
        return ""
    rows = "\n".join(
        f"| {fold['fold']} | {fold['images']} | {percent(fold['accuracy'])} "
        f"| {_or_none(fold['coverage'])} | {_or_none(fold['error'])} "
        f"| {fold['crossing_duplicates']} |"
        for fold in folds
    )
    return f"""## Folds

| fold | images | accuracy | `high` | wrong among `high` | near-duplicates crossing |
|---|---|---|---|---|---|
{rows}"""


def _or_none(figure: Figures | None) -> str:
    return "" if figure is None else percent(figure)


def _how(evaluation: Figures) -> str:
    draw, model = evaluation["bootstrap"], evaluation["model"]
    bundles = ", ".join(digest[:12] for digest in model["bundle_digests"])
    software = ", ".join(f"{name} {found}" for name, found in evaluation["software"].items())
    return f"""## How

    {evaluation["command"]}

Intervals: {draw["resamples"]} bootstrap resamples, seed {draw["seed"]}; "by group" draws whole \
groups. Exact upper bounds: one-sided 95 %, Clopper and Pearson. Brier score over four classes: 0 \
to 2, over two: 0 to 1. Bundles: {bundles or "none"}. Software: {software}. Every judgement is in \
`judgements.csv`, every figure in `evaluation.json`."""
