"""What commands print: errors, JSON, and the progress of a run."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Any, Self

import click

from pipeline.errors import ConfigurationError, RetryableError, ScreenError

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from worker.records import Progress

DONE, COULD_NOT_WORK, WRONG_USAGE, SOME_FAILED, STOPPED = 0, 1, 2, 3, 130

#: Without a terminal, a line of progress is printed this often.
LINE_SECONDS = 10.0

#: The rate is that of the last minute: the first images wait for the model to load.
RATE_SECONDS = 60.0


def print_json(value: Any) -> None:
    """Print JSON for programs; ASCII, so that no terminal's encoding can spoil it."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=True))


class FailedError(click.ClickException):
    """The command could not do its work: exit status 1, and what to do about it."""

    exit_code = COULD_NOT_WORK

    def __init__(self, message: str, *, kind: str, as_json: bool) -> None:
        super().__init__(message)
        self._kind = kind
        self._as_json = as_json

    @classmethod
    def of(cls, error: ScreenError, *, as_json: bool) -> FailedError:
        """For an error that the software raised on purpose."""
        if isinstance(error, ConfigurationError):
            kind = "configuration"
        else:
            kind = "retryable" if isinstance(error, RetryableError) else "input"
        return cls(str(error), kind=kind, as_json=as_json)

    def show(self, file: IO[Any] | None = None) -> None:
        """Say it on standard error, or as JSON on standard output."""
        if self._as_json:
            print_json({"error": {"kind": self._kind, "message": self.message}})
            return
        hint = " (a passing fault: the same command goes on)" if self._kind == "retryable" else ""
        click.echo(f"Error: {self.message}{hint}", file=file, err=True)


class WrongUsageError(FailedError):
    """A wrong command line that was to be answered in JSON: exit status 2."""

    exit_code = WRONG_USAGE

    def __init__(self, error: click.UsageError) -> None:
        super().__init__(error.format_message(), kind="usage", as_json=True)


class StoppedError(FailedError):
    """The user pressed Ctrl-C: exit status 130."""

    exit_code = STOPPED

    def __init__(self, message: str, *, as_json: bool) -> None:
        super().__init__(message, kind="stopped", as_json=as_json)

    def show(self, file: IO[Any] | None = None) -> None:
        """Say how to go on."""
        if self._as_json:
            super().show(file)
        else:
            click.echo(f"\n{self.message}", file=file, err=True)


class ProgressDisplay:
    """Progress, rate and time left, on standard error: a bar on a terminal, else lines.

    Use it as a context manager, and ``update`` and ``pause`` as callbacks of the reconciler.
    """

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._times: deque[tuple[float, int]] = deque()
        self._next_line = 0.0
        self._started = False
        self._paused = False

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.completed:.0f}/{task.total:.0f} images"),
                BarColumn(bar_width=None),
                TextColumn("{task.description}"),
                console=Console(stderr=True),
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, progress: Progress) -> None:
        """Show how far the run is."""
        now, done = time.monotonic(), progress.ok + progress.failed
        if not self._times or self._times[-1][1] != done:
            self._times.append((now, done))
            if not self._started and len(self._times) == 2:
                # Loading the model took most of the time until now.
                self._times.popleft()
                self._started = True
        while len(self._times) > 2 and self._times[0][0] < now - RATE_SECONDS:
            self._times.popleft()
        words = self._words(progress, now, done)
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task(words, total=progress.images)
            self._bar.update(self._task, completed=done, description=words)
        elif now >= self._next_line or progress.finished:
            click.echo(f"{done} of {progress.images} images, {words}", err=True)
            self._next_line = now + LINE_SECONDS
        self._paused = False

    def pause(self, reason: str, seconds: float) -> None:
        """Say why nothing goes on; once, until it does."""
        if self._paused:
            return
        self._paused = True
        text = f"waiting {seconds:.0f} s: {reason} (Ctrl-C stops; the same command goes on)"
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, err=True)

    def _words(self, progress: Progress, now: float, done: int) -> str:
        parts = [f"{progress.failed} failed"] if progress.failed else []
        first_time, first_done = self._times[0]
        seconds = now - first_time
        if done > first_done and seconds > 0:
            rate = (done - first_done) / seconds
            parts.append(rate_in_words(rate))
            if progress.remaining:
                parts.append(f"{duration(progress.remaining / rate)} left")
        elif progress.remaining:
            parts.append("measuring the rate" if self._started else "waiting for the first image")
        return ", ".join(parts) or "done"


class LineProgress:
    """A line of progress every few seconds on standard error, for work that is one piece by one.

    ``unit``: what a piece is called.
    """

    def __init__(self, unit: str = "image") -> None:
        self._unit = unit
        self._started = (0.0, 0)
        self._next_line = 0.0
        self._last = 0

    def update(self, done: int, total: int) -> None:
        """Say how many of how many images are done; counting anew starts a new piece of work."""
        now = time.monotonic()
        if done <= self._last or self._last == 0:
            self._started, self._next_line = (now, done), now + LINE_SECONDS
        self._last = done
        if now < self._next_line and done < total:
            return
        self._next_line = now + LINE_SECONDS
        since, first = self._started
        words = f"{done} of {total} {self._unit}s"
        if done > first and now > since:
            rate = (done - first) / (now - since)
            words += f", {rate_in_words(rate).replace('image', self._unit)}"
            if done < total:
                words += f", {duration((total - done) / rate)} left"
        click.echo(words, err=True)


def rate_in_words(per_second: float) -> str:
    """``3.2 images/s``, or ``5 s per image`` where that reads better."""
    return f"{per_second:.1f} images/s" if per_second >= 1 else f"{1 / per_second:.1f} s per image"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"
