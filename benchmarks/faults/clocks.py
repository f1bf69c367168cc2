"""Machines that disagree about the time."""

from __future__ import annotations

from pathlib import Path

from benchmarks.faults.trial import Trial
from benchmarks.rig import elsewhere

_HOUR = 3600


def clock_off(trial: Trial) -> None:
    """One worker, on another machine, whose clock is an hour ahead or behind."""
    url = trial.redis().url
    ahead = _HOUR if trial.seed % 2 else -_HOUR
    trial.worker(url)
    trial.worker(
        url,
        PYTHONPATH=str(Path(elsewhere.__file__).parent),
        RIG_CLOCK_SECONDS=str(ahead),
        RIG_NODE="elsewhere",
    )
    trial.strike()
    trial.finish(trial.feeder(url))
    workers = {call.process for call in trial.laboratory.calls()}
    trial.claim("processes that took no part", 4 - len(workers), 2)
