"""Every error the software raises on purpose, by what has to happen next.

* ``BadInputError``: this image can never be judged. Record it as failed and go on.
* ``RetryableError``: the same call may succeed later. Try again; it is not the image's fault.
* ``ConfigurationError``: a person has to change something. Stop and say what.
"""

from __future__ import annotations


class ScreenError(Exception):
    """Base class of all errors raised on purpose."""


class BadInputError(ScreenError):
    """An image that cannot be judged. ``reason`` is a stable code, the message is for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RetryableError(ScreenError):
    """A passing fault of storage or transport."""


class StoreUnavailableError(RetryableError):
    """The result store cannot be read or written at the moment (full disk, lost mount)."""


class ConfigurationError(ScreenError):
    """Something a person must change; the message says what and how."""


class NamingError(ConfigurationError):
    """One whose message names patients or files: for whoever gave the command, not for a log."""
