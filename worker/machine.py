"""Telling whether a process that left its mark in the store is still there."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Self

from pipeline.results import Record


class ProcessMark(Record):
    """A process as it writes itself down, for processes of any machine to read."""

    machine: str
    process: int
    started: str

    @classmethod
    def mine(cls) -> Self:
        """This process."""
        return cls(
            machine=this_machine(),
            process=os.getpid(),
            started=process_start(os.getpid()) or "",
        )

    @property
    def is_here(self) -> bool:
        """Whether it ran on this machine, where its number means something."""
        return self.machine == this_machine()

    @property
    def is_gone(self) -> bool:
        """Whether it ran here and has ended; False where that cannot be known."""
        return self.is_here and process_start(self.process) != self.started


@cache
def this_machine() -> str:
    """This machine since it was started, and the namespace in which process numbers mean anything.

    Two containers on one machine do not see each other's processes.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"


def process_start(process: int) -> str | None:
    """When the process started, in clock ticks since boot; None if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text("ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name of the program, in parentheses, may contain anything.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
