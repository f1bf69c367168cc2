"""``screen status``: how runs go, from the store, and from the broker where there is one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import broker_option, json_option, out_option, run_argument
from cli.output import duration, print_json, rate_in_words
from worker.place import Place

if TYPE_CHECKING:
    from worker.overview import Follower, Overview, Timing
    from worker.records import RunRecord
    from worker.runs import Submitted
    from worker.settings import Settings
    from worker.store import Store

#: Failed images, and images in flight, that ``status`` names; JSON has them all.
NAMED_FAILURES = 20
NAMED_IN_FLIGHT = 16

#: Slowest images that are named unless ``--slowest`` says how many.
NAMED_SLOWEST = 3

#: Between two looks of ``--watch``, at least, and as a multiple of the time a look takes.
WATCH_SECONDS = 2.0
_WATCH_SHARE = 3


@click.command(
    epilog="Examples: screen status; screen status --watch; "
    "screen status --out /data/reports 3fa9 --json",
)
@run_argument
@out_option
@broker_option
@click.option("--watch", is_flag=True, help="Look again and again until the run is finished.")
@click.option(
    "--slowest",
    type=click.IntRange(min=0),
    metavar="N",
    help="Name the N slowest of all images, which opens the side log of each; default: the slowest "
    f"{NAMED_SLOWEST} of those finished last.",
)
@json_option
def status(
    run_id: str | None,
    out: Path | Place,
    broker: str | None,
    watch: bool,
    slowest: int | None,
    as_json: bool,
) -> None:
    """Show how far runs are, how fast, and what failed.

    RUN is the beginning of a run's id; without it all runs are listed, and details of the one
    submitted last: images in flight, rate, time left, slowest and failed images. With a broker also
    what waits there, and who works. Exits with 0 whatever became of the images.
    """
    from worker.settings import load_settings
    from worker.store import open_store

    settings = load_settings(broker_url=broker)
    view = _View(open_store(str(out)), out, settings, run_id, slowest, whole=as_json)
    if not watch:
        answer = view.look()
        if as_json:
            print_json(answer)
        else:
            click.echo("\n".join(_lines(answer)))
        return
    for answer in _looks(view):
        if as_json:
            click.echo(json.dumps(answer, ensure_ascii=True))
        else:
            # Without a terminal, click leaves the screen alone.
            click.clear()
            click.echo("\n".join(_lines(answer)))


def _looks(view: _View) -> Iterator[dict[str, Any]]:
    """Answers until there is nothing more to watch; a fault that may pass is waited out."""
    from pipeline.errors import RetryableError

    while True:
        started = time.monotonic()
        try:
            answer = view.look()
            over = not view.goes_on(answer)
            if over:
                # What was counted before may have been taken back to be tried again.
                answer = view.look(afresh=True)
                over = not view.goes_on(answer)
            yield answer
            if over:
                return
        except RetryableError as error:
            click.echo(f"Waiting: {error}", err=True)
        time.sleep(max(WATCH_SECONDS, _WATCH_SHARE * (time.monotonic() - started)))


class _View:
    """What is asked for, and what is remembered between two looks."""

    def __init__(
        self,
        store: Store,
        out: Path | Place,
        settings: Settings,
        run_id: str | None,
        slowest: int | None,
        *,
        whole: bool,
    ) -> None:
        self._store = store
        self._out = out
        self._settings = settings
        self._run_id = run_id
        self._slowest = slowest
        self._whole = whole
        self._followers: dict[str, Follower] = {}

    def look(self, *, afresh: bool = False) -> dict[str, Any]:
        """The answer, as ``--json`` gives it (unless ``whole`` was false: failures are cut)."""
        from worker.runs import list_runs, load_run

        runs = list_runs(self._store)
        if self._run_id is not None:
            chosen = load_run(self._store, self._run_id)
            runs = [one for one in runs if one.run.run_id == chosen.run_id]
        answers = []
        for submitted in runs:
            run = submitted.run
            follower = self._follower(run)
            if afresh:
                follower.forget()
            # Of all but the first, numbers are all that is shown.
            overview = follower.look()
            answers.append(_state(self._store, submitted, overview))
            if len(answers) == 1:
                answers[0] |= self._details(run, overview)
        return {"out": str(self._out), "runs": answers, "broker": self._broker()}

    def goes_on(self, answer: dict[str, Any]) -> bool:
        """Whether there is something to watch in the first run."""
        return any(not run["finished"] and not run["cancelled"] for run in answer["runs"][:1])

    def _follower(self, run: RunRecord) -> Follower:
        from worker.overview import Follower

        return self._followers.setdefault(
            run.run_id,
            Follower(self._store, run, hard_limit=self._settings.hard_limit_seconds),
        )

    def _details(self, run: RunRecord, overview: Overview) -> dict[str, Any]:
        from worker.failures import failures
        from worker.overview import slowest, slowest_of, source

        if self._slowest is None:
            slow = slowest_of(overview.recent, NAMED_SLOWEST)
        else:
            slow = slowest(self._store, run, self._slowest)
        # A listing of a large run is spared where it would find nothing.
        found = failures(self._store, run) if overview.progress.failed else iter(())
        return {
            "images_per_second": _rounded(overview.rate),
            "seconds_left": _rounded(overview.seconds_left),
            "seconds_since_last": _rounded(overview.idle),
            "in_flight": [
                {"source": source(self._store, run, one.position), "image": one.position}
                | {"host": one.host, "process": one.process, "seconds": one.seconds}
                for one in overview.in_flight
            ],
            "slowest_of": run.images if self._slowest is not None else len(overview.recent),
            "slowest": [self._slow(run, one) for one in slow],
            "failures": [
                {
                    "patient": failure.row.patient,
                    "source": failure.row.source,
                    "reason": failure.error.reason,
                    "message": failure.error.message,
                }
                for failure in (found if self._whole else islice(found, NAMED_FAILURES))
            ],
        }

    def _slow(self, run: RunRecord, timing: Timing) -> dict[str, Any]:
        from worker.overview import source

        return {
            "source": source(self._store, run, timing.position),
            "image": timing.position,
            "host": timing.host,
            "seconds": timing.seconds,
        }

    def _broker(self) -> dict[str, Any] | None:
        if self._settings.broker_url is None:
            return None
        from worker.broker import shown
        from worker.presence import Presence

        presence = Presence(self._settings)
        queue = presence.queue()
        # Nobody waits twice for a broker that is away.
        beats = presence.heartbeats() if queue is not None else None
        presence.close()
        return {
            "url": shown(self._settings),
            "answers": queue is not None,
            "waiting": queue.waiting if queue else None,
            "taken": queue.taken if queue else None,
            "oldest_seconds": _rounded(queue.age_seconds) if queue else None,
            "workers": [
                {
                    "role": beat.role,
                    "host": beat.host,
                    "process": beat.process,
                    "state": beat.state,
                    "healthy": beat.healthy,
                    "busy": beat.busy,
                    "processes": beat.processes,
                    "idle_seconds": beat.idle_seconds,
                }
                for beat in beats or []
            ],
        }


def _state(store: Store, submitted: Submitted, overview: Overview) -> dict[str, Any]:
    from worker.runs import is_cancelled, priority, why_cancelled

    run, when = submitted
    state = overview.progress
    return {
        "run_id": run.run_id,
        "submitted": when.isoformat() if when else None,
        "root": run.root,
        "model": run.model.name,
        "bundle_digest": run.model.bundle_digest,
        "explain": run.options.explain,
        "patients": run.patients,
        "images": state.images,
        "ok": state.ok,
        "failed": state.failed,
        "remaining": state.remaining,
        "finished": state.finished,
        "cancelled": is_cancelled(store, run),
        "cancelled_because": why_cancelled(store, run),
        "priority": priority(store, run),
        "pseudonymised": run.pseudonymise,
        "ignored": run.ignored,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


# --- for people ---------------------------------------------------------------------------------


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    from pipeline.report.names import visible

    if not answer["runs"]:
        out = answer["out"]
        yield f"Nothing was submitted to {out} yet. Start with: screen submit ./slides/ --out {out}"
    for run in answer["runs"]:
        when = (run["submitted"] or "unknown")[:16].replace("T", " ")
        yield (
            f"{run['run_id']}  submitted {when}  {run['ok'] + run['failed']} of "
            f"{run['images']} images, {run['failed']} failed, {_standing(run)}"
        )
        yield f"  {visible(run['root'])}, {run['patients']} patients"
    for run in answer["runs"][:1]:
        yield from _work_lines(run)
        yield from _failure_lines(run)
    if answer["broker"] is not None:
        yield from _broker_lines(answer["broker"])
    if answer["runs"] and not answer["runs"][0]["finished"] and not answer["runs"][0]["in_flight"]:
        yield "`screen resume` goes on with the run submitted last."


def _standing(run: dict[str, Any]) -> str:
    if run["finished"]:
        return "finished"
    if run["cancelled"]:
        return f"cancelled: {run['cancelled_because']}" if run["cancelled_because"] else "cancelled"
    urgent = "" if run["priority"] == "normal" else f", {run['priority']} priority"
    return f"{run['remaining']} to do{urgent}"


def _work_lines(run: dict[str, Any]) -> Iterator[str]:
    from pipeline.report.names import visible

    if not run["finished"]:
        if run["images_per_second"]:
            left = duration(run["seconds_left"])
            yield f"  {rate_in_words(run['images_per_second'])}, {left} left"
        elif run["seconds_since_last"] is not None:
            yield f"  nothing was finished for {duration(run['seconds_since_last'])}"
    flying = run["in_flight"]
    if flying:
        processes = len({(one["host"], one["process"]) for one in flying})
        hosts = len({one["host"] for one in flying})
        yield f"In flight: {len(flying)} images, {processes} processes on {hosts} hosts"
    for one in flying[:NAMED_IN_FLIGHT]:
        yield (
            f"  {visible(one['source'])}: for {duration(one['seconds'])} on {one['host']} "
            f"({one['process']})"
        )
    if len(flying) > NAMED_IN_FLIGHT:
        yield f"  and {len(flying) - NAMED_IN_FLIGHT} more; --json names them all"
    if run["slowest"]:
        whole = run["slowest_of"] == run["images"]
        yield f"Slowest of {'all' if whole else 'the last'} {run['slowest_of']} images looked at:"
    for one in run["slowest"]:
        yield f"  {visible(one['source'])}: {one['seconds']:.1f} s on {one['host']}"


def _failure_lines(run: dict[str, Any]) -> Iterator[str]:
    from pipeline.report.names import visible

    if run["failures"]:
        yield f"Failed images of run {run['run_id']}:"
    for failure in run["failures"][:NAMED_FAILURES]:
        yield (
            f"  {visible(failure['source'])} (patient {visible(failure['patient'])}): "
            f"{failure['reason']}: {visible(failure['message'])}"
        )
    if run["failed"] > NAMED_FAILURES:
        yield f"  and {run['failed'] - NAMED_FAILURES} more; --json names them all"


def _broker_lines(broker: dict[str, Any]) -> Iterator[str]:
    if not broker["answers"]:
        yield f"Broker {broker['url']}: does not answer"
        return
    oldest = f", the oldest for {duration(broker['oldest_seconds'])}" if broker["waiting"] else ""
    yield (
        f"Broker {broker['url']}: {broker['waiting']} messages wait{oldest}; {broker['taken']} "
        "are being worked at"
    )
    from pipeline.report.names import visible

    for one in broker["workers"]:
        doing = f"{one['state']}, {one['busy']} of {one['processes']} processes busy"
        if one["role"] != "worker":
            doing = one["state"]
        # Whoever reaches the broker may have written it.
        yield f"  {one['role']} {visible(one['host'])} ({one['process']}): {doing}"
    if not any(one["role"] == "worker" for one in broker["workers"]):
        yield "  no worker is there; start one with: screen worker"
