"""Options and arguments that several commands share; each reads the same everywhere."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Any

import click

from pipeline.errors import ConfigurationError
from worker.place import Place, parse_place

#: Where ``--json`` is remembered for whoever reports an error of the command.
JSON_META = "cli.json"

DEFAULT_OUT = "./reports"


class PlaceType(click.ParamType):  # type: ignore[type-arg]  # generic in stubs only
    """A path, or ``s3://bucket/prefix``; ``file_okay``: whether it may be a single file."""

    name = "place"

    def __init__(self, *, file_okay: bool = True) -> None:
        self._path = click.Path(file_okay=file_okay)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | Place:
        """A ``Path``, checked as ``click.Path`` does, or a ``Place``."""
        if isinstance(value, Place):
            return value
        try:
            place = parse_place(str(value))
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)
        if isinstance(place, Path):
            self._path.convert(place, param, ctx)
        return place


def _remember_json(context: click.Context, _: click.Parameter, value: bool) -> bool:
    context.meta[JSON_META] = value
    return value


def wants_json(context: click.Context) -> bool:
    """Whether the command was called with ``--json``."""
    return bool(context.meta.get(JSON_META))


def json_option(function: Any) -> Any:
    """``--json``."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        callback=_remember_json,
        help="Print the answer, or the error, as JSON.",
    )(function)


def out_option(function: Any) -> Any:
    """``--out``: the folder of the reports and the store."""
    return click.option(
        "--out",
        default=DEFAULT_OUT,
        show_default=True,
        envvar="SCREEN_OUT",
        show_envvar=True,
        type=PlaceType(file_okay=False),
        metavar="DIRECTORY",
        help="Folder of the reports and of everything needed to continue, or s3://bucket/prefix.",
    )(function)


def run_argument(function: Any) -> Any:
    """``[RUN]``: the first characters of a run's id."""
    return click.argument("run_id", metavar="[RUN]", required=False)(function)


def bundle_option(function: Any) -> Any:
    """``--bundle``."""
    return click.option(
        "--bundle",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of the model bundle, or name of a shipped one; default: SCREEN_BUNDLE, else "
        "`white-cells`.",
    )(function)


def broker_option(function: Any) -> Any:
    """``--broker``."""
    return click.option(
        "--broker",
        metavar="URL",
        help="Redis that distributes the work to workers, redis://host:6379/0; default: "
        "SCREEN_BROKER_URL, else local processes do the work.",
    )(function)


def processes_option(function: Any) -> Any:
    """``--processes``."""
    return click.option(
        "--processes",
        type=click.IntRange(min=1),
        metavar="N",
        help="Images processed at once on this machine; default: SCREEN_PROCESSES, else its "
        "processors.",
    )(function)


def reference_images_option(function: Any) -> Any:
    """``--reference-images``."""
    return click.option(
        "--reference-images",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="Folder of the images the model was trained on: the pages then show the most similar "
        "ones.",
    )(function)


def explain_option(function: Any) -> Any:
    """``--explain``."""
    return click.option(
        "--explain",
        type=click.Choice(["all", "flagged", "none"]),
        default="all",
        show_default=True,
        help="Which images to explain (LIME, Grad-CAM): all, those with a low confidence flag, "
        "none.",
    )(function)


def lime_options(function: Any) -> Any:
    """``--lime-samples`` and what else LIME depends on.

    The command gets them as ``lime``, by the names they have among the options of an analysis.
    """

    @wraps(function)
    def gathered(*arguments: Any, **options: Any) -> Any:
        lime = {name: options.pop(name) for name in list(options) if name.startswith("lime_")}
        return function(*arguments, lime=lime, **options)

    for option in (
        click.option(
            "--lime-hidden",
            type=click.Choice(["mean", "black", "grey", "white"]),
            default="mean",
            show_default=True,
            help="What a region shows that is switched off: its mean colour, or one for all.",
        ),
        click.option(
            "--lime-superpixels",
            type=click.Choice(["quickshift", "slic"]),
            default="quickshift",
            show_default=True,
            help="How LIME cuts an image into regions.",
        ),
        click.option(
            "--lime-samples",
            default=4000,
            show_default=True,
            type=click.IntRange(min=1),
            help="Perturbed images LIME is fitted to.",
        ),
    ):
        gathered = option(gathered)
    return gathered


def pseudonymise_option(function: Any) -> Any:
    """``--pseudonymise``."""
    return click.option(
        "--pseudonymise",
        is_flag=True,
        help="Reports carry pseudonyms of patients, files and archive; `screen identify` tells "
        "who has the store whose they are. For all runs of a folder of reports, or none.",
    )(function)


def log_level_option(function: Any) -> Any:
    """``--log-level``."""
    return click.option(
        "--log-level",
        type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
        default="INFO",
        show_default=True,
        help="How much to say. Names of patients and files are never logged.",
    )(function)


def log_format_option(function: Any) -> Any:
    """``--log-format``."""
    return click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        help="Lines for people, or a JSON object per line; default: SCREEN_LOG_FORMAT, else text.",
    )(function)


def work_options(function: Any) -> Any:
    """What every command takes that brings a run to its end."""
    for option in (
        json_option,
        reference_images_option,
        processes_option,
        broker_option,
        bundle_option,
        out_option,
    ):
        function = option(function)
    return function
