"""Disturb runs of 2,000 images of 60 patients in every way, and write down what came of it.

    python -m benchmarks.faults --rows 1,2,3 --seeds 20 [--out benchmarks/results/faults.jsonl]

Each trial is a line of JSON; one that is there is not repeated, so that the same command goes on
after an interruption. Prints a table in Markdown. The exit status is 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.faults import SCENARIOS, Scenario
from benchmarks.faults.trial import NotPossibleError

OUT = Path(__file__).parents[1] / "results" / "faults.jsonl"

#: What a trial tries.
_PROGRAM = ("cli", "pipeline", "worker")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not in the results yet; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="", help="numbers from docs/faults.md; default: all")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--images", type=int, help="instead of the number of the fault")
    parser.add_argument("--strikes", type=int, help="instead of the number of the fault")
    parser.add_argument("--work", type=Path, help="folder for archives and stores")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    done = {(line["row"], line["seed"]) for line in read_lines(options.out)}
    for seed in range(options.seeds):
        for scenario in _chosen(options.rows):
            if (scenario.row, seed) in done:
                continue
            line = _try(scenario, seed, options)
            print(json.dumps(line), file=sys.stderr)
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
    lines = read_lines(options.out)
    print(table(lines))
    return int(any(line.get("broken") for line in lines))


def _chosen(rows: str) -> list[Scenario]:
    names = set(filter(None, rows.split(",")))
    return [
        scenario
        for scenario in SCENARIOS.values()
        if not names or names & {scenario.row, scenario.row.split()[0]}
    ]


def _try(scenario: Scenario, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One trial, as a line of results."""
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=options.work))
    size = {
        "images": options.images or scenario.images,
        "patients": scenario.patients,
        "strikes": options.strikes or scenario.strikes,
        "delay": scenario.delay,
    }
    line = {"row": scenario.row, "seed": seed, "code": _code(), **size}
    try:
        with scenario.open(folder, seed=seed, **size) as trial:
            scenario.fault(trial)
            return {**line, **trial.findings().as_json()}
    except NotPossibleError as error:
        return {**line, "not_run": str(error)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _code() -> str | None:
    """The commit that changed the program last, and whether it was changed since."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*question: str) -> str:
        command = [git, "-C", str(OUT.parents[2]), *question, "--", *_PROGRAM]
        answer = subprocess.run(command, check=False, capture_output=True, text=True)
        return answer.stdout.strip()

    commit = ask("log", "-1", "--format=%h")
    if not commit:
        return None
    return f"{commit}, changed" if ask("status", "--porcelain") else commit


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The trials so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(lines: Iterable[dict[str, Any]]) -> str:
    """One row for each fault: how many trials held, and the worst of each figure."""
    rows = [
        "| row | fault | trials held | images | strikes | lost | twice | executions | seconds "
        "| worst figures (limit) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    order = list(SCENARIOS)
    lines = sorted(lines, key=lambda line: (order.index(line["row"]), line["seed"]))
    for row, group in groupby(lines, key=lambda line: line["row"]):
        trials = list(group)
        what = f"| {row} | {SCENARIOS[row].what} "
        run = [trial for trial in trials if "not_run" not in trial]
        if not run:
            rows.append(f"{what}| not run: {trials[0]['not_run']} |" + " |" * 7)
            continue
        held = sum(not trial["broken"] for trial in run)
        cells = [
            f"{held} of {len(run)}",
            *(_range(run, name) for name in ("images", "strikes", "lost", "twice")),
            *(_range(run, name) for name in ("executions", "seconds")),
            _worst(run),
        ]
        rows.append(what + "".join(f"| {cell} " for cell in cells) + "|")
    return "\n".join(rows)


def _range(trials: list[dict[str, Any]], name: str) -> str:
    values = [trial[name] for trial in trials if trial[name] is not None]
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _worst(trials: list[dict[str, Any]]) -> str:
    """Every claimed figure but plain zeros."""
    worst: dict[str, tuple[float, float | None]] = {}
    for trial in trials:
        for claim in trial["claims"]:
            value = max(claim["value"], worst.get(claim["what"], (claim["value"], 0))[0])
            worst[claim["what"]] = value, claim["limit"]
    return "; ".join(
        f"{what} {value:,g} ({limit:,g})" if limit is not None else f"{what} {value:,g}"
        for what, (value, limit) in worst.items()
        if value or limit
    )


if __name__ == "__main__":
    raise SystemExit(main())
