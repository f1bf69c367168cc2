"""An object store that answers badly, late, half or not at all."""

from __future__ import annotations

import time

from benchmarks.faults.trial import BucketTrial

#: How long the store is away altogether, in the benchmark; a test has less time.
AWAY_SECONDS = 20.0


def unreliable_objects(trial: BucketTrial, seconds: float = AWAY_SECONDS) -> None:
    """An object store of whose calls one in ten fails, and which is away for a while.

    Even seeds: local processes, odd ones: Celery. It is away by refusing every call, and by
    answering none, in turn; once more while reports are written.
    """
    url = trial.redis().url if trial.seed % 2 else None
    if url is not None:
        trial.worker(url)
    feeder = trial.feeder(url)
    waits = []
    for number, moment in enumerate([*trial.moments(), trial.images]):
        # The last time the reports are being written.
        trial.reach(moment)
        with trial.front.away("silent" if (trial.seed // 2 + number) % 2 else "busy"):
            trial.strike()
            time.sleep(seconds)
        waits.append(trial.wait_for_calls(time.monotonic()))
    trial.finish(feeder)
    trial.claim("seconds from its return until images were begun", max(waits), 60)
    for fault, times in trial.faults.struck.items():
        trial.claim(f"calls: {fault}", times, None)
    never = sum(times == 0 for times in trial.faults.struck.values())
    trial.claim("kinds of fault that befell no call", never, 0)
