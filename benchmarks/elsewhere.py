"""What the confidence flag says of images unlike those the model was trained on.

    python -m benchmarks.elsewhere [--bundle B] [--data ../shared/data] [--limit 60]

For every other set: coverage of ``high``, images that are ``high`` and wrong, and how well the
flag's score tells the set from the bundle's own test fold (AUROC). Wrong is any ``high`` on other
diseases, photographs and noise; benign taken for malignant, or the reverse, on other laboratories'
leukaemia; malignant on normal blood. Prints a Markdown table and writes JSON. What was judged is
noted in ``--work``: the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from pipeline.analyse import Analyser, open_analyser
from pipeline.bundle import default_bundle, load_bundle
from pipeline.errors import BadInputError
from pipeline.results import AnalysisOptions
from pipeline.statistics import wilson_interval
from pipeline.training.data import IMAGE_SUFFIXES, read_folds

OUT = Path(__file__).parent / "results" / "elsewhere.json"

#: At most this share of images may be high and wrong.
BAR = 0.02
MALIGNANT_FOLDERS = {"blast", "all"}
#: Smears reach down to coarse structure: noise is made at these scales, in pixels.
NOISE_SCALES = (0, 2, 8, 32)
SIZE = 224


@dataclass(frozen=True)
class ImageSet:
    """Images below a folder, and when ``high`` is wrong for a (folder, label)."""

    pattern: str
    wrong: Callable[[str, str], bool]


def _always(folder: str, label: str) -> bool:
    return True


def _confused(folder: str, label: str) -> bool:
    return (folder in MALIGNANT_FOLDERS) != (label != "benign")


def _malignant(folder: str, label: str) -> bool:
    return label != "benign"


SETS = {
    "aml": ImageSet("aml/*/*", _always),
    "malaria": ImageSet("malaria/*", _always),
    "chula": ImageSet("chula/*", _always),
    "photographs": ImageSet("", _always),
    "noise": ImageSet("", _always),
    "all_idb1": ImageSet("all_idb1/*/*", _confused),
    "all_idb2": ImageSet("all_idb2/*/*", _confused),
    "cnmc": ImageSet("cnmc/*/*", _confused),
    "pbc": ImageSet("pbc/*/*", _malignant),
    "bccd": ImageSet("bccd/images/*", _malignant),
}


def main() -> None:
    """Judge every set, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--limit", type=int, default=60, help="images per set, evenly spread")
    parser.add_argument("--fold-column", default="block_fold")
    parser.add_argument("--test-fold", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("elsewhere.jsonl"))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()

    bundle = load_bundle(options.bundle)
    notes = Notes(options.work, bundle.digest)
    analyser = open_analyser(str(options.bundle), AnalysisOptions(explain="none"))
    own = judged_set(analyser, notes, "test fold", test_fold(options))
    found = {"test fold": figures(own, _never, own)}
    for name, one in SETS.items():
        images = list(IMAGES.get(name, files)(options, one.pattern))
        found[name] = figures(judged_set(analyser, notes, name, images), one.wrong, own)
    print(table(found))
    result = {
        "bundle": {"name": bundle.record.name, "digest": bundle.digest},
        "limit": options.limit,
        "bar": BAR,
        "sets": found,
    }
    options.out.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")


def _never(folder: str, label: str) -> bool:
    return False


class Notes:
    """What was judged, one JSON object a line; of other bundles too, which are passed over."""

    def __init__(self, path: Path, digest: str) -> None:
        self._path, self._digest = path, digest
        self._known: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                note = json.loads(line)
                if note["digest"] == digest:
                    self._known[note["image"]] = note

    def judge(self, analyser: Analyser, image: str, read: Callable[[], bytes]) -> dict[str, Any]:
        """What the model says of an image: judged now, or before."""
        if image not in self._known:
            note: dict[str, Any] = {"digest": self._digest, "image": image}
            try:
                result = analyser(read()).result
            except BadInputError as error:
                note["failed"] = error.reason
            else:
                confidence = result.confidence
                note |= {
                    "label": result.label,
                    "flag": confidence.flag,
                    "reasons": confidence.reasons,
                    "score": confidence.score,
                    "typicality": confidence.typicality,
                    "distance": confidence.distance,
                }
            with self._path.open("a") as file:
                file.write(json.dumps(note) + "\n")
            self._known[image] = note
        return self._known[image]


def judged_set(
    analyser: Analyser, notes: Notes, name: str, images: list[tuple[str, Callable[[], bytes]]]
) -> list[dict[str, Any]]:
    """Notes of all images; those that cannot be read are left out, as they get no flag."""
    judged = [notes.judge(analyser, f"{name}/{image}", read) for image, read in images]
    return [note for note in judged if "failed" not in note]


def figures(
    notes: list[dict[str, Any]], wrong: Callable[[str, str], bool], own: list[dict[str, Any]]
) -> dict[str, Any]:
    """Coverage, errors and separation of one set."""
    high = [note for note in notes if note["flag"] == "high"]
    errors = sum(wrong(note["image"].split("/")[-2], note["label"]) for note in high)
    return {
        "images": len(notes),
        "high": len(high),
        "high_and_wrong": errors,
        "interval": wilson_interval(errors, len(notes)),
        "auroc": separation(own, notes, "score"),
        "auroc_typicality": separation(own, notes, "typicality"),
        "reasons": dict(Counter(reason for note in notes for reason in note["reasons"])),
        "labels": dict(Counter(note["label"] for note in notes)),
    }


def separation(own: list[dict[str, Any]], other: list[dict[str, Any]], field: str) -> float | None:
    """AUROC of a number that should be high on ``own``; None for bundles without it."""
    values = [note[field] for note in (*own, *other)]
    if None in values or not other:
        return None
    return float(roc_auc_score([1] * len(own) + [0] * len(other), values))


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| set | n | high | high and wrong | AUROC of the score | of the distance alone |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        n = row["images"]
        aurocs = [None, None] if name == "test fold" else [row["auroc"], row["auroc_typicality"]]
        shown = ["–" if value is None else f"{value:.3f}" for value in aurocs]
        verdict = "" if row["high_and_wrong"] <= BAR * n else " (over the bar)"
        wrong = "–" if name == "test fold" else f"{row['high_and_wrong'] / n:.1%}{verdict}"
        lines.append(f"| {name} | {n} | {row['high'] / n:.1%} | {wrong} | {' | '.join(shown)} |")
    return "\n".join(lines)


def test_fold(options: argparse.Namespace) -> list[tuple[str, Callable[[], bytes]]]:
    """The images that the bundle was tested on."""
    splits = options.data / "splits" / "taleqani.csv"
    images = read_folds(options.data / "taleqani", splits, options.fold_column)
    paths = [image.path for image in images if image.fold == options.test_fold]
    return [(f"{path.parent.name}/{path.name}", path.read_bytes) for path in spread(paths, options)]


def files(options: argparse.Namespace, pattern: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Images of a folder."""
    paths = [p for p in options.data.glob(pattern) if p.suffix.lower() in IMAGE_SUFFIXES]
    for path in spread(sorted(paths), options):
        yield f"{path.parent.name}/{path.name}", path.read_bytes


def photographs(
    options: argparse.Namespace, pattern: str
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Seeded crops of the photographs that come with scikit-image and scikit-learn."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    whole = [data.astronaut(), data.chelsea(), data.coffee(), *load_sample_images().images]
    rng = np.random.default_rng(0)
    for number in range(options.limit):
        picture = whole[number % len(whole)]
        side = int(rng.integers(SIZE // 2, min(picture.shape[:2])))
        y, x = (int(rng.integers(0, length - side + 1)) for length in picture.shape[:2])
        crop = cv2.resize(picture[y : y + side, x : x + side], (SIZE, SIZE))
        yield f"photographs/{number}", lambda crop=crop: png(crop)


def noise(options: argparse.Namespace, pattern: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Noise of several scales; every second image in the colours of a stained smear."""
    rng = np.random.default_rng(1)
    pale, purple = np.array([225.0, 205, 220]), np.array([95.0, 50, 140])
    for number in range(options.limit):
        scale = NOISE_SCALES[number // 2 % len(NOISE_SCALES)]
        raw = rng.standard_normal((SIZE, SIZE, 3))
        if scale:
            raw = cv2.GaussianBlur(raw, (0, 0), scale)
            raw /= raw.std()
        share = np.clip(0.5 + raw / 4, 0, 1)
        pixels = 255 * share if number % 2 else pale + (purple - pale) * share[..., :1]
        yield f"noise/{number}", lambda pixels=pixels: png(pixels.astype(np.uint8))


def png(pixels: np.ndarray) -> bytes:
    """The pixels as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def spread(items: list[Path], options: argparse.Namespace) -> list[Path]:
    """At most ``--limit`` items, evenly spread."""
    count = min(options.limit, len(items))
    chosen = np.unique(np.linspace(0, len(items) - 1, count).round().astype(int)) if count else []
    return [items[i] for i in chosen]


IMAGES = {"photographs": photographs, "noise": noise}

if __name__ == "__main__":
    main()
