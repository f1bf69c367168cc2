"""Processes as the kernel sees them, and groups of them that are killed together."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path


class Group:
    """A process that leads a group of its own, with its children."""

    def __init__(self, leader: subprocess.Popen[bytes]) -> None:
        self.leader = leader

    def children(self) -> list[int]:
        """Process numbers of the leader's children."""
        return children_of(self.leader.pid)

    def kill(self) -> None:
        """kill -9 of the leader and of everything below it, at once."""
        below = _descendants(self.leader.pid)
        with suppress(ProcessLookupError):
            os.killpg(self.leader.pid, signal.SIGKILL)
        for process in below:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.leader.wait()


def children_of(process: int) -> list[int]:
    """Living children of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = _status(int(path.parent.name))
        if fields and fields[0] != "Z" and int(fields[1]) == process:
            found.append(int(path.parent.name))
    return found


def alive(process: int) -> bool:
    """Whether there is such a process; one that nobody has waited for is none."""
    fields = _status(process)
    return bool(fields) and fields[0] != "Z"


def _descendants(process: int) -> list[int]:
    found = children_of(process)
    for child in list(found):
        found += _descendants(child)
    return found


def _status(process: int) -> list[str]:
    """State, parent and so on, as in proc(5) after the name; empty if there is no such process."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
