"""A small disk that can be filled."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NotPermittedError(Exception):
    """This user cannot have such a disk, and why."""


@contextmanager
def small_file_system(path: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes at the new folder ``path``. Raises NotPermittedError."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotPermittedError("a full disk needs mount(8)") from None
    if made.returncode:
        raise NotPermittedError(f"a full disk needs permission to mount: {made.stderr.strip()}")
    try:
        yield path
    finally:
        # Lazily: a process that is being killed may have a file open for a moment longer.
        subprocess.run(["umount", "-l", str(path)], check=True)
