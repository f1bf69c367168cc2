"""Reports whose writer is killed, and a disk that is full."""

from __future__ import annotations

from benchmarks.faults import storage
from tests.faults.conftest import Survives


def test_a_finaliser_killed_at_any_file_operation_shows_nothing_partial(
    survives: Survives,
) -> None:
    assert survives(storage.finaliser_killed, images=3, patients=2, strikes=0).strikes > 20


def test_a_full_disk_pauses_the_run_and_fails_nothing(survives: Survives) -> None:
    survives(storage.disk_full)
