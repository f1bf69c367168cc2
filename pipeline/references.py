"""A laboratory's own labelled images as references of a new version of a bundle.

Part of the images become references, the rest join the calibration part, and thresholds are found
anew. The network stays as it is: its label is not changed by references, only confirmed or doubted.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bundle import (
    CALIBRATION_FILE,
    NETWORK_FILE,
    Bundle,
    BundleRecord,
    write_bundle,
)
from pipeline.calibration_part import CalibrationPart, MeasuredImage, measure_image
from pipeline.classify import Network
from pipeline.confidence import Thresholds
from pipeline.errors import BadInputError, ConfigurationError
from pipeline.labels import FOLDER_ALIASES, REFERENCE_LABELS, ReferenceLabel
from pipeline.latent_map import LatentMap
from pipeline.neighbours import References
from pipeline.results import Record
from pipeline.thresholds import TARGET_ERROR, TARGET_MISSED
from pipeline.training.data import IMAGE_SUFFIXES

#: Folder names of labelled references. ``benign`` here is: no leukaemia.
FOLDERS: dict[str, ReferenceLabel] = {
    **FOLDER_ALIASES,
    "healthy": "benign",
    "hem": "benign",
    "normal": "benign",
    "malignant": "malignant",
    "all": "malignant",
    "blast": "malignant",
}

#: Where the record keeps what was added.
ADDED = "references_added"


class Addition(Record):
    """What was added to a bundle once; free of dates, so that the same command gives one digest."""

    name: str
    references: dict[ReferenceLabel, int]
    calibration: dict[ReferenceLabel, int]
    skipped: int
    seed: int
    calibration_share: float
    sha256: list[str]


@dataclass(frozen=True, order=True)
class OwnImage:
    """A labelled image; those of one ``group`` stay together."""

    path: Path
    label: ReferenceLabel
    group: str


@dataclass(frozen=True)
class _Measured:
    image: OwnImage
    seen: MeasuredImage


Say = Callable[[str], None]


def read_own_images(root: Path, patient_pattern: str | None = None) -> list[OwnImage]:
    """Images in folders named after their label, sorted.

    ``patient_pattern``: regular expression with a group ``patient``, matched against the whole path
    below ``root``; without it every image is a group of its own. Raises ConfigurationError if there
    are no labelled folders or a path does not match.
    """
    images = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        label = FOLDERS.get(folder.name.lower())
        if label is None:
            continue
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                relative = path.relative_to(root).as_posix()
                images.append(OwnImage(path, label, _group(relative, patient_pattern)))
    if not images:
        raise ConfigurationError(
            f"{root} has no labelled images: expected folders named {', '.join(sorted(FOLDERS))}"
        )
    return images


def divide(
    images: Sequence[OwnImage], calibration_share: float, seed: int
) -> tuple[list[OwnImage], list[OwnImage]]:
    """References and calibration images; every label is divided, every group stays whole.

    Groups are drawn for calibration with ``seed`` until they hold ``calibration_share`` of the
    images of a label; a group with several labels counts for the first of them.
    """
    groups: dict[str, list[OwnImage]] = defaultdict(list)
    for image in sorted(images):
        groups[image.group].append(image)
    by_label: dict[ReferenceLabel, list[str]] = defaultdict(list)
    for name, members in groups.items():
        by_label[min((m.label for m in members), key=REFERENCE_LABELS.index)].append(name)
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    for label in REFERENCE_LABELS:
        names = sorted(by_label[label])
        wanted = calibration_share * sum(len(groups[name]) for name in names)
        taken = 0
        for name in rng.permutation(names).tolist() if names else []:
            if taken + len(groups[name]) / 2 <= wanted:
                held.add(name)
                taken += len(groups[name])
    references = [image for image in sorted(images) if image.group not in held]
    calibration = [image for image in sorted(images) if image.group in held]
    if not references or not calibration:
        raise ConfigurationError(
            f"{len(images)} images of {len(groups)} patients or groups cannot be divided into "
            f"references and {calibration_share:.0%} for calibration: add more images"
        )
    return references, calibration


def add_references(
    bundle: Bundle,
    images: Sequence[OwnImage],
    out: Path,
    *,
    root: Path,
    name: str,
    calibration_share: float = 0.5,
    seed: int = 2025,
    target_error: float = TARGET_ERROR,
    target_missed: float = TARGET_MISSED,
    say: Say = lambda message: None,
) -> Bundle:
    """Write a new version of ``bundle`` with some of the images as references, and recalibrate.

    Images that cannot be read, and copies of others, are passed over. Raises ConfigurationError if
    ``name`` was added before, or if there are too few calibration images for the errors asked for.
    """
    if any(former["name"] == name for former in additions_of(bundle.record)):
        raise ConfigurationError(f"references named {name!r} were added before: use another --name")
    refuse_occupied(out, bundle)
    calibration = bundle.load_calibration()
    for_references, for_calibration = divide(images, calibration_share, seed)
    network = bundle.load_network()
    known = {digest for former in additions_of(bundle.record) for digest in former["sha256"]}
    measured = [_measure(some, network, known, say) for some in (for_references, for_calibration)]
    new, held = measured
    if not new or not held:
        raise ConfigurationError("none of the images is readable and new: nothing to add")
    references = bundle.references.extended(
        np.stack([item.seen.embedding for item in new]),
        [item.image.label for item in new],
        [f"{name}/{item.image.path.relative_to(root).as_posix()}" for item in new],
    )
    labels = [item.image.label for item in held]
    groups = sorted({item.image.group for item in held})
    patients = [groups.index(item.image.group) for item in held]
    own = CalibrationPart.of([item.seen for item in held], labels, name, patients)
    part = calibration.joined(own)
    addition = Addition(
        name=name,
        references=dict(Counter(item.image.label for item in new)),
        calibration=dict(Counter(labels)),
        skipped=len(images) - len(new) - len(held),
        seed=seed,
        calibration_share=calibration_share,
        sha256=sorted(item.seen.sha256 for item in (*new, *held)),
    )
    training = {
        **bundle.record.training,
        ADDED: [*additions_of(bundle.record), addition.model_dump(mode="json")],
    }
    record = bundle.record.model_copy(
        update={
            "training": training,
            "tested": f"{bundle.record.tested}; since then given {len(new)} references from "
            f"{name} and recalibrated",
        }
    )
    return _write(out, bundle, record, references, part, target_error, target_missed)


def recalibrate(
    bundle: Bundle,
    out: Path,
    *,
    target_error: float = TARGET_ERROR,
    target_missed: float = TARGET_MISSED,
) -> Bundle:
    """Write a new version of ``bundle`` with thresholds for other errors, from its own images."""
    refuse_occupied(out, bundle)
    record = bundle.record.model_copy(
        update={"tested": f"{bundle.record.tested}; since then recalibrated"}
    )
    part = bundle.load_calibration()
    return _write(out, bundle, record, bundle.references, part, target_error, target_missed)


def with_map(bundle: Bundle, out: Path) -> Bundle:
    """Write a new version of ``bundle`` with a map of its references, fitted anew.

    Nothing else changes, no decision either. Raises ConfigurationError if the references are too
    few for a map.
    """
    refuse_occupied(out, bundle)
    latent_map = LatentMap.fit(bundle.references)
    if latent_map is None:
        raise ConfigurationError(
            f"{bundle.directory} has too few references, or all alike, for a map: add some first"
        )
    kept = CALIBRATION_FILE in bundle.record.files
    return write_bundle(
        out,
        UnchangedNetwork(bundle),
        bundle.references,
        card_of(bundle),
        bundle.record,
        bundle.load_calibration() if kept else None,
        latent_map,
    )


def additions_of(record: BundleRecord) -> list[dict[str, Any]]:
    """What was added to a bundle, oldest first; see ``Addition`` for the fields."""
    return list(record.training.get(ADDED, []))


def sets_of(bundle: Bundle) -> list[dict[str, Any]]:
    """References by set: name, and how many of each label."""
    names = {former["name"] for former in additions_of(bundle.record)}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for reference, label in zip(bundle.references.ids, bundle.references.labels, strict=True):
        first = reference.split("/", 1)[0]
        counts[first if first in names else "training set"][REFERENCE_LABELS[label]] += 1
    return [{"name": name, "references": dict(found)} for name, found in counts.items()]


class UnchangedNetwork:
    """Stands for the network of a bundle where a new version is written."""

    def __init__(self, bundle: Bundle) -> None:
        self._path = bundle.directory / NETWORK_FILE

    def save(self, path: Path) -> None:
        """Copy the file, byte for byte."""
        shutil.copyfile(self._path, path)


def refuse_occupied(out: Path, bundle: Bundle) -> None:
    """Raise ConfigurationError if ``out`` holds anything: a bundle is never overwritten."""
    if out.resolve() == bundle.directory.resolve() or (out.exists() and any(out.iterdir())):
        raise ConfigurationError(
            f"{out} is not empty: name a new folder for the new version of the bundle"
        )


def _write(
    out: Path,
    bundle: Bundle,
    record: BundleRecord,
    references: References,
    part: CalibrationPart,
    target_error: float,
    target_missed: float,
) -> Bundle:
    thresholds = part.thresholds(references, target_error=target_error, target_missed=target_missed)
    limits = part.quality_limits(record.preprocessing.exposed)
    record = record.model_copy(update={"quality_limits": limits, "thresholds": thresholds})
    card = card_of(bundle) + _card_section(record, thresholds)
    unchanged = bundle.latent_map if references is bundle.references else None
    latent_map = unchanged or LatentMap.fit(references)
    return write_bundle(out, UnchangedNetwork(bundle), references, card, record, part, latent_map)


def card_of(bundle: Bundle) -> str:
    """The model card of a bundle, or a title where there is none."""
    try:
        return (bundle.directory / "MODEL_CARD.md").read_text(encoding="utf-8")
    except OSError:
        return f"# Model card: {bundle.record.name}\n"


def _card_section(record: BundleRecord, thresholds: Thresholds) -> str:
    from pipeline.training.card import threshold_words

    added = "\n".join(
        f"* {former['name']}: references {_in_words(former['references'])}; calibration images "
        f"{_in_words(former['calibration'])}"
        for former in additions_of(record)
    )
    rows = "\n".join(
        f"| {name} | {found.images} | {found.coverage:.1%} | "
        f"{'' if found.error is None else f'{found.error:.1%}'} | {found.missed_malignant} |"
        for name, found in sorted(thresholds.sets.items())
    )
    return f"""
## Recalibrated

The test figures above are those of the bundle this one was made from: what the flag `high` keeps
and gets wrong has changed since.

{added}

{threshold_words(thresholds)}

| calibration images | n | `high` | wrong among them | missed malignant |
|---|---|---|---|---|
{rows}
"""


def _in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {label}" for label, number in sorted(counts.items()))


def _measure(
    images: Sequence[OwnImage], network: Network, known: set[str], say: Say
) -> list[_Measured]:
    """What the network says of each image; ``known`` contents are passed over, and added to."""
    found = []
    for number, image in enumerate(images, start=1):
        try:
            seen = measure_image(image.path, network)
        except BadInputError as error:
            say(f"passed over {image.path.name}: {error}")
            continue
        if seen.sha256 not in known:
            known.add(seen.sha256)
            found.append(_Measured(image, seen))
        if number % 50 == 0:
            say(f"{number} of {len(images)} images")
    return found


def _group(relative: str, pattern: str | None) -> str:
    if pattern is None:
        return relative
    try:
        match = re.fullmatch(pattern, relative, re.DOTALL)
        group = match and match["patient"]
    except (re.error, IndexError) as error:
        raise ConfigurationError(
            f"--patient-pattern {pattern!r} cannot be used ({error}); it is a regular expression "
            "with a group (?P<patient>...)"
        ) from error
    if not group:
        raise ConfigurationError(f"--patient-pattern does not match {relative!r}")
    return group
