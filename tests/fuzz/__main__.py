"""Fuzz for a bounded time: with atheris where it is installed, else with random changes.

::

    python -m tests.fuzz [SECONDS for each target] [TARGET...]

An input that shows a fault is written to ``crash-*`` and named; exit status 1, or atheris's own.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from tests.fuzz.inputs import altered

_SECONDS = 60
_MOST_MEMORY_MB = 2048

#: What atheris follows: instrumenting every library would take minutes.
_FOLLOWED = ["pipeline.decode", "pipeline.report", "worker", "PIL", "csv"]


def main(arguments: list[str]) -> int:
    """Each target in a process of its own, as a fault may be the end of it."""
    from tests.fuzz.targets import TARGETS

    seconds = int(arguments[0]) if arguments else _SECONDS
    failed = 0
    with TemporaryDirectory() as folder:
        allowed = {"SCREEN_ALLOWED_ROOTS": str(Path(folder, "nothing"))}
        for name in arguments[1:] or TARGETS:
            print(f"{name}: {seconds} s", flush=True)  # noqa: T201
            command = [sys.executable, "-m", "tests.fuzz", "--one", name, str(seconds), folder]
            failed |= subprocess.run(command, env={**os.environ, **allowed}, check=False).returncode
    return 1 if failed else 0


def _one(name: str, seconds: int, folder: str) -> int:
    if find_spec("atheris") is not None:
        _with_atheris(name, seconds, Path(folder, name))
    return _at_random(*_target(name), seconds)


def _target(name: str) -> tuple[Callable[[bytes], None], list[bytes]]:
    """A target and inputs to start from; it rests for no time."""
    from tests.fuzz.targets import SEEDS, TARGETS
    from worker import tasks

    # Every message that is dropped is a line.
    logging.disable()
    tasks.RETURN_SECONDS = 0.0
    return TARGETS[name], SEEDS[name]


def _with_atheris(name: str, seconds: int, corpus: Path) -> NoReturn:
    import atheris

    with atheris.instrument_imports(include=_FOLLOWED):
        target, seeds = _target(name)
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", f"-rss_limit_mb={_MOST_MEMORY_MB}", "-timeout=30"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], target)
    atheris.Fuzz()
    raise AssertionError("atheris ends the process")


def _at_random(target: Callable[[bytes], None], seeds: list[bytes], seconds: int) -> int:
    number = random.SystemRandom().getrandbits(64)
    chance, until, tried = random.Random(number), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        data = altered(chance.choice([b"", *seeds]), chance)
        try:
            target(data)
        except Exception:
            crash = Path(f"crash-{hashlib.sha256(data).hexdigest()[:16]}")
            crash.write_bytes(data)
            print(f"{crash}: an input that shows a fault")  # noqa: T201
            raise
        tried += 1
    print(f"{tried} inputs, no fault (atheris is not installed: it would look deeper)")  # noqa: T201
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        sys.exit(_one(sys.argv[2], int(sys.argv[3]), sys.argv[4]))
    sys.exit(main(sys.argv[1:]))
