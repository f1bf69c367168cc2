"""Loading Keras without what its backend says about itself.

TensorFlow writes a dozen lines to standard error before anybody can ask it not to, whatever its
settings: which processor it found, which it did not. People who screen slides should not have to
tell them from errors.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

#: File descriptor of standard error, which libraries in C++ write to.
_STANDARD_ERROR = 2


@cache
def load_keras() -> None:
    """Import Keras and its backend, and let the backend look for its devices.

    What is printed meanwhile is shown only if that fails.
    """
    with _kept_back():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Looks for devices without starting any: threads can still be chosen.
            tf.config.list_physical_devices()


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
