"""The recipe of Genovese et al. 2024 on two classes of cells, over all folds.

    python -m benchmarks.dss --data ../shared/data/all_idb2 --out ./dss-all-idb2
    python -m benchmarks.dss --data ../shared/data/cnmc --out ./dss-cnmc --epochs 20

Every fold is trained and tested as ``screen train --test-fold`` does and stays in OUT; the same
command goes on where it was interrupted. There are five folds, or as many as a class has subjects.
``summary.json`` and the table printed at the end have, for the softmax and each vote, the accuracy
of every fold and their mean, and the figures of all test images together: Wilson's interval, which
takes images for independent, and one of resampled groups (subjects, or runs of consecutive files),
which does not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, get_args

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.evaluation.bootstrap import RESAMPLES, figure, resample_counts, share_measure
from pipeline.training.batches import FEWEST_LOADERS
from pipeline.training.dss_recipes import DSS
from pipeline.training.fit import Precision
from pipeline.training.run import TrainingOptions, train
from pipeline.training.two_classes import RECORD_FILE, read_two_classes, two_class_figures

BACKBONES = tuple(recipe.name.removeprefix("dss-") for recipe in DSS)


def main() -> None:
    """Train what is not there yet, and summarise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", choices=BACKBONES, default="resnet18")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--limit", type=int, help="about so many images, to try it out")
    parser.add_argument("--seed", type=int, default=2025)
    parser.add_argument("--loaders", type=int, default=FEWEST_LOADERS)
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    options = parser.parse_args()
    folds = sorted({image.fold for image in read_two_classes(options.data)})
    records = [fold(options, number) for number in folds]
    summary = {
        "recipe": records[0]["recipe"],
        "data": options.data.name,
        "epochs": [record["epochs"] for record in records],
        "best_epoch": [record["best_epoch"] for record in records],
        "weights": records[0]["weights"],
        "seed": options.seed,
        "precision": options.precision,
        "limited_to": options.limit,
        **summarise([record["judged"] for record in records], options.seed),
    }
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(table(summary))


def fold(options: argparse.Namespace, number: int) -> dict[str, Any]:
    """The record of a fold, trained now or before.

    Raises ConfigurationError if OUT has it from a training with other options.
    """
    out = options.out / f"fold{number}"
    chosen = TrainingOptions(
        recipe=f"dss-{options.backbone}",
        data=options.data,
        out=out,
        work_dir=options.out / f"fold{number}.training",
        test_fold=number,
        epochs=options.epochs,
        seed=options.seed,
        loaders=options.loaders,
        precision=options.precision,
        weights=options.weights,
        limit=options.limit,
        dataset=options.data.name,
    )
    path = out / RECORD_FILE
    if not path.is_file():
        train(chosen, lambda line: print(f"fold {number}: {line}", flush=True))
    record: dict[str, Any] = json.loads(path.read_text())
    wanted = {
        "recipe": chosen.recipe,
        "epochs": options.epochs or record["epochs"],
        "seed": options.seed,
        "precision": options.precision,
        "limited_to": options.limit,
        "dataset": chosen.dataset,
        "weights": options.weights.name if options.weights else "random",
    }
    if other := {key: record[key] for key, value in wanted.items() if record[key] != value}:
        raise ConfigurationError(
            f"{path} is of a training with {other}; name another --out, or delete this one"
        )
    return record


def summarise(judged: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Figures of all folds from what was said of every test image (``judged`` of a record)."""
    ways = [name for name in judged[0] if name not in ("image", "group", "truth")]
    truth = [number for one in judged for number in one["truth"]]
    groups = [group for one in judged for group in one["group"]]
    counts = resample_counts(len(truth), resamples=RESAMPLES, seed=seed, groups=groups)
    found: dict[str, Any] = {"images": len(truth), "groups": len(set(groups)), "decisions": {}}
    for way in ways:
        called = [number for one in judged for number in one[way]]
        of_folds = [float(np.mean(np.equal(one["truth"], one[way]))) for one in judged]
        found["decisions"][way] = {
            "folds": of_folds,
            "mean": fmean(of_folds),
            "deviation": stdev(of_folds) if len(of_folds) > 1 else None,
            "pooled": two_class_figures(truth, called),
            "accuracy_of_resampled_groups": figure(share_measure(np.equal(truth, called)), counts),
        }
    return found


def table(summary: dict[str, Any]) -> str:
    """The summary for people, as Markdown."""
    lines = [
        "| decision | mean of folds | all images | Wilson | groups | recall | specificity |",
        "|---|---|---|---|---|---|---|",
    ]
    for way, own in summary["decisions"].items():
        pooled = own["pooled"]
        accuracy = pooled["accuracy"]
        lines.append(
            f"| {way} | {own['mean']:.1%} ± {own['deviation'] or 0:.1%} "
            f"| {accuracy['hits']} of {accuracy['of']} ({accuracy['share']:.1%}) "
            f"| {_interval(accuracy['interval'])} "
            f"| {_interval(own['accuracy_of_resampled_groups']['interval'])} "
            f"| {pooled['recall']['share']:.1%} | {pooled['specificity']['share']:.1%} |"
        )
    return "\n".join(lines)


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.1%} to {ends[1]:.1%}"


if __name__ == "__main__":
    main()
