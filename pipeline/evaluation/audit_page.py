"""The audit for people: verdicts in a sentence each, then every figure."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.evaluation.audit_explanations import Distribution, ExplanationFigures
from pipeline.evaluation.audit_figures import ChangeFigures, Proportion
from pipeline.evaluation.audit_report import AuditReport
from pipeline.evaluation.shortcuts import AS_IS
from pipeline.labels import DISPLAY_NAMES, LABELS

#: Changes that leave no white cell to judge, for which the classes are listed.
WITHOUT_CELLS = ("white_cells_erased", "white_cells_flat", "white_cells_blurred")

QUESTION = (
    "Does this model look at white cells, or at stain, background and scale bars? Each image was "
    "judged as it is and after each change below, by the whole pipeline. Changes that leave the "
    "white cells alone should change no decision; without white cells, no decision should be "
    "confident."
)
READING = (
    "A verdict compares the share that was measured, under the worst of the changes it is about, "
    "with its limit; the interval says how far a share of so few images can be trusted. UNKNOWN "
    "means that a single image would decide."
)
COLUMNS = (
    "*right*: named as the folder says; *difference*: accuracy less that of the images as they "
    "are, in points (95 % bootstrap interval, paired). *changed*: called otherwise than as it is. "
    "*high*: called with high confidence; *rule off*: the same, if fields without white cells were "
    "not stopped by a rule. *high, changed*: of the images that are high as they are, those that "
    "are called otherwise afterwards. *high, wrong*: of all images. Shares with 95 % Wilson "
    "intervals."
)


EXPLANATIONS = (
    "Of images as they are, by true class: median and, in brackets, quartiles. *doubted*: less "
    "than half of LIME's relevance lies on white cells. *Shares*: of the relevance. *deletion*: "
    "mean probability of the label while the most relevant regions are hidden, low is good; "
    "*insertion*: while they are shown, high is good. *stability*: share of LIME's top regions "
    "that do not depend on its samples. *R²*: how far a sum over regions says what the network "
    "says."
)


def audit_page(report: AuditReport) -> str:
    """Markdown for a pathologist or an auditor."""
    return "\n".join(
        [
            f"# Shortcut audit: {report.model.name}",
            "",
            f"{report.disclaimer}",
            "",
            QUESTION,
            "",
            *_about(report),
            "",
            "## Verdicts",
            "",
            *(f"* {verdict.sentence}" for verdict in report.verdicts),
            "",
            READING,
            "",
            "## Every change",
            "",
            *_table(report.changes),
            "",
            COLUMNS,
            "",
            *_without_cells(report.changes),
            *_twins(report),
            *_explanations(report.explanations),
            "One example of every change is in `examples.png`. All figures, limits and versions "
            "are in `audit.json`.",
            "",
        ]
    )


def _about(report: AuditReport) -> list[str]:
    counts = ", ".join(f"{DISPLAY_NAMES[label]} {report.images[label]}" for label in LABELS)
    lines = [
        f"* model: {report.model.name}, bundle {report.model.bundle_digest}; {report.model.tested}",
        f"* images: {sum(report.images.values())} of {report.part} ({counts})",
        f"* seed {report.seed}; command: `{' '.join(report.command)}`",
        "* " + ", ".join(f"{name} {found}" for name, found in sorted(report.software.items())),
    ]
    lines += [f"* note: {note}" for note in report.notes]
    return lines + [f"* left out, cannot be judged: {line}" for line in report.unreadable]


def _table(changes: Sequence[ChangeFigures]) -> list[str]:
    lines = [
        "| change | n | right | difference | changed | high | rule off | high, changed "
        "| high, wrong |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in changes:
        is_baseline = one.change == AS_IS
        cells = [
            one.title,
            str(one.accuracy.n),
            _share(one.accuracy),
            "" if is_baseline else _points(one),
            "" if is_baseline else _share(one.changed),
            _share(one.high),
            _share(one.high_without_rule),
            "" if is_baseline else _share(one.high_changed),
            _share(one.high_and_wrong),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _without_cells(changes: Sequence[ChangeFigures]) -> list[str]:
    chosen = [one for one in changes if one.change in WITHOUT_CELLS]
    if not chosen:
        return []
    lines = [
        "## Without white cells, class by class",
        "",
        "A class that is still named right without a white cell is recognised by something else.",
        "",
        "| change | " + " | ".join(DISPLAY_NAMES[label] for label in LABELS) + " |",
        "|---|" + "---|" * len(LABELS),
    ]
    for one in chosen:
        right = [_counted(one.right_by_class[label]) for label in LABELS]
        high = [_counted(one.high_without_rule_by_class[label]) for label in LABELS]
        lines.append(f"| {one.title}: still named right | {' | '.join(right)} |")
        lines.append(f"| {one.title}: high with the rule off | {' | '.join(high)} |")
    return [*lines, ""]


def _twins(report: AuditReport) -> list[str]:
    if report.twins is None:
        return []
    twins = report.twins
    lines = [
        "## Full-resolution originals",
        "",
        f"{_counted(twins.same)} originals are called as their small twins, "
        f"{_counted(twins.both_high)} pairs are both high; the model was trained on the small twin "
        f"of {twins.trained_on}.",
    ]
    if twins.differing:
        lines += ["", f"Called otherwise: {', '.join(twins.differing)}."]
    return [*lines, ""]


def _explanations(found: ExplanationFigures | None) -> list[str]:
    if found is None:
        return []
    columns = [DISPLAY_NAMES[label] for label in LABELS]
    counts = [str(found.images[label]) for label in LABELS]
    doubted = [_counted(found.doubted_by_class[label]) for label in LABELS]
    lines = [
        "## Explanations",
        "",
        EXPLANATIONS,
        "",
        f"| figure | all | {' | '.join(columns)} |",
        "|---|---|" + "---|" * len(columns),
        f"| images | {sum(found.images.values())} | {' | '.join(counts)} |",
        f"| doubted | {_share(found.doubted)} | {' | '.join(doubted)} |",
    ]
    for one in found.measures:
        cells = [_quartiles(one.all), *(_quartiles(one.by_class[label]) for label in LABELS)]
        lines.append(f"| {one.title} | {' | '.join(cells)} |")
    return [*lines, ""]


def _quartiles(found: Distribution | None) -> str:
    if found is None:
        return "–"
    return f"{found.median:.2f} ({found.lower_quartile:.2f} to {found.upper_quartile:.2f})"


def _share(one: Proportion) -> str:
    if one.share is None or one.interval is None:
        return "no images"
    low, high = one.interval
    return f"{one.share:.1%} ({low:.1%} to {high:.1%})"


def _counted(one: Proportion) -> str:
    return f"{one.hits} of {one.n}"


def _points(one: ChangeFigures) -> str:
    if one.accuracy_gain_interval is None:
        return f"{100 * one.accuracy_gain:+.1f}"
    low, high = one.accuracy_gain_interval
    return f"{100 * one.accuracy_gain:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
