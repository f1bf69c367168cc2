"""How long a process needs until the model is loaded, with and without what Keras could do without.

    python -m benchmarks.process_start

New processes in turns, one as it is, one that lets Keras import all it looks for. Medians of the
pairs' ratios; seconds are of the processor, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from statistics import median

PROGRAM = """
import json, resource, sys
from pipeline import quiet
from pipeline.analyse import open_analyser
from pipeline.bundle import default_bundle
from pipeline.results import AnalysisOptions

if sys.argv[1] == "everything":
    quiet._UNUSED_BY_KERAS = ()
open_analyser(str(default_bundle()), AnalysisOptions())
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": used.ru_utime + used.ru_stime, "megabytes": used.ru_maxrss / 1024}))
"""


def main() -> None:
    """Print medians of both ways and of the ratios, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    options = parser.parse_args()
    pairs = [(start("as it is"), start("everything")) for _ in range(options.pairs)]
    summary = {
        key: {
            "as it is": median(own[key] for own, _ in pairs),
            "everything": median(other[key] for _, other in pairs),
            "ratio": median(own[key] / other[key] for own, other in pairs),
        }
        for key in ("seconds", "megabytes")
    }
    print(json.dumps({"pairs": len(pairs), **summary}, indent=1))


def start(way: str) -> dict[str, float]:
    """Seconds of the processor and peak memory of one process."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, way], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, float] = json.loads(run.stdout)
    return found


if __name__ == "__main__":
    main()
