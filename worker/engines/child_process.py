"""A process that works at one row at a time, seen from its parent (``child.py`` is its inside).

Parent and child speak lines of JSON over one socket. The parent's end closes when the parent ends,
however it ends, and the child with it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

from pipeline.results import Record
from worker.compute import COMPUTE_ENVIRONMENT
from worker.records import RunRecord
from worker.settings import Settings
from worker.store import Store

State = Literal["ready", "done", "busy", "retry", "configuration"]


class Task(Record):
    """Parent to child: work at this row. ``alone``: as its last, with bounded memory."""

    store: str
    run_id: str
    position: int
    alone: bool = False


class Answer(Record):
    """Child to parent.

    ``ready``: the model is loaded. ``done``: the row has an outcome. ``busy``: others are at it.
    ``retry``: store or archive cannot be used. ``configuration``: a person has to change something.
    """

    state: State
    message: str = ""


class ChildProcess:
    """A started child and the socket to it."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self._process = process
        self.connection = connection
        self._received = bytearray()

    @property
    def number(self) -> int:
        """The system's number of the process."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """How it ended, negative for a signal; None while it runs."""
        return self._process.poll()

    def give(self, store: Store, run: RunRecord, position: int, *, alone: bool = False) -> None:
        """Have it work at a row."""
        task = Task(store=store.uri, run_id=run.run_id, position=position, alone=alone)
        self._send(task.model_dump_json())

    def receive(self) -> list[Answer] | None:
        """What it has said since; waits until it says something. None: it is gone."""
        return list(self._whole_lines()) if self._read() else None

    def answer(self, until: float) -> Answer | None:
        """The next thing it says; None if it is gone, or silent until that ``time.monotonic()``."""
        while True:
            for answer in self._whole_lines():
                return answer
            self.connection.settimeout(max(0.001, until - time.monotonic()))
            try:
                if not self._read():
                    return None
            except TimeoutError:
                return None

    def has_ended(self, until: float) -> bool:
        """Wait for its end, at most until that ``time.monotonic()``."""
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Make sure that it is gone."""
        self._process.kill()
        self._process.wait()

    def _send(self, line: str) -> None:
        # One that has just died is noticed where its end of the socket is read.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.sendall(line.encode() + b"\n")

    def _read(self) -> bool:
        """Wait for a piece of what it says; False if it is gone."""
        try:
            data = self.connection.recv(65536)
        except ConnectionResetError:
            return False
        self._received += data
        return bool(data)

    def _whole_lines(self) -> Iterator[Answer]:
        while b"\n" in self._received:
            line, _, self._received = self._received.partition(b"\n")
            yield Answer.model_validate_json(bytes(line))


def start_child(settings: Settings, output: IO[bytes] | int) -> ChildProcess:
    """Start one; what it prints goes to ``output`` (as for ``subprocess``)."""
    ours, theirs = socket.socketpair()
    paths = [str(Path(path or ".").absolute()) for path in sys.path]
    environment = {**os.environ, **COMPUTE_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths)}
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "worker.engines.child", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=[theirs.fileno()],
            # Ctrl-C is for the parent, which then tells the children.
            process_group=0,
        )
    child = ChildProcess(process, ours)
    child._send(json.dumps(settings.model_dump(mode="json")))
    return child
