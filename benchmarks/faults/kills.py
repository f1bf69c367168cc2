"""Workers and feeders that are killed or told to stop."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import redis

from benchmarks.faults.trial import SLOTS, Trial
from benchmarks.rig.processes import Group, alive
from benchmarks.rig.watch import Watch
from worker.celery_app import UNACKED_KEY, queue_keys

#: Within this an image is running again whose process was killed.
AGAIN_SECONDS = 5.0

#: An image whose processes were killed so often is spared: workers that die at an image five times
#: are its fault, and a short archive offers few to choose from.
_SPARED_AFTER = 2


def processes_killed(trial: Trial) -> None:
    """kill -9 of whichever process of a Celery worker began the latest image."""
    url = trial.redis().url
    trial.worker(url)
    # Small enough for messages of several images while many are left.
    feeder = trial.feeder(url, window=min(256, trial.images // 4))
    _kill_processes(trial, lambda: feeder.poll() is not None)
    trial.finish(feeder)


def local_processes_killed(trial: Trial) -> None:
    """kill -9 of whichever local process began the latest image."""
    feeder = trial.feeder(None)
    _kill_processes(trial, lambda: feeder.poll() is not None)
    trial.finish(feeder)


def _kill_processes(trial: Trial, over: Callable[[], bool]) -> None:
    deaths: Counter[str] = Counter()
    kills: list[tuple[str, float]] = []
    for moment in trial.moments():
        trial.reach(moment)
        killed = None
        while killed is None and not over():
            killed = _kill_latest(trial, deaths)
        if killed is not None:
            deaths[killed] += 1
            kills.append((killed, trial.strike()))
    # The last is running again as well before the figures are final.
    trial.wait_until(lambda: over() or trial.finished() == trial.images, "the end")
    trial.claim("seconds until the image ran again", _slowest_return(trial, kills), AGAIN_SECONDS)


def _kill_latest(trial: Trial, deaths: Counter[str]) -> str | None:
    """Kill the process of the image begun last, at any moment of it; the image."""
    before = len(trial.laboratory.calls())
    trial.wait_until(
        lambda: len(trial.laboratory.calls()) > before or trial.finished() == trial.images,
        "another image",
    )
    call = trial.laboratory.calls()[-1]
    if deaths[call.digest] >= _SPARED_AFTER or trial.finished() == trial.images:
        return None
    # Any moment will do, and none is preferred.
    time.sleep(trial.random.uniform(0, trial.delay))
    with suppress(ProcessLookupError):
        os.kill(call.process, signal.SIGKILL)
        return call.digest
    return None


def _slowest_return(trial: Trial, kills: list[tuple[str, float]]) -> float:
    """The longest time to the next call for a killed image; one that was finished has none."""
    calls = trial.laboratory.calls()
    waits = []
    for digest, killed in kills:
        again = (call.started - killed for call in calls if call.digest == digest)
        waits += [wait for wait in again if wait > 0][:1]
    return max([0.0, *waits])


def groups_killed(trial: Trial) -> None:
    """kill -9 of a worker with all its processes; another is started."""
    url = trial.redis().url
    feeder = trial.feeder(url)
    group = trial.worker(url)
    last = time.monotonic()
    for moment in trial.moments():
        trial.reach(moment)
        time.sleep(trial.random.uniform(0, trial.delay))
        group.kill()
        last = trial.strike()
        group = trial.worker(url)
    trial.finish(feeder)
    limit = trial.limits["visibility_timeout_seconds"] + 60
    trial.claim("seconds from the last kill to the end", time.monotonic() - last, limit)
    wasted = len(trial.laboratory.calls()) - trial.images
    trial.claim("wasted executions", wasted, SLOTS * trial.struck)


def feeders_killed(trial: Trial) -> None:
    """Three feeders at once, each killed at random moments and started again."""
    window = 32
    server = trial.redis()
    trial.worker(server.url)

    feeders = [trial.feeder(server.url, window=window) for _ in range(3)]
    with Watch(lambda: _rows_in(server.client)) as watched:
        for number in range(trial.strikes):
            # From its first import to its last report.
            time.sleep(trial.random.uniform(0, 3))
            victim = number % len(feeders)
            Group(feeders[victim]).kill()
            trial.strike()
            feeders[victim] = trial.feeder(server.url, window=window)
        for feeder in feeders:
            trial.finish(feeder)
    trial.claim("images outstanding, at most", watched.most, 3 * window)


def _rows_in(client: redis.Redis) -> int:
    """Images in messages that wait or were taken."""
    waiting = [json.loads(raw) for key in queue_keys() for raw in client.lrange(key, 0, -1)]
    taken = [json.loads(raw)[0] for raw in client.hvals(UNACKED_KEY)]
    contents = (json.loads(base64.b64decode(one["body"]))[1] for one in waiting + taken)
    return sum(len(content["rows"]) for content in contents)


def rolling_restart(trial: Trial) -> None:
    """From one worker to many, each told to stop and replaced, then down to two."""
    url = trial.redis().url
    feeder = trial.feeder(url)
    most = trial.strikes
    limit = trial.limits["soft_limit_seconds"] + 5
    waits = []

    def stop(group: Group) -> None:
        told = trial.strike()
        children = group.children()

        def stopped() -> bool:
            return group.leader.poll() is not None and not any(map(alive, children))

        group.leader.send_signal(signal.SIGTERM)
        trial.wait_until(lambda: stopped() or time.monotonic() - told > limit, "a while")
        if not stopped():
            trial.ask_what_it_does(group)
        trial.wait_until(stopped, "the worker stops and its processes end")
        waits.append(time.monotonic() - told)
        trial.claim("exit status of a worker that was told to stop", group.leader.poll(), 0)

    workers = [trial.worker(url, processes=1)]
    trial.reach(1)
    workers += [trial.worker(url, processes=1) for _ in range(most - 1)]
    trial.reach(trial.images // 4)
    for _ in range(most):
        stop(workers.pop(0))
        workers.append(trial.worker(url, processes=1))
    while len(workers) > 2:
        stop(workers.pop(0))
    trial.finish(feeder)
    trial.claim("seconds a worker took to stop", max(waits), limit)
