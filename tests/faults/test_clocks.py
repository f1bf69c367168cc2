"""Machines that disagree about the time."""

from __future__ import annotations

import pytest

from benchmarks.faults import clocks
from tests.faults.conftest import Survives


@pytest.mark.parametrize("seed", [0, 1], ids=["behind", "ahead"])
def test_a_worker_whose_clock_is_an_hour_off_does_no_harm(survives: Survives, seed: int) -> None:
    survives(clocks.clock_off, seed=seed, images=60)
