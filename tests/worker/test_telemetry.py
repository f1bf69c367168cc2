from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from benchmarks.rig.laboratory import Laboratory, python
from pipeline.errors import ConfigurationError, RetryableError, StoreUnavailableError
from worker import telemetry
from worker.attempts import TimedOutError
from worker.process import open_analyser, process_row
from worker.telemetry import FaultTold, ImageTold, ModelTold, Told, listening

CHILD = """
import sys
from worker import telemetry
for number in range(int(sys.argv[1])):
    telemetry.finished("0" * 20, number, "ok", None, first=True)
"""


def test_what_descendants_tell_is_heard_to_the_last_word() -> None:
    heard: list[Told] = []
    with listening(heard.append):
        children = [python(CHILD, "500") for _ in range(2)]
        assert [child.wait(60) for child in children] == [0, 0]
    images = [told for told in heard if isinstance(told, ImageTold)]
    assert len(images) == 1000
    assert {told.process for told in images} == {child.pid for child in children}


def test_telling_does_not_hold_up_work_when_nobody_listens_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    monkeypatch.setenv(telemetry._PIPE, f"/proc/{os.getpid()}/fd/{writer}")
    started = time.monotonic()
    # Far more than a pipe holds.
    assert python(CHILD, "5000").wait(60) == 0
    os.close(reader)
    os.close(writer)
    assert python(CHILD, "1").wait(60) == 0
    assert time.monotonic() - started < 60


def test_an_image_is_told_with_its_stages_and_without_names(laboratory: Laboratory) -> None:
    laboratory.slow_down(0.05)
    laboratory.add("Smith, John/field 7.jpg", "image 1")
    laboratory.add("Smith, John/field 8.jpg", "bad 1")
    laboratory.add("Smith, John/field 9.jpg", "raise 1")
    run = laboratory.freeze()
    settings = laboratory.settings()
    heard: list[Told] = []
    with listening(heard.append):
        analyser = open_analyser(run, settings)
        for position in range(3):
            process_row(laboratory.store, run, position, analyser, settings=settings)
    images = [told for told in heard if isinstance(told, ImageTold)]
    assert [(told.position, told.outcome, told.reason) for told in images] == [
        (0, "ok", None),
        (1, "failed", "truncated"),
        (2, "failed", "internal_error"),
    ]
    assert set(images[0].seconds) == {"read", "judge", "save"}
    assert 0.05 <= images[0].seconds["judge"] < 5
    assert all(told.first for told in images)
    words = "".join(told.model_dump_json() for told in heard)
    assert "Smith" not in words
    assert "field" not in words


def test_a_result_that_comes_second_says_so(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    settings = laboratory.settings()
    analyser = open_analyser(run, settings)
    heard: list[Told] = []

    class Overtaken:
        model = analyser.model

        def __call__(self, data: bytes) -> object:
            process_row(laboratory.store, run, 0, analyser, settings=settings)
            return analyser(data)

    with listening(heard.append):
        process_row(laboratory.store, run, 0, Overtaken(), settings=settings)  # type: ignore[arg-type]
    assert [told.first for told in heard if isinstance(told, ImageTold)] == [True, False]


def test_loading_a_model_is_told(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    heard: list[Told] = []
    (laboratory.bundle / "digest").write_text("f" * 64)
    with listening(heard.append), pytest.raises(ConfigurationError):
        # Another model is refused after it was loaded.
        open_analyser(run, laboratory.settings(bundle=laboratory.bundle))
    assert [type(told) for told in heard] == [ModelTold]


def test_a_reason_is_a_code_or_nothing_that_could_name_somebody() -> None:
    heard: list[Told] = []
    with listening(heard.append):
        telemetry.finished("0" * 20, 1, "failed", "Smith, John", first=True)
    assert isinstance(heard[0], ImageTold)
    assert heard[0].reason == "other"


def _broker_error() -> RetryableError:
    error = RetryableError("the broker does not take messages")
    error.__cause__ = RedisConnectionError()
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (StoreUnavailableError("x"), "store"),
        (TimedOutError("x"), "time_limit"),
        (MemoryError(), "memory"),
        (ConfigurationError("x"), "configuration"),
        (_broker_error(), "broker"),
        (RetryableError("x"), "archive_or_machine"),
    ],
)
def test_faults_are_told_by_their_cause(error: BaseException, cause: str) -> None:
    heard: list[Told] = []
    with listening(heard.append):
        telemetry.fault(error)
    assert heard == [FaultTold(cause=cause)]  # type: ignore[arg-type]


def test_it_needs_no_heavy_library() -> None:
    code = "import sys, worker.telemetry, worker.logs; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
