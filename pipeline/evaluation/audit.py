"""The shortcut audit: does a model look at white cells, or at stain, background and scale bars?

Every held-out image is judged as it is and after each change of ``shortcuts``, through the whole
per-image pipeline, segmentation included. A judgement is a line of ``judgements.jsonl``, written
as soon as it is there; the same audit called again goes on from there.
"""

from __future__ import annotations

import hashlib
import io
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from pipeline.bundle import Bundle
from pipeline.canonical import canonical_bytes, digest
from pipeline.decode import decode
from pipeline.errors import BadInputError, ConfigurationError
from pipeline.evaluation.audit_explanations import (
    EXPLANATIONS_VERSION,
    ExplainedImage,
    explained_image,
    explanation_figures,
)
from pipeline.evaluation.audit_figures import (
    Judgement,
    Proportion,
    TwinFigures,
    change_figures,
    verdicts,
)
from pipeline.evaluation.audit_images import (
    AuditOptions,
    Donors,
    changed,
    held_out,
    read_twins,
    relative_name,
    spread,
)
from pipeline.evaluation.audit_log import Log
from pipeline.evaluation.audit_page import audit_page
from pipeline.evaluation.audit_report import AuditReport
from pipeline.evaluation.audit_sheet import example_sheet
from pipeline.evaluation.shortcuts import AS_IS, CHANGES, Change, Field
from pipeline.labels import LABELS, Label
from pipeline.results import ImageAnalysis
from pipeline.threads import one_thread
from pipeline.training.data import LabelledImage

#: Rises when a change, or what is recorded of a judgement, means something else than before.
CHANGES_VERSION = 1

JUDGEMENTS_FILE = "judgements.jsonl"
EXPLANATIONS_FILE = "explanations.jsonl"
AUDIT_FILE = "audit.json"
PAGE_FILE = "AUDIT.md"
EXAMPLES_FILE = "examples.png"


class Analysed(Protocol):
    """What an analyser returns, as far as an audit looks at it."""

    @property
    def result(self) -> ImageAnalysis:
        """The result for one image."""


#: Judges the bytes of one image file; ``pipeline.analyse.Analyser`` is one.
Judge = Callable[[bytes], Analysed]


def audit(
    bundle: Bundle,
    judge: Judge,
    options: AuditOptions,
    command: Sequence[str] = (),
    on_judgement: Callable[[int, int], None] = lambda done, total: None,
    explain: Judge | None = None,
) -> AuditReport:
    """Judge, count, hold against the limits, and write ``audit.json``, its page and examples.

    ``explain``: judges and explains; without it, and without ``options.explained``, explanations
    are not looked at.
    ``on_judgement`` is told how many judgements are done and how many there will be.

    Raises ConfigurationError if there are no images that the bundle was not trained on, a change
    has no such name, or a file cannot be used.
    """
    changes = chosen_changes(options.changes)
    pool, part = held_out(bundle, options)
    images = spread(pool, options.limit)
    pairs = read_twins(options.twins) if options.twins else []
    options.out.mkdir(parents=True, exist_ok=True)
    key = _key(bundle, pool, options)
    log = Log(options.out / JUDGEMENTS_FILE, key, Judgement)
    sample = spread(images, options.explained) if explain is not None else []
    total = len(images) * len(changes) + 2 * len(pairs) + len(sample)
    judging = _Judging(judge, log, pool, options, lambda done: on_judgement(done, total))
    with one_thread():
        kept = [image for image in images if judging.judge(image, changes)]
        twins = judging.twins(pairs, set(bundle.references.ids)) if pairs else None
        explained = judging.explained(sample, explain) if explain is not None else []

    names = [relative_name(image, options.data) for image in kept]
    figures = [
        change_figures(judging.found, names, change.name, options.seed) for change in changes
    ]
    report = AuditReport(
        model=bundle.model,
        images={label: sum(image.label == label for image in kept) for label in LABELS},
        part=part,
        notes=_notes(bundle, options.data),
        unreadable=sorted(judging.unreadable),
        seed=options.seed,
        command=list(command),
        software=_software(),
        verdicts=verdicts(figures, twins),
        changes=figures,
        twins=twins,
        explanations=explanation_figures(explained),
    )
    (options.out / AUDIT_FILE).write_bytes(canonical_bytes(report))
    (options.out / PAGE_FILE).write_text(audit_page(report), encoding="utf-8")
    if kept:
        example_sheet(kept, changes, judging.donors, options.data).save(options.out / EXAMPLES_FILE)
    return report


def chosen_changes(names: Sequence[str]) -> list[Change]:
    """The changes with these names, all if there are none; ``as_is`` always comes first."""
    unknown = sorted(set(names) - set(CHANGES))
    if unknown:
        raise ConfigurationError(
            f"no change is called {', '.join(unknown)}; there are: {', '.join(CHANGES)}"
        )
    wanted = {AS_IS, *names} if names else set(CHANGES)
    return [change for name, change in CHANGES.items() if name in wanted]


def encoded(pixels: np.ndarray) -> bytes:
    """As a PNG file, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


class _Judging:
    """Changes images and judges them, unless the log knows the answer."""

    def __init__(
        self,
        judge: Judge,
        log: Log[Judgement],
        pool: Sequence[LabelledImage],
        options: AuditOptions,
        on_done: Callable[[int], None],
    ) -> None:
        self._judge = judge
        self._log = log
        self.donors = Donors(pool, options.data, options.seed)
        self._options = options
        self._on_done = on_done
        self._done = 0
        #: By image and change.
        self.found: dict[tuple[str, str], Judgement] = {}
        self.unreadable: set[str] = set()

    def judge(self, image: LabelledImage, changes: Sequence[Change]) -> bool:
        """Judge an image under every change; False if it cannot be judged."""
        name = relative_name(image, self._options.data)
        data = image.path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        field: Field | None = None
        for change in changes:
            known = self._log.find(sha256, name, change.name)
            if known is None:
                try:
                    if change.name == AS_IS:
                        shown = data
                    else:
                        field = field or Field.of(decode(data).pixels)
                        shown = encoded(changed(field, change, name, image.label, self.donors))
                    known = self._add(shown, sha256, name, change.name, image.label)
                except BadInputError as error:
                    self.unreadable.add(f"{name}: {error}")
                    return False
            self.found[name, change.name] = known
            self._tick()
        return True

    def twins(self, pairs: Sequence[tuple[Path, Path]], trained: set[str]) -> TwinFigures:
        """Judge originals and their small twins."""
        found = [(self._twin(full), self._twin(small)) for full, small in pairs]
        names = ["/".join(small.parts[-2:]) for _, small in pairs]
        return TwinFigures(
            same=Proportion.of(one.label == other.label for one, other in found),
            both_high=Proportion.of(one.high and other.high for one, other in found),
            trained_on=sum(name in trained for name in names),
            differing=[one.image for one, other in found if one.label != other.label],
        )

    def explained(self, images: Sequence[LabelledImage], explain: Judge) -> list[ExplainedImage]:
        """The figures of the explanations of images as they are."""
        key = digest({"audit": self._log.key, "explanations": EXPLANATIONS_VERSION})
        log = Log(self._options.out / EXPLANATIONS_FILE, key, ExplainedImage)
        found = []
        for image in images:
            name, data = relative_name(image, self._options.data), image.path.read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            known = log.find(sha256, name, AS_IS)
            if known is None:
                try:
                    known = explained_image(
                        explain(data).result,
                        key=key,
                        sha256=sha256,
                        image=name,
                        change=AS_IS,
                        truth=image.label,
                    )
                    log.add(known)
                except BadInputError as error:
                    self.unreadable.add(f"{name}: {error}")
                    continue
            found.append(known)
            self._tick()
        return found

    def _twin(self, path: Path) -> Judgement:
        name, data = "/".join(path.parts[-2:]), path.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        known = self._log.find(sha256, name, "twin")
        if known is None:
            # The truth of a twin plays no part: both are compared with each other.
            known = self._add(data, sha256, name, "twin", LABELS[0])
        self._tick()
        return known

    def _add(self, shown: bytes, sha256: str, image: str, change: str, truth: Label) -> Judgement:
        result = self._judge(shown).result
        if result.label is None or result.confidence is None or result.probabilities is None:
            raise BadInputError("internal_error", f"{image} could not be judged ({change})")
        judgement = Judgement(
            audit=self._log.key,
            sha256=sha256,
            image=image,
            change=change,
            truth=truth,
            label=result.label,
            flag=result.confidence.flag,
            reasons=result.confidence.reasons,
            probability=result.probabilities[result.label],
        )
        self._log.add(judgement)
        return judgement

    def _tick(self) -> None:
        self._done += 1
        self._on_done(self._done)


def _key(bundle: Bundle, pool: Sequence[LabelledImage], options: AuditOptions) -> str:
    return digest(
        {
            "bundle": bundle.digest,
            "changes": CHANGES_VERSION,
            "pool": [relative_name(image, options.data) for image in pool],
            "seed": options.seed,
        }
    )


def _notes(bundle: Bundle, data: Path) -> list[str]:
    notes = []
    if not any((data / name).is_file() for name in bundle.references.ids):
        notes.append(
            "none of the model's training images is in the folder by its name: whether it was "
            "trained on copies of these images cannot be told"
        )
    return notes


def _software() -> dict[str, str]:
    names = ("keras", "numpy", "opencv-python-headless", "pillow", "smear-screen", "tensorflow")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
