"""How many threads the libraries below may start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep OpenCV and linear algebra from starting threads.

    Fields are so small that threads gain little, and on a machine with other work each step would
    wait for the slowest of them: several times as long.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(before)
