"""``screen references``: a laboratory's own images in a new version of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import json_option

if TYPE_CHECKING:
    from pipeline.bundle import Bundle


@click.group(
    epilog="Example: screen references add --bundle ./my-bundle --data ./our-images --out ./ours",
)
def references() -> None:
    """Make the confidence flag useful on a laboratory's own images.

    The flag knows the images a model was trained and calibrated on; on others it is low, as it
    should be. Given labelled images of one's own, a new version of the bundle knows them too.
    """


def _bundle_option(function: Any) -> Any:
    return click.option(
        "--bundle",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of the model bundle, or name of a shipped one; default: `white-cells`. It is "
        "not changed.",
    )(function)


def _out_option(function: Any) -> Any:
    return click.option(
        "--out",
        required=True,
        type=click.Path(file_okay=False, path_type=Path),
        help="New folder for the new version of the bundle.",
    )(function)


def _error_options(function: Any) -> Any:
    for name, default, what in (
        ("--missed", 0.005, "high and a missed malignant image"),
        ("--error", 0.01, "high and wrong"),
    ):
        function = click.option(
            name,
            f"target_{name[2:]}",
            type=click.FloatRange(0.0, 0.5, min_open=True),
            default=default,
            show_default=True,
            help=f"Share of images like the calibration images that may be {what}.",
        )(function)
    return function


@references.command(
    epilog="Example: screen references add --data ./our-images --name our-lab --out ./our-bundle",
)
@_bundle_option
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with one folder of images per label: benign, early, pre, pro; or malignant where "
    "the subtype is unknown.",
)
@_out_option
@click.option("--name", help="Name of the set; default: the name of the folder.")
@click.option(
    "--calibration-share",
    type=click.FloatRange(0.1, 0.9),
    default=0.5,
    show_default=True,
    help="Share of the images that thresholds are found on; the others become references.",
)
@click.option(
    "--patient-pattern",
    metavar="RE",
    help="Regular expression with a group (?P<patient>...) matched against each path below DATA; "
    "images of a patient then stay together, and errors are counted by patient.",
)
@click.option("--seed", default=2025, show_default=True, help="Of the division of the images.")
@_error_options
@json_option
def add(
    bundle: Path | None,
    data: Path,
    out: Path,
    name: str | None,
    patient_pattern: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Add labelled images to a new version of a bundle and recalibrate it.

    The network stays the same, and so does every label; what changes is which images are flagged
    high.
    """
    from pipeline.references import add_references, read_own_images

    images = read_own_images(data, patient_pattern)
    made = add_references(
        _load(bundle),
        images,
        out,
        root=data,
        name=name or data.resolve().name,
        say=_say,
        **options,
    )
    _report(made, as_json)


@references.command(name="list", epilog="Example: screen references list --bundle ./our-bundle")
@_bundle_option
@json_option
def list_(bundle: Path | None, as_json: bool) -> None:
    """List the sets of references in a bundle, and what the flag keeps of each.

    Coverage and error are those of the calibration images.
    """
    _report(_load(bundle), as_json)


@references.command(
    epilog="Example: screen references calibrate --bundle ./our-bundle --error 0.05 --missed 0.02 "
    "--out ./our-bundle-2",
)
@_bundle_option
@_out_option
@_error_options
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The images the bundle was trained with: measures its calibration part and tests it anew; "
    "needed for bundles of older versions.",
)
@click.option(
    "--splits",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="As given to screen train; only with --data.",
)
@click.option(
    "--fold-column",
    default="block_fold",
    show_default=True,
    help="As given to screen train; only with --data.",
)
@click.option(
    "--test-fold",
    default=0,
    show_default=True,
    help="As given to screen train; only with --data.",
)
@click.option(
    "--calibration-groups",
    default=2,
    show_default=True,
    help="As given to screen train; only with --data.",
)
@json_option
def calibrate(
    bundle: Path | None,
    out: Path,
    target_error: float,
    target_missed: float,
    data: Path | None,
    as_json: bool,
    **parts: Any,
) -> None:
    """Find the thresholds of a bundle anew, for other errors or from its images.

    Without --data the calibration images stored in the bundle are used.
    """
    errors = {"target_error": target_error, "target_missed": target_missed}
    if data is None:
        from pipeline.references import recalibrate

        made = recalibrate(_load(bundle), out, **errors)
    else:
        from pipeline.training.recalibrate import Parts, recalibrate_with_images

        chosen = Parts(data=data, **parts)
        made = recalibrate_with_images(_load(bundle), out, chosen, say=_say, **errors)
    _report(made, as_json)


@references.command(
    name="map", epilog="Example: screen references map --bundle ./our-bundle --out ./our-bundle-2"
)
@_bundle_option
@_out_option
@json_option
def map_(bundle: Path | None, out: Path, as_json: bool) -> None:
    """Map the references of a bundle, for the pictures of reports.

    For bundles made before there was a map; training and adding references make one. No label and
    no flag changes, but the bundle's digest does, so that its images are judged anew.
    """
    from pipeline.references import with_map

    _report(with_map(_load(bundle), out), as_json)


def _say(message: str) -> None:
    click.echo(message, err=True)


def _load(bundle: Path | None) -> Bundle:
    from pipeline.bundle import find_bundle, load_bundle

    return load_bundle(find_bundle(bundle))


def _report(bundle: Bundle, as_json: bool) -> None:
    from cli.output import print_json
    from pipeline.references import sets_of

    found = bundle.record.thresholds
    calibrated = {name: figures.model_dump() for name, figures in sorted(found.sets.items())}
    sets = [{**one, "calibration": calibrated.get(one["name"])} for one in sets_of(bundle)]
    if as_json:
        print_json(
            {
                "bundle": str(bundle.directory),
                "digest": bundle.digest,
                "target_error": found.target_error,
                "target_missed": found.target_missed,
                "coverage": found.calibration_coverage,
                "error": found.calibration_error,
                "sets": sets,
            }
        )
        return
    click.echo(f"{bundle.directory}: {bundle.record.name} {bundle.digest[:12]}")
    for one in sets:
        labels = ", ".join(f"{count} {label}" for label, count in one["references"].items())
        click.echo(f"  {one['name']}: {labels}")
        if figures := one["calibration"]:
            wrong = "" if figures["error"] is None else f", {figures['error']:.1%} of them wrong"
            click.echo(
                f"    {figures['images']} calibration images, {figures['coverage']:.1%} high{wrong}"
            )
