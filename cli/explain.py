"""``screen explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import bundle_option, json_option, lime_options, reference_images_option
from cli.output import print_json

if TYPE_CHECKING:
    from pipeline.analyse import Analyser, Analysis
    from pipeline.results import Box, Explanations, ImageAnalysis
    from pipeline.types import Rectangle

#: Longest side of a picture.
PICTURE_SIDE = 900

#: Layers and what they show.
LAYERS = {
    "top_regions": "LIME: the regions that speak most for the label",
    "weights": "LIME: all regions, red for the label, blue against it",
    "grad_cam": "Grad-CAM: dark blue none, yellow strong",
    "score_cam": "Score-CAM: dark blue none, yellow strong",
    "similarity": "Metric-Grad-CAM: what makes it similar to its nearest references",
}
#: A picture of its own, of bundles that have a map.
MAP = {"latent_map": "the image among all references, joined to the most similar ones"}


@click.command(epilog="Examples: screen explain smear.jpg; screen explain smear.jpg --show")
@click.argument(
    "image", metavar="IMAGE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@bundle_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the pictures; default: ./explanations/ and the name of the image.",
)
@lime_options
@reference_images_option
@click.option("--show", is_flag=True, help="Open the pictures.")
@json_option
def explain(
    image: Path,
    bundle: Path | None,
    out: Path | None,
    lime: dict[str, Any],
    reference_images: Path | None,
    show: bool,
    as_json: bool,
) -> None:
    """Explain what the model says of one image.

    Judges IMAGE as a run would and writes a picture per explanation: LIME, Grad-CAM and Score-CAM.
    """
    from pipeline.analyse import open_analyser
    from pipeline.bundle import find_bundle
    from pipeline.errors import ConfigurationError
    from pipeline.explain.pictures import laid_over
    from pipeline.results import DISCLAIMER, AnalysisOptions
    from pipeline.threads import one_thread
    from worker.settings import load_settings

    chosen = find_bundle(bundle or load_settings().bundle)
    analyser = open_analyser(str(chosen), AnalysisOptions(explain="all", **lime))
    with one_thread():
        analysis = _analysed(analyser, image)
    result, explanations = analysis.result, analysis.result.explanations
    if explanations is None or result.geometry is None:
        raise ConfigurationError(f"{chosen} explains nothing; name another --bundle")
    # Not beside the image: in an archive the pictures would be screened with the next run.
    out = out or Path("explanations") / image.stem
    out.mkdir(parents=True, exist_ok=True)
    size = _picture_size(result.geometry.tiles[explanations.tile].box)
    drawn = {
        name: laid_over(analysis.pictures["tile"], analysis.pictures[name], size) for name in LAYERS
    }
    drawn |= {name: analysis.pictures[name] for name in MAP if name in analysis.pictures}
    likenesses = {}
    if reference_images is not None:
        likenesses = _likenesses(analyser, analysis, explanations, reference_images, size)
        drawn |= {name: picture for name, (_, picture) in likenesses.items()}
    written = []
    for name, picture in drawn.items():
        path = out / f"{name}.png"
        path.write_bytes(picture)
        written.append(path)
    if as_json:
        answer = result.model_dump(mode="json")
        print_json({**answer, "pictures": [str(path) for path in written]})
    else:
        meanings = LAYERS | MAP
        meanings |= {
            name: f"Metric-Grad-CAM: the image, and the reference {identity}"
            for name, (identity, _) in likenesses.items()
        }
        _say(result, explanations)
        for path in written:
            click.echo(f"{path}  {meanings[path.stem]}")
        click.echo(DISCLAIMER)
    if show:
        for path in written:
            click.launch(str(path))


def _analysed(analyser: Analyser, image: Path) -> Analysis:
    from pipeline.errors import BadInputError

    try:
        return analyser(image.read_bytes())
    except OSError as error:
        raise BadInputError("unreadable", f"{image} cannot be read: {error.strerror}") from error
    except BadInputError as error:
        raise BadInputError(error.reason, f"{image}: {error}") from error


def _picture_size(box: Box | Rectangle) -> tuple[int, int]:
    scale = PICTURE_SIDE / max(box.width, box.height)
    return max(1, round(box.width * scale)), max(1, round(box.height * scale))


def _likenesses(
    analyser: Analyser,
    analysis: Analysis,
    explanations: Explanations,
    folder: Path,
    size: tuple[int, int],
) -> dict[str, tuple[str, bytes]]:
    """For each of the nearest references that is at hand its id, and a picture of both sides.

    Those that are missing or cannot be read are said, and left out.
    """
    from pipeline.errors import BadInputError
    from pipeline.explain.maps import of_grey_png
    from pipeline.explain.pictures import LAYER_SCALE, beside, draw_cam, laid_over
    from pipeline.reference_images import reference_images_in
    from pipeline.threads import one_thread

    image_of = reference_images_in(folder)
    found = {}
    for number, side in enumerate(explanations.similarity, start=1):
        reference = image_of(side.id)
        if reference is None:
            click.echo(f"Note: the reference {side.id} is not in {folder}", err=True)
            continue
        try:
            with one_thread():
                other = analyser.likeness(analysis.embedding, reference)
        except BadInputError as error:
            click.echo(f"Note: the reference {side.id} in {folder}: {error}", err=True)
            continue
        ours = draw_cam(of_grey_png(side.map) / 255, max(size) // LAYER_SCALE)
        found[f"similarity_{number}"] = (
            side.id,
            beside(
                laid_over(analysis.pictures["tile"], ours, size),
                laid_over(other.tile, other.layer, _picture_size(other.box)),
            ),
        )
    return found


def _say(result: ImageAnalysis, explanations: Explanations) -> None:
    from pipeline.labels import DISPLAY_NAMES
    from pipeline.report.words import reason_in_words

    lime, confidence = explanations.lime, result.confidence
    if result.label and result.probabilities and confidence:
        share = result.probabilities[result.label]
        click.echo(f"{DISPLAY_NAMES[result.label]}, {share:.1%}, {confidence.flag} confidence")
        for reason in confidence.reasons:
            click.echo(f"  {reason_in_words(reason)}")
    rows = {"LIME": lime, "Grad-CAM": explanations.grad_cam, "Score-CAM": explanations.score_cam}
    click.echo("\n            white cells  nuclei  deletion  insertion")
    for name, found in rows.items():
        if found is not None:
            shares = f"{_share(found.inside_white_cells):>11}{_share(found.inside_nuclei):>8}"
            click.echo(
                f"{name:12}{shares}{_share(found.deletion):>10}{_share(found.insertion):>11}"
            )
    click.echo(
        f"\nLIME: {lime.samples} samples, fit R² {lime.fit:.3f}, stability {_share(lime.stability)}"
    )
    if lime.malignancy and not lime.malignancy.top_regions:
        click.echo("No region argues for malignancy.")
    click.echo(f"Grad-CAM and Score-CAM: structural similarity {explanations.mr_ssim:.3f}\n")


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
