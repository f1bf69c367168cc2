"""Reports whose writer is killed, and a disk that is full."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults.trial import NotPossibleError, Trial
from benchmarks.rig.disk import NotPermittedError, small_file_system
from benchmarks.rig.laboratory import Laboratory
from worker.finalise import write_reports
from worker.records import RunRecord

#: What of a disk an image of the stub takes, files of one block counted as such, and what the
#: run takes besides.
_IMAGE_BYTES = 40 * 1024
_REST_BYTES = 2 * 1024 * 1024


def finaliser_killed(trial: Trial) -> None:
    """The writer of the reports is killed before some of its changes of files, each in turn.

    ``strikes`` 0: before every one.
    """
    laboratory, run = trial.laboratory, trial.run
    laboratory.screen(run, **trial.limits)
    whole = laboratory.reports()
    changes = _changes(laboratory, run)
    chosen = range(changes)
    if trial.strikes:
        chosen = sorted(trial.random.sample(chosen, min(trial.strikes, changes)))
    partial = unrepaired = 0
    for operation in chosen:
        other = _beside(laboratory, f"killed-{operation}")
        if _write_and_die(other, run, operation) != -signal.SIGKILL:
            raise AssertionError("the writer was not killed")
        trial.strike()
        partial += sum(
            not name.startswith(".parts/") and data != whole[name]
            for name, data in other.reports().items()
        )
        write_reports(laboratory.store, run, other.out)
        unrepaired += not other.reports().items() >= whole.items()
    trial.claim("partial files seen", partial, 0)
    trial.claim("reports that writing again did not complete", unrepaired, 0)


def _changes(laboratory: Laboratory, run: RunRecord) -> int:
    """How many changes of files writing the reports takes."""
    counted = _beside(laboratory, "counted")
    read, write = os.pipe()

    def count() -> None:
        changes = _count_changes(None)
        write_reports(laboratory.store, run, counted.out)
        os.write(write, str(changes[0]).encode())

    status = _in_child(count)
    os.close(write)
    with os.fdopen(read) as pipe:
        found = pipe.read()
    if status or not found:
        raise AssertionError("the reports could not be written")
    return int(found)


def _write_and_die(laboratory: Laboratory, run: RunRecord, operation: int) -> int:
    """Write reports in a child that is killed before its n-th change of a file; how it ended."""

    def write() -> None:
        _count_changes(operation)
        write_reports(laboratory.store, run, laboratory.out)

    return _in_child(write)


def _in_child(action: Callable[[], None]) -> int:
    """Do something in a process of its own; how that ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _count_changes(last: int | None) -> list[int]:
    """Count this process's changes of files from now on; kill it before the one numbered last."""
    counted = [0]
    changes = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event in changes or (event == "open" and str(arguments[1]) in {"xb", "wb", "w", "x"}):
            if counted[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)
            counted[0] += 1

    sys.addaudithook(count)
    return counted


def _beside(source: Laboratory, name: str) -> Laboratory:
    """Reports in another folder, from the same store."""
    target = Laboratory(source.folder, name)
    target.out.mkdir()
    (target.out / "store").symlink_to(source.out / "store")
    return target


def disk_full(trial: Trial) -> None:
    """The disk of the store is full for a while."""
    disk = trial.laboratory.folder / "disk"
    size = _REST_BYTES + _IMAGE_BYTES * trial.images
    try:
        trial.stack.enter_context(small_file_system(disk, size))
    except NotPermittedError as error:
        raise NotPossibleError(str(error)) from error
    trial.laboratory = Laboratory(trial.laboratory.folder, "disk/out")
    feeder = trial.feeder(None)
    waits = []
    for moment in trial.moments():
        trial.reach(moment)
        ballast = disk / "ballast"
        _fill(ballast)
        trial.strike()
        _wait_for_standstill(trial)
        ballast.unlink()
        waits.append(trial.wait_for_calls(time.monotonic()))
    trial.finish(feeder)
    trial.claim("seconds from room until images were begun", max(waits), 60)


def _fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file:
        block = b"x" * 65536
        while block:
            try:
                file.write(block)
            except OSError:
                block = block[: len(block) // 2]


def _wait_for_standstill(trial: Trial) -> None:
    """Until nothing has been finished for two seconds, longer than the first pauses."""
    while True:
        before = trial.finished()
        time.sleep(2)
        if trial.finished() == before:
            return
