"""Images that are too much for a worker, and archives that mean harm."""

from __future__ import annotations

from benchmarks.faults import images
from tests.faults.conftest import Survives


def test_images_that_are_too_much_fail_with_the_reason_and_the_others_do_not(
    survives: Survives,
) -> None:
    """One that kills, one that hangs, one that exhausts memory, one that would when decoded."""
    survives(images.poisonous_images, images=40, strikes=4, delay=0.05)


def test_an_archive_that_means_harm_does_none(survives: Survives) -> None:
    survives(images.hostile_archive, images=12, delay=0.02)
