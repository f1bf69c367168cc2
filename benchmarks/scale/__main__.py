"""Measure what distributing work costs, and what a run of a million images needs.

    python -m benchmarks.scale --work DIR [--data DATA] [--parts feeding,million] [--out FILE]

``feeding``   planning and handing out, with workers that take no time;
``million``   memory of feeder and Redis, and the scan of a resumed run, with a million rows;
``workers``   two hundred workers whose images take 0.4 s;
``slots``     real images (``DATA``): a plain loop, one process, two, Celery with two;
``explained`` the same with every explanation.

Prints a table and writes JSON. A part that is measured anew replaces its entry in ``--out``.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.scale.feeding import measure_feeding
from benchmarks.scale.million import measure_million
from benchmarks.scale.slots import measure_slots
from benchmarks.scale.workers import measure_workers

Part = Callable[[Path, argparse.Namespace], dict[str, Any]]

PARTS: dict[str, Part] = {
    "feeding": measure_feeding,
    "million": measure_million,
    "workers": measure_workers,
    "slots": partial(measure_slots, explain="none"),
    "explained": partial(measure_slots, explain="all"),
}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for archives and stores")
    parser.add_argument("--data", type=Path, help="real images, for `slots` and `explained`")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--images", type=int, help="images of a part, instead of its own number")
    parser.add_argument("--rounds", type=int, default=5, help="of `slots` and `explained`")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scale.json"))
    arguments = parser.parse_args()
    found = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for name in arguments.parts.split(","):
        folder = arguments.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        found[name] = PARTS[name](folder, arguments)
        for figure, value in found[name].items():
            print(f"{name:<10}{figure:<36}{value}", flush=True)
        arguments.out.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
