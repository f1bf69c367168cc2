"""Hashes of names: the same everywhere in a store, of no use to whoever lacks its key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from benchmarks.rig.laboratory import Laboratory, make_laboratory
from pipeline.canonical import digest
from pipeline.errors import ConfigurationError
from worker import keys
from worker.place import Place
from worker.pseudonyms import pseudonyms
from worker.s3 import S3Store
from worker.store import DirectoryStore

NAMES = ("Ada Lovelace", "Ada Lovelace/field 1.jpg")


def test_only_the_owner_may_read_the_key(store: DirectoryStore) -> None:
    pseudonyms(store)
    mode = (store.path / keys.NAMES_KEY).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    store.create("runs/a.json", b"")
    assert stat.S_IMODE((store.path / "runs/a.json").stat().st_mode) & 0o044


def test_every_process_finds_the_same_key_and_every_store_has_its_own(tmp_path: Path) -> None:
    stores = [make_laboratory(tmp_path, out).store for out in ("a", "a", "b")]
    found = [pseudonyms(one).patient("P") for one in stores]
    assert found[0] == found[1] != found[2]
    assert len({found[0], pseudonyms(stores[0]).archive("P"), digest("P")}) == 3


def test_a_bucket_keeps_the_key_as_well(bucket: str) -> None:
    first, second = (S3Store(Place(bucket, "out/")) for _ in range(2))
    assert pseudonyms(first).patient("P") == pseudonyms(second).patient("P")


@pytest.mark.parametrize("damage", [None, b"", b"not hex", b"00" * 16])
def test_a_key_that_is_lost_is_not_replaced_by_another(
    store: DirectoryStore, damage: bytes | None
) -> None:
    store.create("runs/a.json", b"")
    if damage is not None:
        store.create(keys.NAMES_KEY, damage)
    with pytest.raises(ConfigurationError, match="restore it from the back-up"):
        pseudonyms(store)
    assert store.read(keys.NAMES_KEY) == damage


def test_no_key_of_a_store_is_a_name_or_a_hash_that_names_give(laboratory: Laboratory) -> None:
    laboratory.add(NAMES[1], "image")
    laboratory.screen()
    found = [path.relative_to(laboratory.store.path) for path in laboratory.store.path.rglob("*")]
    text = "\n".join(map(str, found))
    assert "seen" in text and "patients" in text
    assert not [name for name in ("Ada", "field 1", *map(digest, NAMES)) if name[:20] in text]


def test_reports_do_not_depend_on_the_key(tmp_path: Path) -> None:
    one, other = (make_laboratory(tmp_path, out) for out in ("a", "b"))
    one.fill(2, 2)
    one.screen()
    other.screen()
    assert one.reports() == other.reports()
