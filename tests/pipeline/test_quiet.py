"""What a backend says while it is loaded reaches nobody, unless loading fails."""

from __future__ import annotations

import os

import pytest

from pipeline.quiet import _kept_back


def test_what_is_said_meanwhile_is_kept_back(capfd: pytest.CaptureFixture[str]) -> None:
    with _kept_back():
        os.write(2, b"found no device\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_what_was_said_before_a_failure_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImportError), _kept_back():
        os.write(2, b"no such library\n")
        raise ImportError
    assert capfd.readouterr().err == "no such library\n"
