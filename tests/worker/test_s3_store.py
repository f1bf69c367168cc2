from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from pipeline.errors import ConfigurationError, StoreUnavailableError
from tests.s3_server import free_port, use_endpoint
from worker import s3
from worker.place import Place
from worker.s3 import S3Store, has_conditional_puts
from worker.store import open_store


@pytest.fixture
def store(bucket: str) -> S3Store:
    return S3Store(Place.of(f"s3://{bucket}/night/one"))


@pytest.mark.parametrize("key", ["../x", "/x", "a//b", "a/../b", "A", ".x", "", "a\nb"])
def test_what_is_no_key_is_refused(store: S3Store, key: str) -> None:
    for use in (store.read, store.exists, store.delete, lambda key: store.create(key, b"")):
        with pytest.raises(ValueError, match="not a store key"):
            use(key)


def test_a_server_that_ignores_the_condition_is_found_out(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignore_conditions(monkeypatch)
    assert not has_conditional_puts(store.place)
    plain = S3Store(store.place)
    assert plain.create("a.json", b"first")
    assert not plain.create("a.json", b"second")
    assert plain.read("a.json") == b"first"


def test_a_store_begins_though_another_process_tries_the_server_out(store: S3Store) -> None:
    probe = {"Bucket": store.place.bucket, "Key": f"{store.place.prefix}store/probe/{'0' * 32}"}
    s3.client().put_object(**probe, Body=b"probe")
    with pytest.raises(ConfigurationError, match="holds no results"):
        open_store(store.uri)
    open_store(store.uri, create=True)
    assert store.read("schema.json") is not None
    open_store(store.uri)


def test_a_store_that_another_process_begins_in_the_same_moment_is_used(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = S3Store.is_empty

    def begin_and_look(self: S3Store) -> bool:
        monkeypatch.setattr(S3Store, "is_empty", look)
        open_store(self.uri, create=True)
        return look(self)

    monkeypatch.setattr(S3Store, "is_empty", begin_and_look)
    assert open_store(store.uri, create=True).read("schema.json") is not None


def test_what_is_no_store_is_not_made_one(store: S3Store) -> None:
    store.replace("a.json", b"")
    with pytest.raises(ConfigurationError, match="has layout unknown"):
        open_store(store.uri, create=True)


def ignore_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a server to which the header is unknown; Swift knows it, and refuses."""
    s3.forget()
    client = s3.client()
    real = client.put_object
    monkeypatch.setattr(
        client,
        "put_object",
        lambda IfNoneMatch=None, **given: real(**given),  # noqa: N803
    )


def test_a_server_that_is_away_pauses_the_run(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_TRIES", 1)
    use_endpoint(monkeypatch, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        store.read("a.json")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (503, "SlowDown", StoreUnavailableError),
        (500, "InternalError", StoreUnavailableError),
        (409, "OperationAborted", StoreUnavailableError),
        (403, "AccessDenied", ConfigurationError),
        (403, "SignatureDoesNotMatch", ConfigurationError),
    ],
)
def test_what_an_answer_means(
    store: S3Store,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: str,
    expected: type[Exception],
) -> None:
    monkeypatch.setattr(s3, "_CONFLICT_PAUSES_SECONDS", (0.0,))

    def answer(**_: object) -> None:
        response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(response, "PutObject")

    assert store.conditional
    monkeypatch.setattr(s3.client(), "put_object", answer)
    with pytest.raises(expected):
        store.create("a.json", b"")


def test_a_conflict_is_waited_out(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.conditional
    real, calls = s3.client().put_object, []

    def answer(**given: object) -> object:
        calls.append(given)
        if len(calls) < 3:
            response = {"Error": {"Code": "ConditionalRequestConflict"}}
            raise ClientError(response, "PutObject")
        return real(**given)

    monkeypatch.setattr(s3.client(), "put_object", answer)
    assert store.create("a.json", b"x")
    assert len(calls) == 3


@pytest.mark.parametrize(("most", "expected"), [(-1, b"long"), (0, b""), (3, b"lon"), (9, b"long")])
def test_no_more_is_read_than_is_asked_for(store: S3Store, most: int, expected: bytes) -> None:
    store.replace("a.json", b"long")
    assert s3.read(store.place, f"{store.place.prefix}store/a.json", most=most) == expected


def test_without_credentials_it_says_what_to_set(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    s3.forget()
    with pytest.raises(ConfigurationError, match="no credentials"):
        store.read("a.json")


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("s3://b/x/y/", "b", "x/y/"),
        ("s3://b/mit%20Raum", "b", "mit Raum/"),
    ],
)
def test_a_place_is_a_bucket_and_a_prefix(uri: str, bucket: str, prefix: str) -> None:
    assert Place.of(uri) == (bucket, prefix)


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "file:///x", "s3://b/x?y", "x"])
def test_what_is_no_place_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="s3://bucket/prefix"):
        Place.of(uri)


def test_the_fault_of_an_endpoint_is_named_without_secrets() -> None:
    error = EndpointConnectionError(endpoint_url="http://user:secret@host")
    with (
        pytest.raises(StoreUnavailableError) as caught,
        s3.s3_faults(Place("b", "")),
    ):
        raise error
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"SCREEN_S3_ENCRYPTION": "AES256"}, {"ServerSideEncryption": "AES256"}),
        (
            {"SCREEN_S3_ENCRYPTION": "aws:kms", "SCREEN_S3_KMS_KEY": "laboratory"},
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "laboratory"},
        ),
    ],
)
def test_encryption_that_is_asked_for_is_had(
    store: S3Store,
    monkeypatch: pytest.MonkeyPatch,
    setting: dict[str, str],
    expected: dict[str, str],
) -> None:
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    s3.forget()
    assert store.create("a.json", b"created")
    store.replace("b.json", b"replaced")
    for key in ("a.json", "b.json"):
        found = s3.client().head_object(Bucket=store.place.bucket, Key=f"night/one/store/{key}")
        assert expected.items() <= found.items()


def test_who_reads_pays_where_that_is_asked(
    store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCREEN_S3_REQUESTER_PAYS", "true")
    s3.forget()
    calls: list[dict[str, object]] = []
    real = s3.client().get_object
    monkeypatch.setattr(
        s3.client(), "get_object", lambda **given: (calls.append(given), real(**given))[1]
    )
    store.replace("a.json", b"x")
    assert store.read("a.json") == b"x"
    assert calls[0]["RequestPayer"] == "requester"
