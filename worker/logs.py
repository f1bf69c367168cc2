"""The log: text for people or a line of JSON for programs, and never whose image it is.

What our own modules log is made of ids and numbers. Libraries are not so careful: an exception's
message may quote a file. Of exceptions the log therefore has kind and place, not the message.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Literal

from pipeline.errors import ConfigurationError, NamingError
from worker.telemetry import ImageTold, ModelTold, Told

Format = Literal["text", "json"]

_handler: logging.Handler | None = None

_images = logging.getLogger("worker.images")

#: Attribute of a record with what JSON shows as members of their own.
_MEMBERS = "screen_members"


def configure(format_name: Format | None, level: str | int = "INFO") -> None:
    """Write this process's log to standard error; doing it again changes format and level."""
    global _handler  # noqa: PLW0603 - a process has one log
    root = logging.getLogger()
    if _handler is not None:
        root.removeHandler(_handler)
    _handler = logging.StreamHandler(sys.stderr)
    _handler.setFormatter(JsonFormatter() if format_name == "json" else TextFormatter())
    root.addHandler(_handler)
    root.setLevel(level)
    # Otherwise they would be lines of another kind.
    logging.captureWarnings(capture=True)


def tell(told: Told) -> None:
    """Log what a process says about its work: one line per image."""
    if not _images.isEnabledFor(logging.INFO):
        return
    if isinstance(told, ImageTold):
        _tell_image(told)
    elif isinstance(told, ModelTold):
        _images.info(
            "a process loaded the model in %.1f s",
            told.seconds,
            extra={_MEMBERS: {"event": "model", "seconds": told.seconds}},
        )


def cause(error: BaseException) -> str:
    """What may be logged of an error: all of it if a person has to act, else its kind.

    The message of another error may quote the path of an image, or an archive that is a patient's
    folder.
    """
    if isinstance(error, NamingError):
        return f"{type(error).__name__} (the message names patients; `screen submit` shows it)"
    if isinstance(error, ConfigurationError):
        return str(error)
    below = error.__cause__
    number = below.errno if isinstance(below, OSError) else None
    return f"{type(error).__name__} ({os.strerror(number)})" if number else type(error).__name__


def _tell_image(told: ImageTold) -> None:
    outcome = told.outcome if told.reason is None else f"{told.outcome}, {told.reason}"
    stages = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in told.seconds.items())
    members = {
        "event": "image",
        "run": told.run_id,
        "image": told.position,
        "host": platform.node(),
        "process": told.process,
        "outcome": told.outcome,
        "reason": told.reason,
        "first": told.first,
        "seconds": told.seconds,
    }
    again = "" if told.first else " (as before)"
    _images.info(
        "run %s image %d: %s%s%s",
        told.run_id,
        told.position,
        outcome,
        again,
        f"; {stages}" if stages else "",
        extra={_MEMBERS: members},
    )


class TextFormatter(logging.Formatter):
    """A line for people; of an exception, kind and place."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line without what an exception says."""
        record.message = _message(record)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Where it was raised."""
        return "\n".join(f"  {place}" for place in _places(ei[1]))

    def format(self, record: logging.LogRecord) -> str:
        """One record; nothing that another formatter left in it is reused."""
        record.exc_text = None
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """One JSON object per line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        members: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            **getattr(record, _MEMBERS, {}),
        }
        error = _error(record)
        if error is not None:
            members["exception"] = type(error).__name__
            members["places"] = _places(error)
        return json.dumps(members, ensure_ascii=True, default=str)


def _message(record: logging.LogRecord) -> str:
    """The record's text; without its arguments where one of them may be an exception's message."""
    error = _error(record)
    return record.getMessage() if error is None else f"{record.name}: {type(error).__name__}"


def _error(record: logging.LogRecord) -> BaseException | None:
    error = record.exc_info[1] if record.exc_info else None
    # Celery hands on exceptions of other processes in a wrapping.
    inner = getattr(error, "exc", None)
    return inner if isinstance(inner, BaseException) else error


def _places(error: BaseException | None) -> list[str]:
    """``module file:line function`` from the outermost call inwards."""
    found = traceback.extract_tb(error.__traceback__) if error is not None else []
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in found]
