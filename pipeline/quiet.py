"""Loading Keras without what its backend says about itself, nor what is not needed to judge images.

TensorFlow writes a dozen lines to standard error before anybody can ask it not to, whatever its
settings: which processor it found, which it did not. People who screen slides should not have to
tell them from errors.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

#: Keras imports these if they are there, for plots and wrappers that nothing here uses. Starting a
#: process takes a fifth longer with them, and 65 MB (benchmarks/process_start.py).
_UNUSED_BY_KERAS = ("matplotlib", "sklearn")

#: File descriptor of standard error, which libraries in C++ write to.
_STANDARD_ERROR = 2


@cache
def load_keras() -> None:
    """Import Keras and its backend, and let the backend look for its devices.

    What is printed meanwhile is shown only if that fails.
    """
    with _kept_back(), _hidden(_UNUSED_BY_KERAS):
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Looks for devices without starting any: threads can still be chosen.
            tf.config.list_physical_devices()


@contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    """Let imports of these fail meanwhile, as if they were not installed."""
    hidden = [name for name in names if name not in sys.modules]
    # What None does there: https://docs.python.org/3/reference/import.html#the-module-cache
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _kept_back() -> Iterator[None]:
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        before = os.dup(_STANDARD_ERROR)
        os.dup2(said.fileno(), _STANDARD_ERROR)
        try:
            yield
        except BaseException:
            os.dup2(before, _STANDARD_ERROR)
            said.seek(0)
            os.write(_STANDARD_ERROR, said.read())
            raise
        finally:
            os.dup2(before, _STANDARD_ERROR)
            os.close(before)
