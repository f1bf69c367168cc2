"""Trying an image in a process of its own, after workers died at it.

The process has bounded memory, one image, and a watcher that sees how it ends, so that the verdict
rests on what the image does and not on who was killed while it was processed. One such process
runs on a machine at a time: images that exhaust a machine must not do so together.
"""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import ConfigurationError, RetryableError
from worker import attempts
from worker.engines.child_process import start_child
from worker.records import RunRecord
from worker.settings import Settings
from worker.store import Store

#: Share of the time limit that the process may take, start included: the rest is for its watcher,
#: who must not be past the limit itself.
_SHARE_OF_LIMIT = 0.9


def process_alone(store: Store, run: RunRecord, position: int, *, settings: Settings) -> bool:
    """Bring one row to its outcome, or nearer to being given up; False if the lane is taken.

    Raises RetryableError where the process could not get as far as the image, ConfigurationError
    where it says that a person has to change something.
    """
    with _only_one_on_this_machine() as only:
        return only and _watch(store, run, position, settings)


def bound_memory(size: int) -> None:
    """From now on this process can allocate no more than ``size`` bytes: then MemoryError."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    most = size if most == resource.RLIM_INFINITY else min(size, most)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _watch(store: Store, run: RunRecord, position: int, settings: Settings) -> bool:
    until = time.monotonic() + _SHARE_OF_LIMIT * settings.soft_limit_seconds
    child = start_child(settings, subprocess.DEVNULL)
    try:
        child.give(store, run, position, alone=True)
        started = False
        while answer := child.answer(until):
            if answer.state == "retry":
                raise RetryableError(answer.message)
            if answer.state == "configuration":
                raise ConfigurationError(answer.message)
            if answer.state != "ready":
                return answer.state == "done"
            started = True
        if not started:
            raise RetryableError("a process for one image alone did not get as far as the image")
        timed_out = time.monotonic() >= until
    finally:
        # In this order: a process whose connection closes would take its marker with it.
        child.kill()
        child.connection.close()
    attempts.close_process(
        store,
        run,
        position,
        process=child.number,
        ending="timed_out" if timed_out else "crashed_worker",
    )
    return False


@contextmanager
def _only_one_on_this_machine() -> Iterator[bool]:
    """Whether this is the one; a name in the abstract namespace goes with its process."""
    with socket.socket(socket.AF_UNIX) as lane:
        try:
            lane.bind(f"\0screen-alone-{os.getuid()}")
        except OSError:
            yield False
        else:
            yield True
