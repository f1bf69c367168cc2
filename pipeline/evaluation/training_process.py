"""Training beside an evaluation, in a process of its own.

Training uses all processors; judging, as in a worker, one thread, and TensorFlow lets a process
choose only once. One process trains all folds, so that what they share is read and segmented once.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from pipeline.errors import ConfigurationError, ScreenError
from pipeline.quiet import load_keras

if TYPE_CHECKING:
    from pipeline.training.run import TrainingOptions

#: What a process that has nothing to do may take to end by itself.
_ENDING_SECONDS = 30.0


class TrainingProcess:
    """Trains what it is asked to, one after the other; it starts with the first."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._process: BaseProcess | None = None
        self._line: Connection | None = None
        self._at_work = False

    def close(self) -> None:
        """End the process, whatever it is at: every epoch and every bundle is on the disk."""
        if self._process is not None and self._line is not None:
            self._line.close()
            if not self._at_work:
                # Only what ends by itself gives back its semaphores.
                self._process.join(_ENDING_SECONDS)
            self._process.terminate()
            self._process.join()

    def train(self, options: TrainingOptions) -> None:
        """Train, and pass on what is said of it.

        Raises ConfigurationError if the training does, or if its process ends.
        """
        process, line = self._started()
        self._at_work = True
        try:
            line.send(options)
            while (told := line.recv())[0] == "say":
                self._say(told[1])
        except (EOFError, OSError) as error:
            process.join()
            raise ConfigurationError(
                f"the process that trained {options.out} ended with status {process.exitcode}; the "
                "message is above. The same command goes on from the last epoch"
            ) from error
        self._at_work = False
        if told[0] == "failed":
            raise ConfigurationError(told[1])

    def _started(self) -> tuple[BaseProcess, Connection]:
        if self._process is None or self._line is None:
            context = multiprocessing.get_context("spawn")
            self._line, far_end = context.Pipe()
            self._process = context.Process(target=_work, args=(far_end,))
            self._process.start()
            # Only the process may hold it: otherwise its death would not be noticed.
            far_end.close()
        return self._process, self._line


def _work(line: Connection) -> None:
    """In the process: train what comes until nobody is left to ask."""
    load_keras()
    import keras

    from pipeline.training.run import train

    while True:
        try:
            options = line.recv()
        except EOFError:
            return
        # Layers are numbered anew, so that a network is the same whatever was trained before.
        keras.utils.clear_session()
        try:
            train(options, lambda message: line.send(("say", message)))
        except ScreenError as error:
            line.send(("failed", str(error)))
        else:
            line.send(("done", ""))
