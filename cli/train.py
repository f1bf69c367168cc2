"""``screen train``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    epilog="Example: screen train --data ./labelled --out ./my-bundle --epochs 30",
)
@click.option("--recipe", default="all-net", show_default=True, help="Network and how to train it.")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with one folder of images per class: benign, early, pre, pro; or two: benign "
    "(healthy, hem, normal) and malignant (all, blast); for pretraining, one per kind of cell.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write the model bundle.",
)
@click.option(
    "--splits",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with path, block and a fold column; without it contiguous blocks are inferred.",
)
@click.option(
    "--fold-column", default="block_fold", show_default=True, help="Column of --splits to use."
)
@click.option("--test-fold", default=0, show_default=True, help="Fold kept for the final test.")
@click.option(
    "--calibration-groups",
    default=2,
    show_default=True,
    help="Blocks of each class kept out of training to choose thresholds.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Default: what the recipe says.")
@click.option("--seed", default=2025, show_default=True, help="Of split, weights and batches.")
@click.option(
    "--mixed-bfloat16",
    "precision",
    flag_value="mixed_bfloat16",
    help="Train with bfloat16 arithmetic (half the time on processors that have it); the bundle "
    "always computes in float32.",
)
@click.option(
    "--mixed-float16",
    "precision",
    flag_value="mixed_float16",
    help="Train with float16 arithmetic and a scaled loss, for graphics processors.",
)
@click.option(
    "--loaders",
    default=2,
    show_default=True,
    type=click.IntRange(min=2),
    help="Threads that read and augment images; the batches are the same however many.",
)
@click.option(
    "--images-per-class",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show so many images of each class per epoch, instead of what the recipe says.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=8),
    metavar="N",
    help="Use only about N images, evenly over the classes, to try a recipe out.",
)
@click.option(
    "--weights",
    metavar="PATH_OR_URL",
    help="Pretrained weights for recipes that take them (see `screen recipes`): a file, or an "
    "https address it is downloaded from.",
)
@click.option(
    "--weights-sha256",
    metavar="HEX",
    help="What the file of --weights must hash to; anything else is refused.",
)
@click.option(
    "--dataset",
    default="the user's own images",
    show_default=True,
    help="Name of the image set, for reports and the model card.",
)
@click.option(
    "--citation",
    default="no source given",
    help="Where the images come from and on what terms, for the model card.",
)
@click.option(
    "--work-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Checkpoints; the same command goes on from there. Default: OUT with .training added.",
)
def train(
    out: Path,
    work_dir: Path | None,
    precision: str | None,
    weights: str | None,
    weights_sha256: str | None,
    **options: object,
) -> None:
    """Train a network on labelled images and write a model bundle.

    The bundle holds the network, reference embeddings, thresholds from images kept out of
    training, and a model card with the figures of the test fold. From two classes (benign and
    malignant) there is no bundle, but the network with its figures; from kinds of cells, weights
    for --weights.
    """
    from cli.download import fetch_weights
    from pipeline.quiet import load_keras

    load_keras()
    from pipeline.training.run import TrainingOptions
    from pipeline.training.run import train as run_training

    work_dir = work_dir or out.with_name(out.name + ".training")
    chosen = TrainingOptions(
        out=out,
        work_dir=work_dir,
        precision=precision or "float32",  # type: ignore[arg-type]
        weights=fetch_weights(weights, work_dir, sha256=weights_sha256) if weights else None,
        **options,  # type: ignore[arg-type]
    )
    trained = run_training(chosen, say=lambda message: click.echo(message, err=True))
    click.echo(f"{trained.directory}: {trained.tested}")
