"""The fuzz targets for seconds, with the same examples every time; `make fuzz` looks for others."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.inputs import altered
from tests.fuzz.targets import SEEDS, TARGETS
from worker import tasks
from worker.settings import load_settings


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker that may work in an empty folder only, and rests for no time."""
    allowed = load_settings(allowed_roots=str(tmp_path))
    monkeypatch.setattr(tasks, "_settings", lambda: allowed)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    yield


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_whatever_is_handed_in(name: str, data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from([b"", *SEEDS[name]]))
    number = data.draw(st.integers(0, 2**32 - 1))
    TARGETS[name](altered(seed, random.Random(number)))
    TARGETS[name](data.draw(st.binary(max_size=100) | st.text(max_size=50).map(str.encode)))
