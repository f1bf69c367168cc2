"""From judgements to figures, and from figures to verdicts: what a decision may not depend on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from pipeline.evaluation.bootstrap import difference_of_shares, figure, resample_counts
from pipeline.evaluation.shortcuts import AS_IS, CHANGES, SMALL_GAINS
from pipeline.labels import LABELS, Label
from pipeline.results import Flag, Record
from pipeline.statistics import wilson_interval

#: The reason that stops a field without white cells. An audit also asks what would happen without
#: it: whether the model would notice by itself that there is nothing to judge.
NO_CELL_RULE = "no_white_cell"

RESAMPLES = 1000

#: Where a single case is too many, this many images without one are needed for a PASS.
NEEDED_FOR_NONE = 100
#: ... and never fewer than this many.
LEAST_IMAGES = 20

VerdictWord = Literal["PASS", "FAIL", "UNKNOWN"]
Measure = Literal["high", "changed", "high_changed", "low", "twins_differ"]


class Judgement(Record):
    """What the model said of one image after one change; a line of the judgements file."""

    audit: str = Field(description="digest of what else the judgement depends on")
    sha256: str = Field(description="of the unchanged file")
    image: str
    change: str
    truth: Label
    label: Label
    flag: Flag
    reasons: list[str]
    probability: float

    @property
    def high(self) -> bool:
        """Whether the decision is made with high confidence."""
        return self.flag == "high"

    @property
    def high_without_rule(self) -> bool:
        """The same, if no rule asked for white cells."""
        return not [reason for reason in self.reasons if reason != NO_CELL_RULE]

    @property
    def correct(self) -> bool:
        """Whether the label is the true one."""
        return self.label == self.truth


class Proportion(Record):
    """Hits among n, with the two-sided 95 % Wilson interval; null where n is 0."""

    hits: int
    n: int
    share: float | None
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, hits: Iterable[bool]) -> Proportion:
        """Count the true ones."""
        found = list(hits)
        share = sum(found) / len(found) if found else None
        return cls(
            hits=sum(found),
            n=len(found),
            share=share,
            interval=wilson_interval(sum(found), len(found)),
        )


class ChangeFigures(Record):
    """What became of the decisions under one change."""

    change: str
    title: str
    accuracy: Proportion
    accuracy_gain: float = Field(description="accuracy less accuracy of the images as they are")
    accuracy_gain_interval: tuple[float, float] | None = Field(
        description="95 % bootstrap interval, images drawn in pairs"
    )
    changed: Proportion = Field(description="decisions that are not those of the image as it is")
    high: Proportion
    high_without_rule: Proportion = Field(description="high, were no white cell needed")
    high_changed: Proportion = Field(
        description="among images that are high as they are: another label than before"
    )
    high_and_wrong: Proportion
    right_by_class: dict[Label, Proportion]
    high_without_rule_by_class: dict[Label, Proportion]


class TwinFigures(Record):
    """Full-resolution originals against their small twins."""

    same: Proportion = Field(description="pairs with the same label")
    both_high: Proportion
    trained_on: int = Field(description="pairs whose small twin the model was trained on")
    differing: list[str] = Field(description="originals that are called otherwise")


class Verdict(Record):
    """One line: whether the model takes a shortcut."""

    shortcut: str
    verdict: VerdictWord
    sentence: str
    measured: Proportion | None
    worst_change: str | None
    limit: float = Field(description="largest share allowed")


@dataclass(frozen=True)
class Shortcut:
    """A limit on what changes may do.

    ``limit``: largest share of ``measure`` allowed under the worst of ``changes``. ``clause``: the
    finding in words, with the share to be put in front.
    """

    name: str
    changes: tuple[str, ...]
    measure: Measure
    limit: float
    clause: str


_SMALL_GAINS = tuple(change.name for change in SMALL_GAINS)

SHORTCUTS = (
    Shortcut(
        "white cells erased",
        ("white_cells_erased",),
        "high",
        0.02,
        "of images without any white cell are still called with high confidence",
    ),
    Shortcut(
        "white cells badly erased",
        ("white_cells_flat", "white_cells_blurred"),
        "high",
        0.02,
        "of images whose white cells can no longer be recognised are still called with high "
        "confidence",
    ),
    Shortcut(
        "background replaced",
        ("background_replaced",),
        "changed",
        0.01,
        "of decisions change when the same white cells lie on another class's background",
    ),
    Shortcut(
        "scale bar",
        ("bar_erased", "bar_moved", "bar_copied"),
        "changed",
        0.0,
        "of decisions change when the scale bar is erased, moved or exchanged",
    ),
    Shortcut(
        "colour gains 0.9 to 1.1, decisions",
        _SMALL_GAINS,
        "high_changed",
        0.01,
        "of decisions made with high confidence change when colours shift by a tenth",
    ),
    Shortcut(
        "colour gains 0.9 to 1.1, coverage",
        _SMALL_GAINS,
        "low",
        0.10,
        "of images are not called with high confidence when colours shift by a tenth",
    ),
    Shortcut(
        "full-resolution originals",
        (),
        "twins_differ",
        0.05,
        "of full-resolution originals are called otherwise than their small twins",
    ),
)


def change_figures(
    judgements: Mapping[tuple[str, str], Judgement], images: Sequence[str], change: str, seed: int
) -> ChangeFigures:
    """Figures of one change over ``images``; ``judgements`` by image and change."""
    pairs = [(judgements[image, AS_IS], judgements[image, change]) for image in images]
    after = [one for _, one in pairs]
    gain: float = 0.0
    interval = None
    if pairs:
        right = np.array([one.correct for one in after])
        before = np.array([one.correct for one, _ in pairs])
        counts = resample_counts(len(pairs), resamples=RESAMPLES, seed=seed)
        found = figure(difference_of_shares(right, before), counts)
        gain, interval = found["value"], found["interval"]
    return ChangeFigures(
        change=change,
        title=CHANGES[change].title,
        accuracy=Proportion.of(one.correct for one in after),
        accuracy_gain=gain,
        accuracy_gain_interval=interval,
        changed=Proportion.of(one.label != before.label for before, one in pairs),
        high=Proportion.of(one.high for one in after),
        high_without_rule=Proportion.of(one.high_without_rule for one in after),
        high_changed=Proportion.of(
            one.label != before.label for before, one in pairs if before.high
        ),
        high_and_wrong=Proportion.of(one.high and not one.correct for one in after),
        right_by_class={
            label: Proportion.of(one.correct for one in after if one.truth == label)
            for label in LABELS
        },
        high_without_rule_by_class={
            label: Proportion.of(one.high_without_rule for one in after if one.truth == label)
            for label in LABELS
        },
    )


def verdicts(figures: Sequence[ChangeFigures], twins: TwinFigures | None) -> list[Verdict]:
    """Hold every shortcut against its limit: the worst of its changes decides."""
    by_name = {one.change: one for one in figures}
    found = []
    for shortcut in SHORTCUTS:
        candidates = [
            (one, title)
            for name in shortcut.changes
            if name in by_name
            for one, title in _measured(by_name[name], shortcut.measure)
        ]
        if shortcut.measure == "twins_differ" and twins is not None:
            differing = [True] * (twins.same.n - twins.same.hits) + [False] * twins.same.hits
            candidates = [(Proportion.of(differing), "full resolution")]
        found.append(_verdict(shortcut, [one for one in candidates if one[0].n]))
    return found


def _measured(figures: ChangeFigures, measure: Measure) -> list[tuple[Proportion, str]]:
    if measure == "high":
        off = (figures.high_without_rule, f"{figures.title}; rule against empty fields off")
        return [(figures.high, figures.title), off]
    if measure == "low":
        high = figures.high
        low = Proportion.of([True] * (high.n - high.hits) + [False] * high.hits)
        return [(low, figures.title)]
    return [(figures.high_changed if measure == "high_changed" else figures.changed, figures.title)]


def _verdict(shortcut: Shortcut, candidates: Sequence[tuple[Proportion, str]]) -> Verdict:
    if not candidates:
        return Verdict(
            shortcut=shortcut.name,
            verdict="UNKNOWN",
            sentence=f"UNKNOWN {shortcut.name}: not measured",
            measured=None,
            worst_change=None,
            limit=shortcut.limit,
        )
    rank = {"FAIL": 2, "UNKNOWN": 1, "PASS": 0}
    judged = [(held_against(one, shortcut.limit), one, title) for one, title in candidates]
    # max() keeps the first of equals: the plainest change of those that are as bad.
    word, worst, title = max(judged, key=lambda one: (rank[one[0]], one[1].share or 0.0))
    low, high = worst.interval or (0.0, 1.0)
    limit = f"limit {shortcut.limit:.0%}" if shortcut.limit else "limit 0 images"
    sentence = (
        f"{word} {shortcut.name}: {worst.share:.1%} {shortcut.clause} "
        f"({worst.hits} of {worst.n}, 95 % interval {low:.1%} to {high:.1%}; {limit}; {title})"
    )
    if word == "UNKNOWN":
        sentence += f"; too few images to tell: take at least {needed(shortcut.limit)}"
    return Verdict(
        shortcut=shortcut.name,
        verdict=word,
        sentence=sentence,
        measured=worst,
        worst_change=title,
        limit=shortcut.limit,
    )


def needed(limit: float) -> int:
    """Images without which a verdict would hang on a single one."""
    return max(LEAST_IMAGES, math.ceil(1 / limit) if limit else NEEDED_FOR_NONE)


def held_against(measured: Proportion, limit: float) -> VerdictWord:
    """PASS if the share is within the limit, FAIL if it is above, as measured.

    With so few images that a single one decides, only what is certain counts: FAIL where the whole
    interval is above the limit, or where a limit of none is broken; else UNKNOWN.
    """
    share = measured.share or 0.0
    if share > limit and (limit == 0 or measured.n >= needed(limit)):
        return "FAIL"
    if measured.n >= needed(limit):
        return "PASS"
    return "FAIL" if measured.interval is not None and measured.interval[0] > limit else "UNKNOWN"
