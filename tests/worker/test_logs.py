from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterator
from io import StringIO

import pytest

from pipeline.errors import ConfigurationError, NamingError, RetryableError
from worker import logs
from worker.logs import JsonFormatter, TextFormatter
from worker.telemetry import ImageTold

TOLD = ImageTold(
    run_id="0" * 20,
    position=17,
    outcome="failed",
    reason="truncated",
    first=True,
    seconds={"read": 0.01, "judge": 2.5},
    process=42,
)


@pytest.fixture
def log() -> Iterator[tuple[StringIO, logging.Handler]]:
    """What is written, and the handler that writes."""
    written = StringIO()
    handler = logging.StreamHandler(written)
    logger = logging.getLogger()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield written, handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_an_image_is_one_line_of_json(log: tuple[StringIO, logging.Handler]) -> None:
    written, handler = log
    handler.setFormatter(JsonFormatter())
    logs.tell(TOLD)
    [line] = written.getvalue().splitlines()
    entry = json.loads(line)
    assert entry["level"] == "INFO"
    assert entry["host"] == os.uname().nodename
    assert {name: entry[name] for name in ("event", "run", "image", "outcome", "reason")} == {
        "event": "image",
        "run": "0" * 20,
        "image": 17,
        "outcome": "failed",
        "reason": "truncated",
    }
    assert entry["seconds"] == {"read": 0.01, "judge": 2.5}


def test_an_image_is_one_readable_line(log: tuple[StringIO, logging.Handler]) -> None:
    written, handler = log
    handler.setFormatter(TextFormatter())
    logs.tell(TOLD)
    logs.tell(TOLD.model_copy(update={"outcome": "ok", "reason": None, "first": False}))
    first, second = written.getvalue().splitlines()
    expected = f"INFO run {'0' * 20} image 17: failed, truncated; read 0.010 s, judge 2.500 s"
    assert first.endswith(expected)
    assert "image 17: ok (as before); read" in second


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_an_exception_is_logged_without_what_it_says(
    log: tuple[StringIO, logging.Handler], formatter: logging.Formatter
) -> None:
    written, handler = log
    handler.setFormatter(formatter)
    try:
        raise FileNotFoundError(2, "No such file", "/archive/Smith, John/field.jpg")
    except FileNotFoundError as error:
        # As Celery logs a task that raised.
        logging.getLogger("celery.app.trace").error("raised: %r", error, exc_info=True)
    assert "FileNotFoundError" in written.getvalue()
    assert "test_an_exception_is_logged_without_what_it_says" in written.getvalue()
    assert "Smith" not in written.getvalue()


def test_json_keeps_lines_whole_and_ascii(log: tuple[StringIO, logging.Handler]) -> None:
    written, handler = log
    handler.setFormatter(JsonFormatter())
    logging.getLogger("x").warning("zwei\nZeilen, größer")
    assert written.getvalue().count("\n") == 1
    assert written.getvalue().isascii()
    assert json.loads(written.getvalue())["message"] == "zwei\nZeilen, größer"


def test_only_errors_that_a_person_must_mend_are_quoted() -> None:
    assert logs.cause(ConfigurationError("start it with the same bundle")).startswith("start it")
    error = RetryableError("the archive /slides/Smith cannot be read")
    assert logs.cause(error) == "RetryableError"
    assert "Ada" not in logs.cause(NamingError("Ada is listed twice"))
    error.__cause__ = OSError(errno.ENOSPC, "whatever")
    assert logs.cause(error) == "RetryableError (No space left on device)"


def test_configuring_again_replaces_the_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_handler", None)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        logs.configure("text")
        logs.configure("json", "WARNING")
        assert len(root.handlers) == len(before) + 1
        logging.getLogger("x").info("nothing")
        logging.getLogger("x").warning("something")
    finally:
        root.handlers = before
        root.setLevel(level)
    assert json.loads(capsys.readouterr().err)["message"] == "something"
