"""What a laboratory gains from references of its own.

    python -m benchmarks.own_references [--bundle B] [--data ../shared/data] [--limit 400]

Half of ``all_idb2`` (by image) and half of ``cnmc`` (by subject) are added to the bundle as
``screen references add`` would; the other half is judged before and after. Prints, and writes as
JSON, the coverage of ``high`` and the benign and malignant images taken for each other among them.
The calibration images of such halves are too few for the errors of the default.
The bundle needs its calibration images, see ``screen references calibrate``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from pipeline.analyse import Analyser
from pipeline.bundle import Bundle, default_bundle, load_bundle
from pipeline.classify import Network
from pipeline.errors import ConfigurationError
from pipeline.references import OwnImage, add_references, divide, read_own_images
from pipeline.results import AnalysisOptions, ImageAnalysis
from pipeline.statistics import wilson_interval

OUT = Path(__file__).parent / "results" / "own_references.json"

#: How images of one patient are recognised; images of all_idb2 name none.
SETS = {"all_idb2": None, "cnmc": r".*/(?P<patient>UID_H?\d+)_.*"}


def main() -> None:
    """Add one half, judge the other, for both sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--limit", type=int, default=400, help="images per set")
    parser.add_argument("--seed", type=int, default=2025)
    parser.add_argument("--error", type=float, default=0.05)
    parser.add_argument("--missed", type=float, default=0.025)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    bundle = load_bundle(options.bundle)
    network = bundle.load_network()
    found: dict[str, Any] = {
        "bundle": bundle.digest,
        "error": options.error,
        "missed": options.missed,
    }
    print("| set | references | calibrated on | judged | high before | high after | wrong among |")
    print("|---|---|---|---|---|---|---|")
    for name in options.sets:
        try:
            row = found[name] = measure(name, bundle, network, options)
        except ConfigurationError as refusal:
            found[name] = {"refused": str(refusal)}
            options.out.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
            print(f"| {name} | refused: {refusal} | | | | | |", flush=True)
            continue
        before, after = row["before"], row["after"]
        wrong = f"{before['wrong']} of {before['high']}, {after['wrong']} of {after['high']}"
        print(
            f"| {name} | {row['references']} | {row['calibration']} | {row['judged']} | "
            f"{before['coverage']:.1%} | {after['coverage']:.1%} | {wrong} |",
            flush=True,
        )
        options.out.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")


def measure(
    name: str, bundle: Bundle, network: Network, options: argparse.Namespace
) -> dict[str, Any]:
    """Figures of the half that was not added."""
    root = options.data / name
    images = read_own_images(root, SETS[name])
    step = max(1, round(len(images) / options.limit))
    ours, other = divide(images[::step], 0.5, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        new = add_references(
            bundle,
            ours,
            Path(folder) / "new",
            root=root,
            name=name,
            target_error=options.error,
            target_missed=options.missed,
        )
    addition = new.record.training["references_added"][-1]
    return {
        "references": sum(addition["references"].values()),
        "calibration": sum(addition["calibration"].values()),
        "judged": len(other),
        "before": figures(bundle, network, other),
        "after": figures(new, network, other),
    }


def figures(bundle: Bundle, network: Network, images: list[OwnImage]) -> dict[str, Any]:
    """What the flag keeps, and how much of it is wrong."""
    analyser = Analyser(bundle, network, AnalysisOptions(explain="none"))
    judged = [(image, analyser(image.path.read_bytes()).result) for image in images]
    high = [pair for pair in judged if _flag(pair[1]) == "high"]
    wrong = sum((image.label == "benign") != (result.label == "benign") for image, result in high)
    right = sum((image.label == "benign") == (result.label == "benign") for image, result in judged)
    return {
        "high": len(high),
        "coverage": len(high) / len(judged),
        "wrong": wrong,
        "interval_of_error": wilson_interval(wrong, len(high)),
        "accuracy_of_all": right / len(judged),
    }


def _flag(result: ImageAnalysis) -> str | None:
    return result.confidence.flag if result.confidence else None


if __name__ == "__main__":
    main()
