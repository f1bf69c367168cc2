"""``screen resume``, ``retry`` and ``cancel``: runs, as the store knows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.options import json_option, out_option, run_argument, work_options
from cli.output import DONE, print_json
from worker.place import Place


@click.command(epilog="Example: screen runs --out /data/reports")
@out_option
@json_option
def runs(out: Path | Place, as_json: bool) -> None:
    """List all runs, the one submitted last first.

    `screen status` says more of each.
    """
    from worker.runs import is_cancelled, list_runs, progress
    from worker.store import open_store

    store = open_store(str(out))
    answers: list[dict[str, Any]] = []
    for run, time in list_runs(store):
        state = progress(store, run)
        answers.append(
            {
                "run_id": run.run_id,
                "submitted": time.isoformat() if time else None,
                "images": state.images,
                "ok": state.ok,
                "failed": state.failed,
                "remaining": state.remaining,
                "cancelled": is_cancelled(store, run),
            }
        )
    if as_json:
        print_json({"out": str(out), "runs": answers})
        return
    for answer in answers:
        standing = "cancelled" if answer["cancelled"] else f"{answer['remaining']} to do"
        when = (answer["submitted"] or "unknown")[:16].replace("T", " ")
        click.echo(
            f"{answer['run_id']}  {when}  {answer['images']} images, {answer['failed']} failed, "
            + (standing if answer["remaining"] else "finished")
        )


@click.command(epilog="Examples: screen resume; screen resume 3fa9 --processes 4")
@run_argument
@work_options
@click.pass_context
def resume(context: click.Context, /, run_id: str | None, **options: Any) -> None:
    """Go on with an interrupted run.

    Or with a cancelled one. RUN is the beginning of its id; without it, the run submitted last. The
    archive is not listed again: to take in new images, give the same `screen submit` again.
    """
    from cli.work import bring_to_end
    from worker.runs import uncancel

    work = _work(run_id, **options)
    uncancel(work.store, work.run)
    context.exit(bring_to_end(work))


@click.command(epilog="Example: screen retry --failed")
@run_argument
@click.option("--failed", is_flag=True, help="Try the images again that failed; must be given.")
@work_options
@click.pass_context
def retry(context: click.Context, /, run_id: str | None, failed: bool, **options: Any) -> None:
    """Try failed images again.

    Worthwhile after their cause was mended. RUN is the beginning of the run's id; without it, the
    run submitted last. Files that were replaced or added since need a new `screen submit`, which
    lists the archive again.
    """
    from cli.work import bring_to_end
    from worker.failures import NEEDS_NEW_LISTING, failures
    from worker.runs import retry_failed, uncancel

    if not failed:
        raise click.UsageError("say what to try again: --failed")
    work = _work(run_id, **options)
    hopeless = sum(
        failure.error.reason in NEEDS_NEW_LISTING for failure in failures(work.store, work.run)
    )
    retried = retry_failed(work.store, work.run)
    work.notes.append(f"{retried} failed images are tried again")
    if hopeless:
        work.notes.append(
            f"{hopeless} of them failed for what the listing said of them (a link, a kind of file, "
            "a file that changed): they need a new `screen submit`"
        )
    for note in work.notes:
        click.echo(f"Note: {note}", err=True)
    uncancel(work.store, work.run)
    context.exit(bring_to_end(work))


@click.command(epilog="Example: screen cancel 3fa9")
@run_argument
@out_option
@json_option
@click.pass_context
def cancel(context: click.Context, run_id: str | None, out: Path | Place, as_json: bool) -> None:
    """Stop a run, whoever works at it.

    Nothing more of it is started, by any worker. RUN is the beginning of its id; without it, the
    run submitted last. `screen resume`, or the same `screen submit`, lets it go on.
    """
    from worker.runs import cancel as cancel_run
    from worker.runs import load_run
    from worker.store import open_store

    store = open_store(str(out))
    run = load_run(store, run_id)
    cancel_run(store, run)
    if as_json:
        print_json({"run_id": run.run_id, "cancelled": True})
    else:
        click.echo(f"Run {run.run_id} is cancelled; `screen resume {run.run_id}` lets it go on.")
    context.exit(DONE)


def _work(
    run_id: str | None,
    *,
    out: Path | Place,
    bundle: Path | None,
    broker: str | None,
    processes: int | None,
    reference_images: Path | None,
    as_json: bool,
) -> Any:
    from cli.work import Work
    from worker.runs import load_run
    from worker.settings import load_settings
    from worker.store import open_store

    settings = load_settings(broker_url=broker, bundle=bundle, processes=processes)
    store = open_store(str(out))
    return Work(store, load_run(store, run_id), out, settings, reference_images, as_json)
