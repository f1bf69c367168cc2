"""``screen audit``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from cli.options import bundle_option, json_option
from cli.output import SOME_FAILED, LineProgress, print_json


@click.command(
    epilog="Example: screen audit --data ./labelled --out ./audit --limit 40",
)
@bundle_option
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with one folder of images per class: benign, early, pre, pro.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to write audit.json, AUDIT.md and examples.png; the same command goes on there.",
)
@click.option(
    "--splits",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with path, block and a fold column; without it all images count that the model was "
    "not trained on.",
)
@click.option(
    "--fold-column", help="Column of --splits to use; default: the one the model was tested by."
)
@click.option(
    "--test-fold",
    type=click.IntRange(min=0),
    help="Fold of --splits to audit on; default: the one the model was tested on.",
)
@click.option(
    "--twins",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with the columns full and small: full-resolution originals and their small twins.",
)
@click.option(
    "--changes",
    metavar="NAMES",
    help="Changes to try, separated by commas; default: all. A wrong name lists them.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Take so many images, spread evenly over the classes.",
)
@click.option(
    "--explained",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    help="Explain so many images, spread evenly over the classes, and say what that is worth.",
)
@click.option("--seed", default=2025, show_default=True, help="Of pairings, grain and intervals.")
@click.option("--strict", is_flag=True, help="Exit with 3 if a verdict is FAIL.")
@json_option
def audit(
    bundle: Path | None,
    data: Path,
    out: Path,
    changes: str | None,
    explained: int,
    strict: bool,
    as_json: bool,
    **options: object,
) -> None:
    """Ask whether a model looks at white cells, or at stain, background and scale bars.

    Every image that the model was not trained on is judged as it is and after changes that must,
    or must not, matter: white cells erased, background exchanged, scale bar moved, colours shifted
    and so on. One line of verdict per shortcut: PASS, FAIL or UNKNOWN, with figure and limit. Some
    images are explained besides, which says how far the explanations of reports can be trusted.
    """
    from pipeline.analyse import open_analyser
    from pipeline.bundle import find_bundle, load_bundle
    from pipeline.evaluation.audit import audit as run_audit
    from pipeline.evaluation.audit import chosen_changes
    from pipeline.evaluation.audit_images import AuditOptions
    from pipeline.results import AnalysisOptions
    from worker.settings import load_settings

    names = tuple(name.strip() for name in changes.split(",")) if changes else ()
    chosen_changes(names)
    directory = find_bundle(bundle or load_settings().bundle)
    report = run_audit(
        load_bundle(directory),
        open_analyser(str(directory), AnalysisOptions(explain="none")),
        AuditOptions(data=data, out=out, changes=names, explained=explained, **options),  # type: ignore[arg-type]
        command=_command(),
        on_judgement=LineProgress("judgement").update,
        explain=open_analyser(str(directory), AnalysisOptions()) if explained else None,
    )
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        for verdict in report.verdicts:
            click.echo(verdict.sentence)
        click.echo(f"All figures: {out / 'AUDIT.md'}")
    if strict and any(verdict.verdict == "FAIL" for verdict in report.verdicts):
        click.get_current_context().exit(SOME_FAILED)


def _command() -> list[str]:
    """What was typed, for whoever repeats it; the program without its folder."""
    return ["screen", *(shlex.quote(word) for word in sys.argv[1:])]
