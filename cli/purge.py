"""``screen purge``."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import json_option, out_option
from cli.output import print_json
from worker.place import Place


@click.command(epilog="Examples: screen purge 3fa9; screen purge 3fa9 --yes")
@click.argument("run_id", metavar="RUN")
@click.option("--yes", is_flag=True, help="Remove it; without this, only say what would be.")
@out_option
@json_option
def purge(run_id: str, yes: bool, out: Path | Place, as_json: bool) -> None:
    """Remove a finished or cancelled run and the results that only it refers to.

    RUN is the beginning of its id. Results that other runs refer to stay, and so do the reports: an
    archive that is submitted again is then computed again.
    """
    from worker.purge import carry_out, plan_purge
    from worker.runs import load_run
    from worker.store import open_store

    store = open_store(str(out))
    run = load_run(store, run_id)
    planned = plan_purge(store, run)
    removed = carry_out(store, run, planned) if yes else None
    if as_json:
        print_json(
            {
                "run_id": run.run_id,
                "results": len(planned.results),
                "records": len(planned.records),
                "shared": planned.shared,
                "removed": removed,
            }
        )
        return
    click.echo(
        f"Run {run.run_id}: {len(planned.results)} results that only it refers to and "
        f"{len(planned.records)} records "
        + (f"were removed ({removed} files)" if yes else "would be removed; do it with --yes")
        + f". {planned.shared} results stay for other runs."
    )
