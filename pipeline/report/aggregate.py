"""From the images of a patient to one call: the aggregation rule.

In screening the costly error is a missed malignancy, so every doubt leads away from a confident
``benign``. The rule, with *certain* for an image whose confidence flag is high:

1. Copies (images with the same bytes) count once. An image in which no white cell was found is
   no evidence and is never judged.
2. If at least half of the readable images are certain, the certain ones are **judged**: the call
   is their verdict. Otherwise the certain ones do not represent the patient, and all images with
   white cells are judged; the call is their verdict if the certain ones (if any) have the same
   verdict, else ``mixed``. Nothing to judge: ``not_assessable``.
3. The **verdict** of a set of images: ``benign`` if at most 5% are malignant (so one malignant
   image needs nineteen others beside it); a malignant label if more than half are malignant and
   at least two thirds of those have the label; else ``mixed``.
4. The flag is ``high`` only if none of the reasons in ``REASONS`` applies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pipeline.labels import LABELS, MALIGNANT_LABELS, Label
from pipeline.report.words import statement
from pipeline.results import (
    AnalysisOptions,
    Call,
    Counts,
    ImageResult,
    Interval,
    ModelRecord,
    PatientReport,
)
from pipeline.statistics import wilson_interval

#: White cells of the usual differential count. (The reference method of CLSI H20-A2 counts 400.)
USUAL_WHITE_CELLS = 100
#: Share of certain images among the readable ones from which they speak for the patient.
CERTAIN_SHARE = Fraction(1, 2)
#: Share of malignant images that a benign verdict tolerates; none among fewer than 20.
TOLERATED_MALIGNANT = Fraction(1, 20)
#: A malignant verdict needs more malignant images than this share...
MALIGNANT_MAJORITY = Fraction(1, 2)
#: ... and one label on at least this share of them.
SUBTYPE_MAJORITY = Fraction(2, 3)

#: Why a patient's flag is low, in the order in which the codes are reported.
REASONS = (
    "nothing_to_judge",
    "synthetic_images",
    "failed_images",
    "few_certain_images",
    "few_white_cells",
    "share_uncertain",
    "mixed_labels",
    "malignant_images_in_benign_call",
    "uncertain_images_disagree",
)


@dataclass(frozen=True)
class _Evidence:
    """What one distinct, readable image says."""

    label: Label
    certain: bool
    white_cells: int


@dataclass(frozen=True)
class _Finding:
    """The call, what it rests on, and what else there was."""

    call: Call
    judged: Sequence[_Evidence]
    assessable: Sequence[_Evidence]
    readable: int

    @property
    def certain(self) -> list[_Evidence]:
        return [image for image in self.assessable if image.certain]


def build_report(
    patient: str,
    images: Sequence[ImageResult],
    model: ModelRecord,
    options: AnalysisOptions,
    software: dict[str, str],
) -> PatientReport:
    """Count the images of a patient and apply the rule of this module.

    Pure: the order of ``images`` makes no difference. Raises ValueError if two images have one
    source, or if one that is ``ok`` carries no label or confidence.
    """
    images = sorted(images, key=lambda image: image.source)
    sources = Counter(image.source for image in images)
    if len(sources) < len(images):
        twice = next(source for source, count in sources.items() if count > 1)
        raise ValueError(f"{twice!r} was given twice for patient {patient!r}")

    ok = [image for image in images if image.status == "ok"]
    failed = len(images) - len(ok)
    evidence = _distinct_evidence(ok)
    finding = _find(evidence)
    counts = _count(ok, failed, evidence, finding)
    synthetic = any(image.synthetic for image in images)
    reasons = _reasons(finding, failed, counts, synthetic)
    return PatientReport(
        synthetic=synthetic,
        patient=patient,
        call=finding.call,
        flag="low" if reasons else "high",
        reasons=reasons,
        statement=statement(finding.call, reasons, counts, USUAL_WHITE_CELLS),
        counts=counts,
        model=model,
        options=options,
        software=software,
        images=images,
    )


def _distinct_evidence(ok: Sequence[ImageResult]) -> list[_Evidence]:
    """One piece of evidence per distinct content."""
    distinct: dict[str, _Evidence] = {}
    for image in ok:
        if image.label is None or image.confidence is None:
            raise ValueError(f"{image.source!r} is ok but has no label or no confidence")
        # Without a digest nothing says that two images are the same.
        key = image.sha256 or f"source:{image.source}"
        distinct.setdefault(
            key, _Evidence(image.label, image.confidence.flag == "high", len(image.cells))
        )
    return list(distinct.values())


def _find(evidence: Sequence[_Evidence]) -> _Finding:
    """Steps 1 and 2 of the rule."""
    assessable = [image for image in evidence if image.white_cells > 0]
    certain = [image for image in assessable if image.certain]
    if not assessable:
        return _Finding("not_assessable", [], [], len(evidence))
    if len(certain) >= CERTAIN_SHARE * len(evidence):
        return _Finding(_verdict(_labels(certain)), certain, assessable, len(evidence))
    call = _verdict(_labels(assessable))
    if certain and _verdict(_labels(certain)) != call:
        call = "mixed"
    return _Finding(call, assessable, assessable, len(evidence))


def _verdict(labels: Counter[Label]) -> Call:
    """Step 3 of the rule; ``labels`` counts at least one image."""
    total = labels.total()
    malignant = total - labels["benign"]
    if malignant <= TOLERATED_MALIGNANT * total:
        return "benign"
    if malignant > MALIGNANT_MAJORITY * total:
        for label in sorted(MALIGNANT_LABELS):
            if labels[label] >= SUBTYPE_MAJORITY * malignant:
                return label
    return "mixed"


def _labels(evidence: Sequence[_Evidence]) -> Counter[Label]:
    return Counter(image.label for image in evidence)


def _count(
    ok: Sequence[ImageResult], failed: int, evidence: Sequence[_Evidence], finding: _Finding
) -> Counts:
    by_label = Counter(image.label for image in ok)
    high = sum(image.confidence is not None and image.confidence.flag == "high" for image in ok)
    judged = len(finding.judged)
    malignant = sum(image.label in MALIGNANT_LABELS for image in finding.judged)
    interval = wilson_interval(malignant, judged)
    return Counts(
        images=len(ok) + failed,
        ok=len(ok),
        failed=failed,
        copies=len(ok) - len(evidence),
        by_label={label: by_label[label] for label in LABELS},
        high=high,
        low=len(ok) - high,
        judged=judged,
        judged_white_cells=sum(image.white_cells for image in finding.judged),
        white_cells=sum(image.white_cells for image in evidence),
        malignant_share=malignant / judged if judged else None,
        malignant_share_interval=Interval(low=interval[0], high=interval[1]) if interval else None,
    )


def _reasons(finding: _Finding, failed: int, counts: Counts, synthetic: bool) -> list[str]:
    """Step 4 of the rule: everything that speaks against a high flag."""
    if finding.call == "not_assessable":
        applies = {
            "nothing_to_judge": True,
            "synthetic_images": synthetic,
            "failed_images": failed > 0,
        }
    else:
        interval = counts.malignant_share_interval
        applies = {
            "synthetic_images": synthetic,
            "failed_images": _failures_matter(finding, failed),
            "few_certain_images": len(finding.certain) < CERTAIN_SHARE * finding.readable,
            "few_white_cells": counts.judged_white_cells < USUAL_WHITE_CELLS,
            "share_uncertain": interval is not None and interval.low <= 0.5 <= interval.high,
            "mixed_labels": finding.call == "mixed",
            "malignant_images_in_benign_call": finding.call == "benign"
            and any(image.label in MALIGNANT_LABELS for image in finding.certain),
            "uncertain_images_disagree": _verdict(_labels(finding.assessable)) != finding.call,
        }
    return [code for code in REASONS if applies.get(code, False)]


def _failures_matter(finding: _Finding, failed: int) -> bool:
    """Whether the call would be another if all failed images had been judged with some label."""
    labels = _labels(finding.judged)
    verdict = _verdict(labels)
    return any(_verdict(labels + Counter({label: failed})) != verdict for label in LABELS)
