"""Training in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.rig.processes import children_of
from pipeline.errors import ConfigurationError
from pipeline.evaluation.training_process import TrainingProcess
from pipeline.training.run import TrainingOptions


def test_one_process_is_asked_again_and_again_and_its_death_is_noticed(tmp_path: Path) -> None:
    impossible = TrainingOptions("all-net", tmp_path, tmp_path / "out", tmp_path / "work")
    before = set(children_of(os.getpid()))
    with closing(TrainingProcess(lambda message: None)) as process:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=str(tmp_path)):
                process.train(impossible)
            with pytest.raises(ConfigurationError, match="no recipe"):
                process.train(TrainingOptions("no-net", tmp_path, tmp_path, tmp_path))
        (trainer,) = (
            one for one in set(children_of(os.getpid())) - before if "spawn_main" in command(one)
        )
        os.kill(trainer, signal.SIGKILL)
        with pytest.raises(ConfigurationError, match=r"status -9;.*from the last epoch"):
            process.train(impossible)
    assert trainer not in children_of(os.getpid())


def test_a_process_that_has_nothing_to_do_ends_by_itself(tmp_path: Path) -> None:
    with closing(TrainingProcess(lambda message: None)) as process:
        with pytest.raises(ConfigurationError, match="no recipe"):
            process.train(TrainingOptions("no-net", tmp_path, tmp_path, tmp_path))
        (trainer,) = multiprocessing.active_children()
    assert trainer.exitcode == 0


def command(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text()
