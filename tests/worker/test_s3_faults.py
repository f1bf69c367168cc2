"""Calls of an object store that go wrong on the way: through a front that lets them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from benchmarks.rig.s3_front import Call, Front
from pipeline.errors import StoreUnavailableError
from tests.s3_server import use_endpoint
from worker import s3, s3_parts
from worker.archive import read_row_bytes
from worker.place import Place
from worker.planning import manifest_row, plan
from worker.publish import open_publisher
from worker.s3 import S3Store
from worker.settings import load_settings


class Faults:
    """Which calls fail how; those that are listed are used up."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._when: Callable[[Call], bool] = lambda _: False
        self._left: list[str] = []
        self._always: str | None = None

    def let(self, when: Callable[[Call], bool], *faults: str, always: str | None = None) -> None:
        self.calls.clear()
        self._when, self._left, self._always = when, list(faults), always

    def __call__(self, call: Call) -> str | None:
        self.calls.append(call)
        if not self._when(call):
            return None
        return self._left.pop(0) if self._left else self._always


@pytest.fixture
def faults(bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    found = Faults()
    # No more than is needed to see that a call is repeated.
    monkeypatch.setattr(s3, "_TRIES", 3)
    monkeypatch.setenv("SCREEN_SOFT_LIMIT_SECONDS", "4.5")
    with Front(s3_endpoint, found, page_keys=3) as front:
        use_endpoint(monkeypatch, front.endpoint)
        yield found


@pytest.fixture
def store(bucket: str, faults: Faults) -> S3Store:
    made = S3Store(Place(bucket, "out/"))
    assert made.conditional
    return made


def of(method: str, key: str = "") -> Callable[[Call], bool]:
    return lambda call: call.method == method and key in call.path


@pytest.mark.parametrize("fault", ["busy", "broken", "conflict", "reset", "silent", "answer lost"])
def test_a_value_is_written_once_whatever_becomes_of_the_call(
    store: S3Store, faults: Faults, fault: str
) -> None:
    faults.let(of("PUT"), fault)
    assert store.create("a.json", b"first")
    assert sum(call.method == "PUT" for call in faults.calls) == 2
    assert not store.create("a.json", b"second")
    assert store.read("a.json") == b"first"


def test_trying_out_conditional_puts_outlasts_a_conflict(bucket: str, faults: Faults) -> None:
    faults.let(lambda call: call.method == "PUT" and call.conditional, "conflict", "conflict")
    assert S3Store(Place(bucket, "out/")).conditional
    assert sum(call.conditional for call in faults.calls) == 3


def test_who_is_beaten_to_it_is_not_told_otherwise_by_a_repeated_call(
    store: S3Store, faults: Faults
) -> None:
    """The first try fails, another process writes, the second try is refused."""
    other = S3Store(store.place)

    def write_first(call: Call) -> bool:
        faults.let(of("PUT"))
        assert other.create("a.json", b"another's")
        return call.method == "PUT"

    faults.let(write_first, "busy")
    # The front asks once for the call that fails; the other's goes through.
    assert not store.create("a.json", b"mine")
    assert store.read("a.json") == b"another's"


@pytest.mark.parametrize("fault", ["reset in the body", "body cut short", "busy", "silent"])
def test_a_value_is_read_whole_or_read_again(store: S3Store, faults: Faults, fault: str) -> None:
    store.replace("a.json", b"0123456789" * 1000)
    faults.let(of("GET", "a.json"), fault, fault)
    assert store.read("a.json") == b"0123456789" * 1000


@pytest.mark.parametrize("fault", ["reset in the body", "body cut short"])
def test_a_value_that_is_shorter_than_what_is_asked_for_is_read_whole(
    store: S3Store, faults: Faults, fault: str
) -> None:
    store.replace("a.json", b"0123456789" * 1000)
    faults.let(of("GET", "a.json"), fault)
    assert s3.read(store.place, "out/store/a.json", most=20_000) == b"0123456789" * 1000


@pytest.mark.parametrize("fault", ["reset in the body", "body cut short"])
def test_a_value_that_never_arrives_whole_is_none(
    store: S3Store, faults: Faults, fault: str
) -> None:
    store.replace("a.json", b"0123456789")
    faults.let(of("GET", "a.json"), always=fault)
    with pytest.raises(StoreUnavailableError):
        store.read("a.json")


@pytest.mark.parametrize("fault", ["reset in the body", "body cut short"])
def test_a_value_is_absent_when_the_whole_answer_says_so(
    store: S3Store, faults: Faults, fault: str
) -> None:
    faults.let(of("GET", "a.json"), fault)
    assert store.read("a.json") is None


@pytest.mark.parametrize("fault", ["reset in the body", "body cut short"])
def test_an_image_is_read_whole_or_read_again(bucket: str, faults: Faults, fault: str) -> None:
    s3.client().put_object(Bucket=bucket, Key="in/P/a.jpg", Body=b"image" * 1000)
    found = plan(Place(bucket, "in/"))
    row = manifest_row(found.files[0], "P")
    faults.let(of("GET", "a.jpg"), fault)
    assert read_row_bytes(found.root.as_uri(), row, max_bytes=10_000) == b"image" * 1000


@pytest.mark.parametrize("fault", ["busy", "reset in the body", "body cut short", "broken"])
def test_a_listing_that_fails_on_a_later_page_is_repeated_there(
    bucket: str, faults: Faults, fault: str
) -> None:
    fill(bucket, 7)
    faults.let(lambda call: call.later_page, fault)
    assert len(plan(Place(bucket, "in/")).files) == 7


def test_a_listing_goes_over_pages(store: S3Store, faults: Faults) -> None:
    keys = [f"done/r/{number:02}.json" for number in range(7)]
    for key in keys:
        store.replace(key, b"{}")
    faults.let(lambda _: False)
    assert list(store.list("done/r/")) == keys
    assert [call.later_page for call in faults.calls] == [False, True, True]


def test_a_listing_without_its_last_page_is_no_archive(bucket: str, faults: Faults) -> None:
    """A shorter archive would be screened without a word about the rest."""
    fill(bucket, 7)
    faults.let(lambda call: call.later_page, None, always="busy")
    with pytest.raises(StoreUnavailableError, match="SlowDown"):
        plan(Place(bucket, "in/"))


def test_a_store_that_cannot_be_listed_to_the_end_says_so(store: S3Store, faults: Faults) -> None:
    for number in range(7):
        store.replace(f"done/{number}.json", b"{}")
    faults.let(lambda call: call.later_page, always="broken")
    with pytest.raises(StoreUnavailableError):
        list(store.list("done/"))


def test_a_server_that_never_answers_is_given_up_before_an_image_could_be_blamed(
    store: S3Store, faults: Faults
) -> None:
    """All tries of two calls, the one that failed and the one that cleans up, are within it."""
    faults.let(lambda _: True, always="silent")
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        store.read("a.json")
    assert time.monotonic() - started < load_settings().soft_limit_seconds


def fill(bucket: str, images: int) -> None:
    for number in range(images):
        s3.client().put_object(Bucket=bucket, Key=f"in/P/{number}.jpg", Body=b"image")


def test_parts_that_were_put_together_without_an_answer_are_an_object(
    bucket: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_parts, "PART_BYTES", 5 * 1024 * 1024)
    faults.let(of("POST", "uploadId="), "answer lost")
    publisher = open_publisher(Place(bucket, "out/"))
    publisher.write("index.html", bytes(6_000_000))
    assert publisher.read("index.html") == bytes(6_000_000)
