"""``screen evaluate``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from cli.options import bundle_option, json_option
from cli.output import LineProgress, print_json

PROTOCOLS = ("random", "holdout", "blocks", "stain", "subjects", "elsewhere")
TRUTHS = ("benign", "early_b", "pre_b", "pro_b", "malignant", "outside")


def _numbers(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """``0,1,2`` as numbers."""
    try:
        return tuple(int(part) for part in value.split(",")) if value else ()
    except ValueError:
        raise click.BadParameter("write numbers with commas: 0,1,2", param=parameter) from None


@click.command(
    epilog="Example: screen evaluate --bundle ./my-bundle --data ./labelled --protocol blocks "
    "--out ./evaluation",
)
@bundle_option
@click.option(
    "--recipe",
    metavar="NAME",
    help="Train this recipe anew for every fold instead of testing a bundle; or a baseline: "
    "majority, nearest-colour, colour-forest.",
)
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with one folder of images per class: benign, early, pre, pro; for elsewhere also "
    "healthy, hem, normal, all, blast, malignant.",
)
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    default="blocks",
    show_default=True,
    help="How the images are divided into those to learn from and those to test on.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of figures, pictures and judgements; the same command goes on from there.",
)
@click.option(
    "--splits",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with path and a column of folds; without it groups and folds are inferred.",
)
@click.option(
    "--folds",
    callback=_numbers,
    metavar="N,N,...",
    help="Folds to test; default: all of the protocol, with a bundle those it was trained without.",
)
@click.option(
    "--truth",
    type=click.Choice(TRUTHS),
    help="What every image of --data is, where folders do not say it; outside: nothing the model "
    "knows.",
)
@click.option(
    "--patient-pattern",
    metavar="RE",
    help="Regular expression with a group (?P<patient>...) matched against the whole path; "
    "default: names as in C-NMC, UID_<subject>_...",
)
@click.option("--epochs", type=click.IntRange(min=1), help="With --recipe; default: what it says.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_bfloat16", "mixed_float16"]),
    default="float32",
    show_default=True,
    help="With --recipe: arithmetic of the training; judging is always float32.",
)
@click.option(
    "--loaders",
    default=2,
    show_default=True,
    type=click.IntRange(min=2),
    help="With --recipe: threads that read and augment images.",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --recipe: pretrained weights, for recipes that take them.",
)
@click.option(
    "--seed", default=2025, show_default=True, help="Of folds, training, baselines and bootstrap."
)
@click.option(
    "--resamples",
    type=click.IntRange(min=100),
    default=1000,
    show_default=True,
    help="Bootstrap resamples behind every interval.",
)
@json_option
def evaluate(as_json: bool, folds: tuple[int, ...], **options: Any) -> None:
    """Say how good a model is on labelled images it was not trained on.

    Every image goes through the whole pipeline, as in a run. OUT then holds evaluation.json,
    EVALUATION.md for people, pictures, and every judgement in judgements.csv.
    """
    from pipeline.bundle import find_bundle
    from pipeline.evaluation.evaluate import evaluate as run
    from pipeline.evaluation.examples import CNMC_SUBJECT
    from pipeline.evaluation.options import EvaluationOptions
    from worker.settings import load_settings

    bundle, recipe = options.pop("bundle"), options["recipe"]
    if recipe is None:
        bundle = find_bundle(bundle or load_settings().bundle)
    elif bundle is not None:
        raise click.UsageError("give --bundle to test a bundle or --recipe to train one, not both")
    pattern = options.pop("patient_pattern") or CNMC_SUBJECT
    training = tuple((name, options.pop(name)) for name in ("precision", "loaders", "weights"))
    progress = LineProgress()
    evaluation = run(
        EvaluationOptions(
            bundle=bundle,
            folds=folds,
            patient_pattern=pattern,
            training=training,
            command=shlex.join(["screen", *sys.argv[1:]]),
            **options,
        ),
        say=lambda message: click.echo(message, err=True),
        show=progress.update,
    )
    if as_json:
        print_json(evaluation)
    else:
        _say(evaluation, options["out"])


def _say(evaluation: dict[str, Any], out: Path) -> None:
    """The figures that matter most, in four lines."""
    from pipeline.evaluation.page import percent

    for name, words in (("four_classes", "four classes"), ("benign_or_malignant", "benign or not")):
        found = evaluation[name]
        if found:
            click.echo(f"accuracy, {words}: {percent(found['accuracy'])}")
    if evaluation["benign_or_malignant"]:
        missed = evaluation["benign_or_malignant"]["missed_malignant"]
        click.echo(f"malignant called benign: {missed['hits']} of {missed['n']}")
    flag = evaluation["confidence"]
    if flag:
        click.echo(
            f"high: {percent(flag['coverage'])}, of these wrong: {flag['error']['hits']} of "
            f"{flag['error']['n']}"
        )
    click.echo(f"Evaluation: {out / 'EVALUATION.md'}")
