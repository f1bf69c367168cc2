from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigurationError
from pipeline.results import AnalysisOptions, ModelRecord
from worker import keys
from worker.manifest import freeze, iterate_rows, read_row, read_rows, read_run
from worker.pseudonyms import Pseudonyms
from worker.records import ManifestRow, RunRecord
from worker.runs import list_runs
from worker.store import DirectoryStore

MODEL = ModelRecord(name="stub", bundle_digest="d" * 64, tested="never")


def row(source: str, patient: str = "P1", version: str = "1", size: int = 10) -> ManifestRow:
    return ManifestRow(source=source, patient=patient, size=size, version=version)


def frozen(store: DirectoryStore, rows: list[ManifestRow], **changes: object) -> RunRecord:
    given: dict[str, object] = {
        "root": "file:///archive",
        "bundle": "/bundle",
        "model": MODEL,
        "options": AnalysisOptions(),
        "ignored": 0,
        **changes,
    }
    return freeze(store, rows, **given)


def test_the_same_images_in_any_order_are_the_same_run(store: DirectoryStore) -> None:
    rows = [row(f"{number}.jpg", patient=f"P{number % 3}") for number in range(20)]
    first = frozen(store, rows)
    random.Random(1).shuffle(rows)
    assert frozen(store, rows) == first
    assert len(list_runs(store)) == 1
    assert (first.images, first.patients, first.shards) == (20, 3, 1)


def test_rows_are_sorted_by_patient_then_source(store: DirectoryStore) -> None:
    rows = [row("b.jpg", "Z"), row("ä.jpg", "A"), row("c.jpg", "A"), row("B.jpg", "A")]
    run = frozen(store, rows)
    order = [(found.patient, found.source) for _, found in iterate_rows(store, run)]
    assert order == [("A", "B.jpg"), ("A", "c.jpg"), ("A", "ä.jpg"), ("Z", "b.jpg")]


def test_a_large_manifest_is_sharded_and_read_row_by_row(store: DirectoryStore) -> None:
    rows = [row(f"{number:05}.jpg") for number in range(2 * keys.SHARD_ROWS + 1)]
    run = frozen(store, rows)
    assert run.shards == 3
    assert [len(read_rows(store, run, shard)) for shard in range(3)] == [1000, 1000, 1]
    assert read_row(store, run, 1999) == rows[1999]
    assert [found for _, found in iterate_rows(store, run)] == rows
    assert [position for position, _ in iterate_rows(store, run)] == list(range(2001))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": ModelRecord(name="stub", bundle_digest="e" * 64, tested="never")},
        {"options": AnalysisOptions(explain="none")},
    ],
)
def test_another_model_or_other_options_are_another_run(
    store: DirectoryStore, changes: dict[str, object]
) -> None:
    rows = [row("a.jpg")]
    assert frozen(store, rows).run_id != frozen(store, rows, **changes).run_id


@pytest.mark.parametrize(
    "other", [row("b.jpg"), row("a.jpg", version="2"), row("a.jpg", size=11), row("a.jpg", "P2")]
)
def test_another_file_is_another_run(store: DirectoryStore, other: ManifestRow) -> None:
    assert frozen(store, [row("a.jpg")]).run_id != frozen(store, [other]).run_id


def test_where_the_bundle_lies_does_not_matter(store: DirectoryStore) -> None:
    first = frozen(store, [row("a.jpg")])
    assert frozen(store, [row("a.jpg")], bundle="/elsewhere").run_id == first.run_id


def test_a_patient_of_another_archive_is_not_overwritten(store: DirectoryStore) -> None:
    frozen(store, [row("a.jpg", "P1"), row("b.jpg", "P2")])
    with pytest.raises(ConfigurationError, match=r"'P2'.*choose another --out"):
        frozen(store, [row("c.jpg", "P3"), row("d.jpg", "P2")], root="file:///other")
    assert len(list_runs(store)) == 1
    # Nothing of the refused archive sticks: its other patient is still free.
    frozen(store, [row("c.jpg", "P3")])


def test_an_archive_that_grew_is_accepted(store: DirectoryStore) -> None:
    frozen(store, [row("a.jpg")])
    assert frozen(store, [row("a.jpg"), row("b.jpg"), row("c.jpg", "P2")]).images == 3


def test_nothing_to_do_is_said(store: DirectoryStore) -> None:
    with pytest.raises(ConfigurationError, match="no images were found"):
        frozen(store, [])


def test_a_file_listed_twice_is_refused(store: DirectoryStore) -> None:
    with pytest.raises(ConfigurationError, match=r"'a\.jpg' of patient 'P1' is listed twice"):
        frozen(store, [row("a.jpg"), row("a.jpg", version="2")])


class _KilledError(Exception):
    pass


class DyingStore(DirectoryStore):
    """A store whose user is killed after so many writes."""

    writes = 0

    def create(self, key: str, data: bytes) -> bool:
        if not self.exists(key):
            if self.writes == 0:
                raise _KilledError
            self.writes -= 1
        return super().create(key, data)


def test_a_freeze_that_was_killed_left_no_run(store: DirectoryStore) -> None:
    rows = [row(f"{number}.jpg", patient=f"P{number % 2}") for number in range(1500)]
    dying = DyingStore(store.path)
    for _ in ("first patient", "second patient", "first shard", "second shard", "run"):
        with pytest.raises(_KilledError):
            frozen(dying, rows)
        assert list_runs(store) == []
        dying.writes = 1
    run = frozen(store, rows)
    assert read_run(store, run.run_id) == run
    assert [found for _, found in iterate_rows(store, run)] == sorted(
        rows, key=lambda one: (one.patient, one.source)
    )


def test_a_run_record_of_another_version_is_not_misread(store: DirectoryStore) -> None:
    run = frozen(store, [row("a.jpg")])
    store.replace(keys.run(run.run_id), b'{"run_id": "x", "unheard": 1}')
    with pytest.raises(ConfigurationError, match="written by another version"):
        read_run(store, run.run_id)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(NAMES, NAMES)
def test_keys_are_free_of_names(source: str, patient: str) -> None:
    store = DirectoryStore(Path(__file__))
    run = RunRecord(
        schema_version=1,
        run_id="0" * 20,
        root="file:///archive",
        bundle="/bundle",
        model=MODEL,
        options=AnalysisOptions(),
        images=1,
        patients=1,
        ignored=0,
        shards=1,
        manifest_digest="0" * 64,
    )
    names = Pseudonyms(b"key")
    for key in (
        keys.seen(names.file(row(source, patient), run)),
        keys.entry(names.archive(source), names.patient(patient)),
        keys.watched(names.archive(source), names.patient(patient)),
        keys.cleared(names.archive(source), names.patient(patient)),
        keys.patient(names.patient(patient)),
    ):
        assert len(key) < 110
        assert store._place(key)
