"""What a worker's process does with one message."""

from __future__ import annotations

import time
from hashlib import sha256

import pytest
from celery.exceptions import Reject, SoftTimeLimitExceeded
from pydantic import ValidationError

from benchmarks.rig.laboratory import Laboratory
from benchmarks.rig.stubs import Analysis, judged
from pipeline.errors import RetryableError
from worker import runs, tasks
from worker.attempts import TimedOutError
from worker.lost_processes import is_urgent
from worker.records import RunRecord
from worker.tasks import RowsMessage


@pytest.mark.parametrize(
    "changes",
    [
        {"run_id": "../../etc"},
        {"run_id": "A" * 20},
        {"shard": -1},
        {"rows": []},
        {"rows": [-1, "x"]},
        {"rows": [-1]},
        {"rows": [1000]},
        {"shard": 10**6},
        {"store": "/etc"},
        {"store": "file:///out%00"},
        {"store": "file://["},
        {"store": "gopher://out"},
        {"more": 1},
    ],
)
def test_a_message_that_is_not_ours_is_refused(changes: dict[str, object]) -> None:
    good = {"store": "file:///out", "run_id": "0" * 20, "shard": 0, "rows": [1]}
    RowsMessage.model_validate(good)
    with pytest.raises(ValidationError):
        RowsMessage.model_validate({**good, **changes})


def test_a_message_of_a_run_that_is_gone_is_dropped(
    laboratory: Laboratory, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.process(store=laboratory.store.uri, run_id="0" * 20, shard=0, rows=[0])
    assert "there is no such run" in caplog.text


def test_a_worker_with_another_model_returns_the_message(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    monkeypatch.setattr(tasks, "RETURN_SECONDS", 0)
    monkeypatch.setenv("SCREEN_ANALYSER", "benchmarks.rig.stubs:open_analyser")
    tasks._settings.cache_clear()
    (laboratory.bundle / "digest").write_text("e" * 64)
    with pytest.raises(Reject) as caught:
        tasks.process(store=laboratory.store.uri, run_id=run.run_id, shard=0, rows=[0])
    tasks._settings.cache_clear()
    assert caught.value.requeue
    assert "start it with the same bundle" in caplog.text
    assert runs.progress(laboratory.store, run).remaining == 1


def test_a_message_goes_back_though_its_time_limit_passes_while_it_waits(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    waits: list[float] = []

    def interrupted(seconds: float) -> None:
        waits.append(seconds)
        raise SoftTimeLimitExceeded

    analyser = ChokingAnalyser(run, b"image 0 0", MemoryError())
    monkeypatch.setattr(tasks, "open_analyser", lambda *_: analyser)
    monkeypatch.setattr(time, "sleep", interrupted)
    with pytest.raises(Reject) as caught:
        tasks.process(store=laboratory.store.uri, run_id=run.run_id, shard=0, rows=[0])
    assert caught.value.requeue
    assert waits == [tasks.RETURN_SECONDS]


class ChokingAnalyser:
    """Is interrupted, or runs out of memory, at one image."""

    def __init__(self, run: RunRecord, choke: bytes, error: BaseException) -> None:
        self.model = run.model
        self.choke = choke
        self.error = error
        self.calls: list[str] = []

    def __call__(self, data: bytes) -> Analysis:
        self.calls.append(data.decode())
        if data == self.choke:
            raise self.error
        return Analysis(judged(sha256(data).hexdigest()), {})


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded(), MemoryError()])
def test_companions_of_one_that_takes_too_much_come_first(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    laboratory.fill(1, 4)
    run = laboratory.freeze()
    analyser = ChokingAnalyser(run, b"image 0 1", error)
    monkeypatch.setattr(tasks, "open_analyser", lambda *_: analyser)
    monkeypatch.setattr(tasks, "_BLAMED_SHARE", 0)
    monkeypatch.setattr(tasks, "RETURN_SECONDS", 0)

    def deliver() -> tuple[list[str], bool]:
        """Which images are tried, and whether the message goes to the front then."""
        analyser.calls.clear()
        with pytest.raises(Reject) as caught:
            tasks.process(store=laboratory.store.uri, run_id=run.run_id, shard=0, rows=[0, 1, 2, 3])
        assert caught.value.requeue
        return [*analyser.calls], is_urgent(caught.value)

    assert deliver() == (["image 0 0", "image 0 1"], True)
    assert deliver() == (["image 0 2", "image 0 3"], False)
    assert deliver() == (["image 0 1"], False)


class SlowAnalyser:
    """Is interrupted by the soft limit after so many seconds."""

    model = None

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, data: bytes) -> Analysis:
        time.sleep(self.seconds)
        raise SoftTimeLimitExceeded


def test_an_image_is_not_blamed_for_the_time_its_process_took_to_load_the_model() -> None:
    with pytest.raises(RetryableError) as caught:
        tasks._Limited(SlowAnalyser(0), 0.2)(b"")
    assert not isinstance(caught.value, TimedOutError)
    with pytest.raises(TimedOutError):
        tasks._Limited(SlowAnalyser(0.15), 0.2)(b"")
