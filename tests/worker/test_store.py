from __future__ import annotations

import errno
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.rig.laboratory import python, wait_until
from pipeline.errors import ConfigurationError, StoreUnavailableError
from worker.store import DirectoryStore, open_store

KEYS = st.from_regex(
    r"[a-z0-9_-][a-z0-9._-]{0,8}(/[a-z0-9_-][a-z0-9._-]{0,8}){0,3}", fullmatch=True
)


@pytest.fixture(params=["with hard links", "without hard links"])
def any_store(
    request: pytest.FixtureRequest, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> DirectoryStore:
    if request.param == "without hard links":
        monkeypatch.setattr(os, "link", _refuse_link)
    return store


def _refuse_link(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_what_was_written_is_read(any_store: DirectoryStore) -> None:
    assert any_store.create("results/ab/1.json", b"one")
    assert any_store.read("results/ab/1.json") == b"one"
    assert any_store.exists("results/ab/1.json")


def test_a_value_is_written_once(any_store: DirectoryStore) -> None:
    assert any_store.create("done/1.json", b"first")
    assert not any_store.create("done/1.json", b"second")
    assert any_store.read("done/1.json") == b"first"


def test_replace_and_delete(store: DirectoryStore) -> None:
    store.replace("log/a.json", b"one")
    store.replace("log/a.json", b"two")
    assert store.read("log/a.json") == b"two"
    store.delete("log/a.json")
    store.delete("log/a.json")
    assert store.read("log/a.json") is None
    assert not store.exists("log/a.json")


def test_listing_is_sorted_and_of_one_folder(store: DirectoryStore) -> None:
    for key in ("done/b/2.json", "done/b/1.json", "done/a/9.json", "failed/b/1.json"):
        store.create(key, b"")
    assert list(store.list("done/")) == ["done/a/9.json", "done/b/1.json", "done/b/2.json"]
    assert list(store.list("done/b/")) == ["done/b/1.json", "done/b/2.json"]
    assert list(store.list("nothing/")) == []


@pytest.mark.parametrize(
    "key", ["../x", "/etc/passwd", "a/../b", "", "a//b", "Müller", "a/.", "A", "a\n"]
)
def test_a_key_cannot_lead_out_of_the_store(store: DirectoryStore, key: str) -> None:
    with pytest.raises(ValueError, match="not a store key"):
        store.create(key, b"")
    with pytest.raises(ValueError, match="not a store key"):
        store.read(key)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(key=KEYS, values=st.lists(st.binary(max_size=200), min_size=2, max_size=8))
def test_of_many_writers_one_wins_and_its_value_stays(
    any_store: DirectoryStore, key: str, values: list[bytes]
) -> None:
    key = f"race{time.monotonic_ns()}/{key}"
    start = threading.Barrier(len(values))

    def write(value: bytes) -> bool:
        start.wait()
        return any_store.create(key, value)

    with ThreadPoolExecutor(len(values)) as writers:
        won = list(writers.map(write, values))
    assert won.count(True) == 1
    assert any_store.read(key) == values[won.index(True)]
    assert list(any_store.list("tmp/")) == []


RACE = """
import errno, os, sys
from worker.store import open_store
def refuse(*_, **__):
    raise OSError(errno.EPERM, "no links here")
if sys.argv[3] == "without":
    os.link = refuse
store = open_store(sys.argv[1])
while not store.exists("go.json"):
    pass
won = [str(n) for n in range(60) if store.create(f"race/{n}.json", sys.argv[2].encode() * 5000)]
store.create(f"won/{sys.argv[2]}.txt", " ".join(won).encode())
"""


@pytest.mark.parametrize("links", ["with", "without"])
def test_of_many_processes_one_wins_each_key(store: DirectoryStore, links: str) -> None:
    writers = [python(RACE, store.uri, name, links) for name in "abc"]
    time.sleep(1)
    store.create("go.json", b"")
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    won = {name: (store.read(f"won/{name}.txt") or b"").split() for name in "abc"}
    assert sorted(int(number) for numbers in won.values() for number in numbers) == [*range(60)]
    for name, numbers in won.items():
        for number in numbers:
            assert store.read(f"race/{int(number)}.json") == name.encode() * 5000


WRITE_BIG = """
import sys
from worker.store import open_store
store = open_store(sys.argv[1])
for number in range(1_000_000):
    store.create(f"big/{sys.argv[2]}-{number}.bin", b"%d" % (number % 10) * 300_000)
"""


def test_a_writer_killed_at_any_moment_leaves_no_partial_value(store: DirectoryStore) -> None:
    for attempt in range(6):
        writer = python(WRITE_BIG, store.uri, str(attempt))
        wait_until(lambda: any(store.list("big/")))
        time.sleep(0.01 * attempt)
        writer.kill()
        writer.wait()
    values = {store.read(key) for key in store.list("big/")}
    assert values
    assert all(value is not None and value == value[:1] * 300_000 for value in values)


def test_what_killed_writers_left_is_removed_when_it_is_old(store: DirectoryStore) -> None:
    store.create("a.json", b"")
    old, new = store.path / "tmp" / "old", store.path / "tmp" / "new"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (0, 0))
    open_store(str(store.path.parent), create=True)
    assert not old.exists()
    assert new.exists()


def test_a_claim_whose_owner_was_killed_is_broken(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", _refuse_link)
    claims: list[Path] = []
    real_open = os.open

    def remember(path: str | Path, *arguments: int, **more: int) -> int:
        if str(path).endswith(".claim"):
            claims.append(Path(path))
        return real_open(path, *arguments, **more)

    monkeypatch.setattr(os, "open", remember)
    store.create("a.json", b"one")
    store.delete("a.json")
    claims[0].write_bytes(b"")
    os.utime(claims[0], (0, 0))
    assert store.create("a.json", b"two")
    assert store.read("a.json") == b"two"
    assert not claims[0].exists()


# --- stores that are away, full, foreign -----------------------------------------------------


def test_a_full_disk_is_a_fault_that_passes(small_disk: Callable[[int], Path]) -> None:
    store = open_store(str(small_disk(256 * 1024)), create=True)
    store.create("results/big.bin", b"x" * 150_000)
    with pytest.raises(StoreUnavailableError, match="No space left"):
        store.create("results/more.bin", b"y" * 150_000)
    assert not store.exists("results/more.bin")
    assert list(store.list("tmp/")) == []
    store.delete("results/big.bin")
    assert store.create("results/more.bin", b"y" * 150_000)


def test_a_write_cut_short_leaves_nothing(store: DirectoryStore) -> None:
    """The same without permission to mount: the kernel lets no file of the child grow."""
    child = os.fork()
    if child == 0:
        status = 1
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            store.create("results/big.bin", b"x" * 5000)
        except StoreUnavailableError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not store.exists("results/big.bin")
    assert list(store.list("tmp/")) == []


def test_an_unmounted_share_is_not_an_empty_store(store: DirectoryStore) -> None:
    store.create("done/1.json", b"")
    store.path.rename(store.path.with_name("elsewhere"))
    with pytest.raises(StoreUnavailableError, match="mounted"):
        store.read("done/1.json")
    with pytest.raises(StoreUnavailableError, match="mounted"):
        store.exists("done/1.json")
    with pytest.raises(StoreUnavailableError, match="mounted"):
        list(store.list("done/"))
    with pytest.raises(StoreUnavailableError):
        store.create("done/2.json", b"")
    assert not store.path.exists()


def test_a_store_that_may_not_be_written_needs_a_person(
    open_folder: Path, as_ordinary_user: Callable[[Callable[[], None]], None]
) -> None:
    store = open_store(str(open_folder), create=True)
    store.create("a.json", b"1")
    store.path.chmod(0o555)

    def use() -> None:
        assert store.read("a.json") == b"1"
        with pytest.raises(ConfigurationError, match="give this user permission"):
            store.create("b.json", b"2")

    as_ordinary_user(use)


@pytest.mark.parametrize("schema", [b'{"schema":1}', b'{"schema":3}', b"{}", b"[]", b"not json"])
def test_a_store_of_another_version_is_refused(store: DirectoryStore, schema: bytes) -> None:
    store.replace("schema.json", schema)
    for create in (False, True):
        with pytest.raises(ConfigurationError, match="choose another --out"):
            open_store(store.uri, create=create)


def test_a_store_without_its_schema_is_refused(store: DirectoryStore) -> None:
    store.create("runs/1.json", b"")
    store.delete("schema.json")
    with pytest.raises(ConfigurationError, match="layout unknown"):
        open_store(store.uri, create=True)


def test_no_store_is_made_by_looking_for_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no results"):
        open_store(str(tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()


def test_a_store_is_opened_by_its_uri(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "Ärzte & co #1 %20"), create=True)
    store.create("a.json", b"1")
    assert open_store(store.uri).read("a.json") == b"1"
    with pytest.raises(ConfigurationError, match="s3://"):
        open_store("s3://bucket/prefix")
