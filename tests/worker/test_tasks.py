"""What a worker's process does with one message."""

from __future__ import annotations

import time

import pytest
from celery.exceptions import Reject, SoftTimeLimitExceeded
from pydantic import ValidationError

from benchmarks.rig.laboratory import Laboratory
from benchmarks.rig.stubs import Analysis
from pipeline.errors import RetryableError
from worker import runs, tasks
from worker.attempts import TimedOutError
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
