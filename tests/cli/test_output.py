"""What is shown of a run's progress."""

from __future__ import annotations

import pytest

import cli.output
from cli.output import ProgressDisplay, duration, rate_in_words
from worker.records import Progress


def at(ok: int, failed: int = 0, images: int = 100) -> Progress:
    return Progress(run_id="r", images=images, ok=ok, failed=failed)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(cli.output.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (45, "45 s"), (90, "2 min"), (3599, "1 h 00 min"), (11100, "3 h 05 min")],
)
def test_durations_are_read_at_a_glance(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_rates_are_read_at_a_glance() -> None:
    assert rate_in_words(12.34) == "12.3 images/s"
    assert rate_in_words(0.2) == "5.0 s per image"


def test_without_a_terminal_a_line_now_and_then(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressDisplay() as display:
        for done in range(0, 41):
            display.update(at(done, failed=1))
            clock[0] += 0.5
        display.update(at(99, failed=1))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "1 of 100 images, 1 failed, waiting for the first image"
    assert lines[1] == "21 of 100 images, 1 failed, 2.0 images/s, 40 s left"
    assert lines[-1].startswith("100 of 100 images, 1 failed, ")
    assert len(lines) == 4


def test_neither_images_done_before_nor_the_loading_of_the_model_count_for_the_rate(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    display = ProgressDisplay()
    display.update(at(50))
    clock[0] += 100
    display.update(at(51))
    clock[0] += 10
    display.update(at(61))
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "51 of 100 images, measuring the rate"
    assert lines[2] == "61 of 100 images, 1.0 images/s, 39 s left"


def test_a_pause_is_said_once_until_work_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    display = ProgressDisplay()
    for _ in range(3):
        display.pause("the disk is full", 30)
    display.update(at(1))
    display.pause("the disk is full", 30)
    assert capsys.readouterr().err.count("waiting 30 s: the disk is full") == 2
