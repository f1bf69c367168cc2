"""What holds on every S3 server: moto's, and OpenStack Swift, which has no conditional puts."""

from __future__ import annotations

import threading

import pytest
from botocore.exceptions import EndpointConnectionError

from pipeline.errors import BadInputError, ConfigurationError, StoreUnavailableError
from tests.conftest import AnyBucket
from worker import s3, s3_parts
from worker.archive import read_row_bytes
from worker.place import Place
from worker.planning import manifest_row, plan
from worker.publish import open_publisher
from worker.records import ManifestRow
from worker.s3 import S3Store

#: Names that have to be quoted somewhere on their way.
AWKWARD = ["a b.jpg", "ü/白.jpg", "100%25.jpg", "a+b&c=d.jpg", "P?/#.jpg"]


@pytest.fixture
def store(any_bucket: AnyBucket) -> S3Store:
    return S3Store(Place.of(f"s3://{any_bucket.name}/night/one"))


def test_a_server_is_known_for_what_it_can(store: S3Store, any_bucket: AnyBucket) -> None:
    assert store.conditional == any_bucket.conditional
    assert list(store.list("probe/")) == []


def test_a_value_is_written_once(store: S3Store) -> None:
    assert store.read("a/b.json") is None
    assert not store.exists("a/b.json")
    assert store.create("a/b.json", b"first")
    assert not store.create("a/b.json", b"second")
    assert store.read("a/b.json") == b"first"
    store.replace("a/b.json", b"third")
    assert store.read("a/b.json") == b"third"
    assert store.exists("a/b.json")
    store.delete("a/b.json")
    store.delete("a/b.json")
    assert store.read("a/b.json") is None


def test_of_many_writers_one_stays(store: S3Store, any_bucket: AnyBucket) -> None:
    """Without conditional puts the latest of those that looked at the same time."""
    assert store.conditional == any_bucket.conditional
    start = threading.Barrier(8)
    won: list[bytes] = []

    def write(number: int) -> None:
        start.wait()
        if store.create("done/x.json", b"%d" % number):
            won.append(b"%d" % number)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert store.read("done/x.json") in won
    assert len(won) == 1 or not any_bucket.conditional


def test_a_listing_stays_below_its_prefix(store: S3Store) -> None:
    keys = [f"done/r/00000/{number:04}.json" for number in range(12)]
    for key in keys:
        store.replace(key, b"{}")
    store.replace("done/r2/x.json", b"{}")
    assert list(store.list("done/r/")) == keys
    assert list(store.list("nothing/")) == []


def test_an_archive_is_read_as_it_was_listed(any_bucket: AnyBucket) -> None:
    for name in AWKWARD:
        put(any_bucket, name, f"image {name}".encode())
    rows = listed(any_bucket)
    assert sorted(row.source for row in rows) == sorted(AWKWARD)
    for row in rows:
        assert read(any_bucket, row) == f"image {row.source}".encode()


def test_an_object_that_is_another_one_now_is_not_read(any_bucket: AnyBucket) -> None:
    put(any_bucket, "P/a.jpg", b"image 1")
    put(any_bucket, "P/b.jpg", b"image 1")
    replaced, removed = listed(any_bucket)
    put(any_bucket, "P/a.jpg", b"image 2")
    s3.client().delete_object(Bucket=any_bucket.name, Key="in/P/b.jpg")
    for row, reason in ((replaced, "changed"), (removed, "missing")):
        with pytest.raises(BadInputError) as caught:
            read(any_bucket, row)
        assert caught.value.reason == reason


def test_what_is_published_is_written_when_it_differs(any_bucket: AnyBucket) -> None:
    publisher = open_publisher(Place(any_bucket.name, "out/"))
    where = {"Bucket": any_bucket.name, "Key": "out/P/1.png"}
    publisher.write("P/1.png", b"picture")
    publisher.write("P/2.png", b"other")
    first = s3.client().head_object(**where)["LastModified"]
    publisher.write("P/1.png", b"picture")
    assert s3.client().head_object(**where)["LastModified"] == first
    publisher.write("P/1.png", b"new")
    publisher.remove_others("P", {"1.png"})
    assert publisher.read("P/1.png") == b"new"
    assert publisher.read("P/2.png") is None


def test_a_bucket_that_is_not_there_is_a_matter_of_configuration(any_bucket: AnyBucket) -> None:
    absent = S3Store(Place.of("s3://there-is-no-such-bucket/x"))
    with pytest.raises(ConfigurationError, match="no bucket there-is-no-such-bucket"):
        absent.read("a.json")
    with pytest.raises(ConfigurationError, match="no bucket"):
        absent.replace("a.json", b"")


def put(bucket: AnyBucket, name: str, data: bytes) -> None:
    s3.client().put_object(Bucket=bucket.name, Key=f"in/{name}", Body=data)


def listed(bucket: AnyBucket) -> list[ManifestRow]:
    found = plan(Place(bucket.name, "in/"))
    return [
        manifest_row(file, patient)
        for file, patient in zip(found.files, found.patients, strict=True)
    ]


def read(bucket: AnyBucket, row: ManifestRow) -> bytes:
    return read_row_bytes(f"s3://{bucket.name}/in", row, max_bytes=1000)


def test_what_is_large_is_written_in_parts(
    any_bucket: AnyBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_parts, "PART_BYTES", 5 * 1024 * 1024)
    publisher = open_publisher(Place(any_bucket.name, "out/"))
    page = b"0123456789" * 1_100_000
    publisher.write("index.html", page)
    assert publisher.read("index.html") == page
    found = s3.client().head_object(Bucket=any_bucket.name, Key="out/index.html")
    assert found["ETag"].strip('"').endswith("-3")
    assert found["ContentType"].startswith("text/html")
    monkeypatch.setattr(s3_parts, "put", None)
    publisher.write("index.html", page)


def test_parts_of_what_cannot_be_written_do_not_stay(
    any_bucket: AnyBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_parts, "PART_BYTES", 5 * 1024 * 1024)
    real = s3.client().upload_part

    def fail(**given: object) -> object:
        if given["PartNumber"] == 2:
            raise EndpointConnectionError(endpoint_url="http://host")
        return real(**given)

    monkeypatch.setattr(s3.client(), "upload_part", fail)
    publisher = open_publisher(Place(any_bucket.name, "out/"))
    with pytest.raises(StoreUnavailableError):
        publisher.write("index.html", bytes(6_000_000))
    assert publisher.read("index.html") is None
    assert not s3.client().list_multipart_uploads(Bucket=any_bucket.name).get("Uploads")
