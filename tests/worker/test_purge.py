from __future__ import annotations

from contextlib import suppress

import pytest

from benchmarks.rig.laboratory import Laboratory
from pipeline.errors import ConfigurationError
from worker import runs
from worker.purge import carry_out, plan_purge
from worker.records import RunRecord
from worker.store import DirectoryStore


def values(laboratory: Laboratory) -> set[str]:
    top = laboratory.store.path
    return {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}


@pytest.fixture
def both(laboratory: Laboratory) -> tuple[RunRecord, RunRecord]:
    """Two runs: the second has one image more, and one less."""
    laboratory.add("P/1.jpg", "image 1")
    laboratory.add("P/2.jpg", "image 2")
    laboratory.add("Q/3.jpg", "image 3")
    first = laboratory.freeze()
    laboratory.screen(first)
    (laboratory.archive / "Q" / "3.jpg").unlink()
    laboratory.add("P/4.jpg", "image 4")
    second = laboratory.freeze()
    laboratory.screen(second)
    return first, second


def test_what_other_runs_refer_to_stays(
    laboratory: Laboratory, both: tuple[RunRecord, RunRecord]
) -> None:
    first, second = both
    before = values(laboratory)
    planned = plan_purge(laboratory.store, first)
    assert values(laboratory) == before
    assert (len(planned.results), planned.shared) == (1, 2)
    carry_out(laboratory.store, first, planned)
    gone = before - values(laboratory)
    assert not [key for key in values(laboratory) if first.run_id in key]
    assert not [key for key in gone if second.run_id in key]
    assert [one.run.run_id for one in runs.list_runs(laboratory.store)] == [second.run_id]
    computed = len(laboratory.computed())
    laboratory.screen(second)
    assert len(laboratory.computed()) == computed


def test_after_the_last_run_nothing_is_left(
    laboratory: Laboratory, both: tuple[RunRecord, RunRecord]
) -> None:
    for run in both:
        carry_out(laboratory.store, run, plan_purge(laboratory.store, run))
    assert values(laboratory) == {"schema.json", "names.json", "private/names"}


def test_an_interrupted_purge_can_be_given_again(
    laboratory: Laboratory, both: tuple[RunRecord, RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = both
    real, calls = DirectoryStore.delete, []

    def delete(store: DirectoryStore, key: str) -> None:
        calls.append(key)
        if len(calls) % 4 == 3:
            raise KeyboardInterrupt
        real(store, key)

    monkeypatch.setattr(DirectoryStore, "delete", delete)
    # Interrupted again and again, down to the last of its records.
    while any(run.run_id == first.run_id for run, _ in runs.list_runs(laboratory.store)):
        store = laboratory.store
        with suppress(KeyboardInterrupt):
            carry_out(store, first, plan_purge(store, first))
    assert not [key for key in values(laboratory) if first.run_id in key]
    assert runs.progress(laboratory.store, second).finished


def test_a_run_that_is_not_finished_is_refused(laboratory: Laboratory) -> None:
    laboratory.fill(1, 2)
    run = laboratory.freeze()
    with pytest.raises(ConfigurationError, match="screen cancel"):
        plan_purge(laboratory.store, run)
    runs.cancel(laboratory.store, run)
    carry_out(laboratory.store, run, plan_purge(laboratory.store, run))
    assert values(laboratory) == {"schema.json", "names.json", "private/names"}
