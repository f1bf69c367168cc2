"""Bringing a run to its end and saying what came of it; shared by submit, resume and retry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.output import DONE, SOME_FAILED, FailedError, ProgressDisplay, StoppedError, print_json
from worker.place import Place

if TYPE_CHECKING:
    from pipeline.report import IndexEntry
    from worker.complete import Completed
    from worker.records import Progress, RunRecord
    from worker.settings import Settings
    from worker.store import Store


@dataclass(frozen=True)
class Work:
    """A run to bring to its end, and how."""

    store: Store
    run: RunRecord
    out: Path | Place
    settings: Settings
    reference_images: Path | None
    as_json: bool
    notes: list[str] = field(default_factory=list)


def bring_to_end(work: Work) -> int:
    """Process what has no outcome, write the reports, say what came of it; the exit status."""
    from worker.runs import progress, why_cancelled

    try:
        state, finished_now, reports = _complete(work)
    except KeyboardInterrupt as error:
        state = progress(work.store, work.run)
        raise StoppedError(
            f"stopped after {state.ok + state.failed} of {state.images} images; "
            "the same command continues this run",
            as_json=work.as_json,
        ) from error
    if not state.finished:
        why = why_cancelled(work.store, work.run)
        raise FailedError(
            f"run {work.run.run_id} was {'stopped' if why else 'cancelled'} after "
            f"{state.ok + state.failed} of {state.images} images"
            + (f": {why}" if why else "; `screen resume` lets it go on"),
            kind="stopped" if why else "cancelled",
            as_json=work.as_json,
        )
    answer = _answer(work, state, reports, finished_now)
    if work.as_json:
        print_json(answer)
    else:
        _print_summary(answer)
    return SOME_FAILED if state.failed else DONE


def _complete(work: Work) -> Completed:
    from worker import logs
    from worker.complete import complete
    from worker.observe import observed_feeder

    if work.settings.log_format is not None:
        logs.configure(work.settings.log_format)
    with observed_feeder(work.settings), ProgressDisplay() as display:
        return complete(
            work.store,
            work.run,
            work.out,
            settings=work.settings,
            reference_images=work.reference_images,
            on_progress=display.update,
            on_pause=display.pause,
        )


def _answer(
    work: Work, state: Progress, entries: Sequence[IndexEntry], finished_now: int
) -> dict[str, Any]:
    from worker.failures import failures

    return {
        "run_id": work.run.run_id,
        "out": str(work.out),
        "index": str(work.out / "index.html"),
        "images": state.images,
        "ok": state.ok,
        "failed": state.failed,
        "finished_now": finished_now,
        "ignored": work.run.ignored,
        "patients": len(entries),
        "calls": dict(Counter(entry.call for entry in entries)),
        "low_confidence": sum(entry.flag == "low" for entry in entries),
        "failures": dict(
            Counter(failure.error.reason for failure in failures(work.store, work.run))
        ),
        "notes": work.notes,
    }


def _print_summary(answer: dict[str, Any]) -> None:
    from pipeline.report.words import CALL_NAMES

    if not answer["finished_now"]:
        click.echo("Everything was done before: no image was processed.")
    click.echo(
        f"{_count(answer['patients'], 'patient')}, {_count(answer['images'], 'image')}"
        f" ({answer['ok']} judged, {answer['failed']} failed); "
        f"{_count(answer['ignored'], 'other file')} ignored"
    )
    for call, name in CALL_NAMES.items():
        if answer["calls"].get(call):
            click.echo(f"  {name:<26}{answer['calls'][call]:>6}")
    click.echo(f"  {'low confidence':<26}{answer['low_confidence']:>6}")
    if answer["failures"]:
        reasons = ", ".join(
            f"{reason} {count}" for reason, count in sorted(answer["failures"].items())
        )
        click.echo(f"Failed images: {reasons}; `screen status` names them.")
    click.echo(f"Reports: {answer['index']}")
    click.echo("Research use only; not a diagnosis.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
