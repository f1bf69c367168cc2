"""A manifest that is larger than what is handed out of it."""

from __future__ import annotations

from benchmarks.faults import large
from tests.faults.conftest import Survives


def test_a_large_manifest_is_fed_in_little_memory(survives: Survives) -> None:
    """The benchmark does it with a million images."""
    survives(large.large_manifest, images=20_000, patients=600, delay=0)
