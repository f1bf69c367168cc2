"""A process that takes one row at a time from its parent, until that is gone.

Parent and child speak over one socket (``child_process.py``). When its other end closes the child
stops at once, in the middle of an image if need be, so that nothing computes for nobody.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import resource
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from pipeline.errors import ConfigurationError, RetryableError
from worker import attempts, telemetry
from worker.engines.child_process import Answer, State, Task
from worker.isolation import bound_memory
from worker.manifest import read_run
from worker.process import Analyser, open_analyser, process_row
from worker.records import RunRecord
from worker.settings import Settings
from worker.store import Store, open_store

#: The parent kills a child at the hard limit; where it cannot any more, the child ends itself.
_SELF_DESTRUCT_GRACE_SECONDS = 15.0


class Worker:
    """What a child keeps between two rows: the open store and the loaded model."""

    def __init__(self, settings: Settings, connection: socket.socket) -> None:
        self._settings = settings
        self._connection = connection
        self._loaded: tuple[Task, Store, RunRecord, Analyser] | None = None

    def work(self, task: Task) -> None:
        """Work at one row and say what came of it."""
        try:
            store, run, analyser = self._load(task)
            self.answer("ready")
            limit = self._settings.hard_limit_seconds + _SELF_DESTRUCT_GRACE_SECONDS
            faulthandler.dump_traceback_later(limit, exit=True)
            if task.alone:
                bound_memory(self._settings.alone_memory_bytes)
            done = process_row(
                store, run, task.position, analyser, settings=self._settings, alone=task.alone
            )
        except ConfigurationError as error:
            telemetry.fault(error)
            self.answer("configuration", str(error))
        except RetryableError as error:
            telemetry.fault(error)
            self.answer("retry", str(error))
        else:
            self.answer("done" if done else "busy")
        finally:
            faulthandler.cancel_dump_traceback_later()

    def answer(self, state: State, message: str = "") -> None:
        """Send one line to the parent."""
        answer = Answer(state=state, message=message)
        self._connection.sendall(answer.model_dump_json().encode() + b"\n")

    def _load(self, task: Task) -> tuple[Store, RunRecord, Analyser]:
        if self._loaded and self._loaded[0].model_copy(update={"position": task.position}) == task:
            return self._loaded[1:]
        store = open_store(task.store)
        run = read_run(store, task.run_id)
        self._loaded = (task, store, run, open_analyser(run, self._settings))
        return self._loaded[1:]


def main() -> None:
    """Work for the parent at the other end of the socket whose descriptor is the argument."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    lines = connection.makefile("rb")
    settings = Settings.model_validate(json.loads(lines.readline()))
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()

    def receive() -> None:
        try:
            # A parent that ends with answers unread resets the connection instead of closing it.
            with suppress(ConnectionResetError):
                for line in lines:
                    tasks.put(Task.model_validate_json(line))
            attempts.end_all()
        finally:
            os._exit(0)

    threading.Thread(target=receive, daemon=True).start()
    worker = Worker(settings, connection)
    for _ in range(settings.images_per_process):
        worker.work(tasks.get())
        if _memory() > settings.process_memory_bytes:
            break
    # The parent sees the connection close, and starts another for a row it may have sent meanwhile.


def _memory() -> int:
    """Bytes of memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
