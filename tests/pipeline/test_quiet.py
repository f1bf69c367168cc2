"""What a backend says while it is loaded reaches nobody, unless loading fails."""

from __future__ import annotations

import os
import subprocess
import sys

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


def test_keras_comes_without_what_it_only_plots_with() -> None:
    program = """
import sys
from pipeline.quiet import load_keras

load_keras()
print(*sorted({"keras", "matplotlib", "sklearn", "tensorflow"} & sys.modules.keys()))
import matplotlib.pyplot, sklearn
print(sklearn.__name__)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.split() == ["keras", "tensorflow", "sklearn"]
