"""Workers and feeders that are killed or told to stop."""

from __future__ import annotations

import pytest

from benchmarks.faults import kills
from tests.faults.conftest import Survives


@pytest.mark.parametrize("fault", [kills.processes_killed, kills.local_processes_killed])
def test_an_image_whose_process_was_killed_runs_again_within_five_seconds(
    survives: Survives, fault
) -> None:
    assert survives(fault, strikes=4).strikes >= 3


def test_a_worker_killed_with_all_its_processes_costs_the_images_it_was_at(
    survives: Survives,
) -> None:
    assert survives(kills.groups_killed, strikes=2).strikes == 2


def test_feeders_that_are_killed_again_and_again_do_not_heap_up_messages(
    survives: Survives,
) -> None:
    assert survives(kills.feeders_killed, strikes=5, images=100).strikes == 5


def test_workers_that_are_told_to_stop_do_so_in_time(survives: Survives) -> None:
    survives(kills.rolling_restart, strikes=3, delay=0.2)
