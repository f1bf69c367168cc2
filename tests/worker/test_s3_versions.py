"""What was in a bucket when it was listed is what is read, or nothing."""

from __future__ import annotations

import tracemalloc
from unittest.mock import ANY

import pytest
from botocore.exceptions import ClientError

from pipeline.errors import BadInputError
from tests.conftest import AnyBucket
from worker import s3
from worker.archive import read_row_bytes
from worker.place import Place
from worker.planning import manifest_row, plan
from worker.records import ManifestRow
from worker.watch import _together


@pytest.fixture
def versioned(any_bucket: AnyBucket) -> str:
    """A bucket that began to keep versions when something was there already."""
    put(any_bucket.name, "in/P/before.jpg", b"image before")
    s3.client().put_bucket_versioning(
        Bucket=any_bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    return any_bucket.name


def put(bucket: str, key: str, data: bytes) -> str | None:
    return s3.client().put_object(Bucket=bucket, Key=key, Body=data).get("VersionId")


def listed(bucket: str) -> dict[str, ManifestRow]:
    found = plan(Place(bucket, "in/"))
    rows = map(manifest_row, found.files, found.patients)
    return {row.source.removeprefix("P/"): row for row in rows}


def read(bucket: str, row: ManifestRow, max_bytes: int = 1000) -> bytes:
    return read_row_bytes(f"s3://{bucket}/in", row, max_bytes=max_bytes)


def refusal(bucket: str, row: ManifestRow) -> str:
    with pytest.raises(BadInputError) as caught:
        read(bucket, row)
    return caught.value.reason


def test_a_row_has_the_version_of_its_object(versioned: str) -> None:
    first = put(versioned, "in/P/a.jpg", b"image 1")
    second = put(versioned, "in/P/a.jpg", b"image 2")
    assert first != second
    rows = listed(versioned)
    assert rows["a.jpg"].version.split(" ") == [ANY, second]
    assert " " not in rows["before.jpg"].version
    assert read(versioned, rows["a.jpg"]) == b"image 2"
    assert read(versioned, rows["before.jpg"]) == b"image before"


def test_what_was_replaced_or_deleted_since_is_read_as_it_was(versioned: str) -> None:
    for name in ("a", "b"):
        put(versioned, f"in/P/{name}.jpg", f"image {name}".encode())
    rows = listed(versioned)
    put(versioned, "in/P/a.jpg", b"image of another")
    s3.client().delete_object(Bucket=versioned, Key="in/P/b.jpg")
    assert read(versioned, rows["a.jpg"]) == b"image a"
    assert read(versioned, rows["b.jpg"]) == b"image b"
    # Listed anew, they are what they are now.
    assert "b.jpg" not in listed(versioned)
    assert read(versioned, listed(versioned)["a.jpg"]) == b"image of another"


def test_a_version_that_was_removed_for_good_is_not_replaced_by_another(versioned: str) -> None:
    version = put(versioned, "in/P/a.jpg", b"image a")
    row = listed(versioned)["a.jpg"]
    s3.client().delete_object(Bucket=versioned, Key="in/P/a.jpg", VersionId=version)
    assert refusal(versioned, row) == "missing"
    put(versioned, "in/P/a.jpg", b"image b")
    assert refusal(versioned, row) == "changed"


def test_what_was_there_before_versions_is_known_by_its_tag(versioned: str) -> None:
    """Its version is called ``null``, and may become another's."""
    row = listed(versioned)["before.jpg"]
    put(versioned, "in/P/before.jpg", b"image after")
    assert refusal(versioned, row) == "changed"


def test_where_versions_may_not_be_listed_or_read_tags_have_to_do(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    put(bucket, "in/P/a.jpg", b"image a")
    row = listed(bucket)["a.jpg"]
    put(bucket, "in/P/a.jpg", b"image b")
    real = s3.client().get_object

    def denied(**given: object) -> None:
        response = {"Error": {"Code": "AccessDenied"}}
        raise ClientError(response, "GetObject")

    def get(**given: object) -> object:
        return denied() if "VersionId" in given else real(**given)

    monkeypatch.setattr(s3.client(), "get_object", get)
    assert refusal(bucket, row) == "changed"
    monkeypatch.setattr(s3.client(), "list_object_versions", denied)
    assert " " not in listed(bucket)["a.jpg"].version


def test_an_image_that_was_renamed_in_such_a_bucket_is_counted_once(versioned: str) -> None:
    put(versioned, "in/P/a.jpg", b"image a")
    before = listed(versioned)
    put(versioned, "in/P/better.jpg", b"image a")
    s3.client().delete_object(Bucket=versioned, Key="in/P/a.jpg")
    whole = _together(tuple(before.values()), tuple(listed(versioned).values()))
    assert [row.source for row in whole] == ["P/before.jpg", "P/better.jpg"]


def test_an_image_is_in_memory_once(bucket: str) -> None:
    size = 24_000_000
    put(bucket, "in/P/a.jpg", bytes(size))
    row = listed(bucket)["a.jpg"]
    tracemalloc.start()
    try:
        assert len(read(bucket, row, max_bytes=2 * size)) == size
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * size


def test_an_object_that_is_larger_than_it_said_is_not_taken_in(bucket: str) -> None:
    put(bucket, "in/P/a.jpg", bytes(50_000_000))
    row = listed(bucket)["a.jpg"].model_copy(update={"size": 10})
    tracemalloc.start()
    try:
        assert refusal(bucket, row) == "too_many_bytes"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
