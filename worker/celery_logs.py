"""The log of Celery's worker and of the processes it starts: ours, in both.

Celery imports this module in each of them before it sets up logging, and leaves that to whoever
listens to its signal.
"""

from __future__ import annotations

import logging

from billiard.util import get_logger
from celery.signals import setup_logging

from worker import logs
from worker.settings import load_settings

#: They say of every message that it came and went; we have a line per image.
_WORDY = ("celery.worker.strategy", "celery.app.trace")


@setup_logging.connect  # type: ignore[untyped-decorator]  # Celery has no types
def configure(loglevel: int, **_: object) -> None:
    """Write the log as everywhere else."""
    logs.configure(load_settings().log_format, loglevel)
    if loglevel > logging.DEBUG:
        for name in _WORDY:
            logging.getLogger(name).setLevel(logging.WARNING)
    # The pool's own logger writes in a format of its own, past all others.
    pool = get_logger()
    pool.handlers.clear()
    pool.propagate = True
    pool.setLevel(logging.ERROR)
