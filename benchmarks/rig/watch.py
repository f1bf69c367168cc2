"""Looking at a figure while something else goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

import redis


class Watch:
    """The largest value of a figure, looked at often; a Redis that is away has none."""

    def __init__(self, figure: Callable[[], float], seconds: float = 0.02) -> None:
        self._figure = figure
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.most = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(self._seconds):
            try:
                self.most = max(self.most, self._figure())
            except redis.exceptions.RedisError:
                continue
