"""An object store that answers badly, late, half or not at all."""

from __future__ import annotations

from functools import partial

from benchmarks.faults import objects
from benchmarks.faults.trial import BucketTrial
from tests.faults.conftest import Survives


def test_an_object_store_that_fails_often_and_is_away_costs_time_only(survives: Survives) -> None:
    fault = partial(objects.unreliable_objects, seconds=3)
    survives(fault, kind=BucketTrial, images=8, patients=2, delay=0.05)
