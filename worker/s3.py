"""S3 and what speaks like it: clients, what their failures mean, and buckets as result stores.

Credentials come from boto3's standard chain and from nowhere else; ``AWS_ENDPOINT_URL_S3`` names
another server (MinIO, Ceph, Swift). No path of a file system is ever made from a key.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from typing import Any
from uuid import uuid4

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from pipeline.errors import ConfigurationError, ScreenError, StoreUnavailableError
from worker.place import Place
from worker.settings import Settings, load_settings
from worker.store import check_key

#: Tries of one call, with growing, random pauses between them, before it counts as failed.
_TRIES = 5

#: Part of an image's time limit that the tries of a call may wait for answers: a server that never
#: answers is given up, and cleaned up after, before an image could be blamed for the time.
_PART_OF_LIMIT = 1 / 3

_LONGEST_WAIT_SECONDS = 30.0

#: Pauses between tries to read a body that was cut short on its way.
_BODY_PAUSES_SECONDS = (0.2, 1.0)

#: What servers answer where there is no such object or bucket.
ABSENT = {"404", "NoSuchKey", "NotFound"}

#: To a conditional put where there is such an object already.
_PRESENT = {"412", "PreconditionFailed"}

#: While another conditional put of the same key is under way.
_CONFLICT = {"409", "ConditionalRequestConflict", "OperationAborted"}

_CONFLICT_PAUSES_SECONDS = (0.05, 0.2, 0.5, 1.0)

#: Where the credentials are good for nothing, or not for this.
DENIED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}

_NO_BUCKET = {"NoSuchBucket"}

#: Metadata of a value that was created: by which call. A repeated call may be refused because of
#: the first one, whose answer was lost.
_CALL = "screen-call"

#: Metadata of a published object: an ETag is no digest where the bucket is encrypted.
DIGEST = "screen-sha256"

Client = Any


_lock = threading.Lock()


@lru_cache(maxsize=1)
def _client() -> Client:
    wait = _PART_OF_LIMIT * _settings().soft_limit_seconds / _TRIES
    # Checksums that only Amazon's servers understand are left out unless a call requires them.
    config = Config(
        connect_timeout=min(wait, _LONGEST_WAIT_SECONDS),
        read_timeout=min(wait, _LONGEST_WAIT_SECONDS),
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=32,
    )
    return boto3.session.Session().client("s3", config=config)


def client() -> Client:
    """The client of this process. Raises ConfigurationError where nothing is configured."""
    with _lock:
        try:
            return _client()
        except (NoRegionError, ValueError) as error:
            raise ConfigurationError(
                f"S3 cannot be used ({error}); set AWS_REGION, and AWS_ENDPOINT_URL_S3 for a "
                "server that is not Amazon's"
            ) from error


@contextmanager
def s3_faults(place: Place) -> Iterator[None]:
    """Say what a failed call means: wait, or let a person change something."""
    try:
        yield
    except ClientError as error:
        raise _meaning(place, error) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigurationError(
            f"there are no credentials for {place}: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give this machine a role"
        ) from error
    except (BotoCoreError, HTTPClientError, OSError) as error:
        name = type(error).__name__
        raise StoreUnavailableError(
            f"{place} does not answer ({name}); the run goes on when it does"
        ) from error


def code_of(error: ClientError) -> set[str]:
    """Code and HTTP status of an answer."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    return {str(error.response.get("Error", {}).get("Code", "")), str(status)}


def _meaning(place: Place, error: ClientError) -> ScreenError:
    codes = code_of(error)
    if codes & _NO_BUCKET:
        return ConfigurationError(f"there is no bucket {place.bucket}: create it, or name another")
    if codes & DENIED:
        return ConfigurationError(
            f"{place}: access is denied; these credentials may not "
            f"{error.operation_name} there (docs/operations.md lists what each part needs)"
        )
    shown = ", ".join(sorted(codes - {""}))
    return StoreUnavailableError(f"{place} answers {shown}; the run goes on when it is mended")


@lru_cache(maxsize=1)
def _settings() -> Settings:
    return load_settings()


def forget() -> None:
    """Read credentials, endpoint and settings again."""
    _client.cache_clear()
    _settings.cache_clear()


def options() -> dict[str, str]:
    """What every call carries that reads or writes an object, from the settings."""
    return {"RequestPayer": "requester"} if _settings().s3_requester_pays else {}


def put_options() -> dict[str, str]:
    """What every put carries besides."""
    settings = _settings()
    found = options()
    if settings.s3_encryption is not None:
        found["ServerSideEncryption"] = settings.s3_encryption
    if settings.s3_kms_key is not None:
        found["SSEKMSKeyId"] = settings.s3_kms_key
    return found


def keys_below(bucket: str, prefix: str) -> Iterator[str]:
    """All keys that start so, sorted."""
    pages = client().get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=bucket, Prefix=prefix, **options()):
        for found in page.get("Contents", ()):
            yield found["Key"]


def folders_below(place: Place, prefix: str) -> Iterator[str]:
    """What lies between the prefix, which ends with ``/``, and the next ``/``."""
    with s3_faults(place):
        pages = client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=place.bucket, Prefix=prefix, Delimiter="/", **options()):
            for found in page.get("CommonPrefixes", ()):
                yield found["Prefix"].removeprefix(prefix).rstrip("/")


def read(place: Place, key: str, *, most: int = -1) -> bytes | None:
    """An object's bytes, or the first ``most`` of them; None if there is no such object."""
    with s3_faults(place):
        try:
            where = {"Bucket": place.bucket, "Key": key}
            return fetch(where, (lambda body: body.read()) if most < 0 else up_to(most))
        except ClientError as error:
            if code_of(error) & ABSENT and not code_of(error) & _NO_BUCKET:
                return None
            raise


def fetch(where: dict[str, str], take: Callable[[Any], bytes]) -> bytes:
    """What is taken from an object's body; asked for again where that is cut short on its way."""
    for pause in (*_BODY_PAUSES_SECONDS, None):
        try:
            return _fetch_once(where, take)
        except ResponseStreamingError:
            if pause is None:
                raise
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def up_to(most: int) -> Callable[[Any], bytes]:
    """For ``fetch``: the first ``most`` bytes of a body, in one piece of memory."""

    def take(body: Any) -> bytes:
        data: bytes = body.read(most)
        if len(data) < most:
            # Only reading to the end tells a body that was cut short from a whole one.
            data += body.read()
        return data

    return take


def _fetch_once(where: dict[str, str], take: Callable[[Any], bytes]) -> bytes:
    try:
        body = client().get_object(**where, **options())["Body"]
    except HTTPError as error:
        # The body of a refusal was cut short: botocore neither repeats nor translates that.
        raise ResponseStreamingError(error=error) from error
    with closing(body):
        try:
            return take(body)
        except (IncompleteReadError, ReadTimeoutError) as error:
            raise ResponseStreamingError(error=error) from error


def metadata_of(where: dict[str, str]) -> dict[str, str]:
    """What an object was written with; empty where there is none."""
    try:
        found: dict[str, str] = client().head_object(**where, **options())["Metadata"]
    except ClientError as error:
        if code_of(error) & ABSENT:
            return {}
        raise
    return found


class S3Store:
    """A store in a bucket, below a prefix.

    A value is written by one put, so that nobody sees half of it. ``create`` is a conditional put;
    where a server has none it looks first and then puts: of two that write at once the later wins,
    with a value as good as the other.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._conditional: bool | None = None

    @property
    def uri(self) -> str:
        """URI of the output place that holds the store."""
        return self.place.as_uri()

    @property
    def conditional(self) -> bool:
        """Whether the server has conditional puts, tried out when it is first asked."""
        if self._conditional is None:
            self._conditional = has_conditional_puts(self.place)
        return self._conditional

    def read(self, key: str) -> bytes | None:
        """The value, or None."""
        return read(self.place, self._key(key))

    def exists(self, key: str) -> bool:
        """Whether there is a value."""
        with s3_faults(self.place):
            try:
                client().head_object(Bucket=self.place.bucket, Key=self._key(key), **options())
            except ClientError as error:
                # A head has no body, so that a missing bucket looks like a missing key.
                if code_of(error) & ABSENT:
                    return False
                raise
        return True

    def create(self, key: str, data: bytes) -> bool:
        """Write the value unless there is one; False if there was."""
        if not self.conditional:
            if self.exists(key):
                return False
            self.replace(key, data)
            return True
        where = {"Bucket": self.place.bucket, "Key": self._key(key)}
        call = uuid4().hex
        with s3_faults(self.place):
            try:
                _put_if_absent(where, data, Metadata={_CALL: call})
            except ClientError as error:
                if code_of(error) & _PRESENT:
                    return metadata_of(where).get(_CALL) == call
                raise
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Write the value whether or not there is one."""
        with s3_faults(self.place):
            client().put_object(
                Bucket=self.place.bucket, Key=self._key(key), Body=data, **put_options()
            )

    def delete(self, key: str) -> None:
        """Remove the value, if there is one."""
        with s3_faults(self.place):
            client().delete_object(Bucket=self.place.bucket, Key=self._key(key), **options())

    def list(self, prefix: str) -> Iterator[str]:
        """Keys below a prefix that ends with ``/``, sorted."""
        check_key(prefix.removesuffix("/"))
        start = f"{self.place.prefix}store/"
        with s3_faults(self.place):
            for key in keys_below(self.place.bucket, f"{start}{prefix}"):
                yield key.removeprefix(start)

    def is_empty(self) -> bool:
        """Whether nothing lies there.

        What conditional puts are tried out with does not count: somebody else may be about it in
        the same moment, or have been killed at it.
        """
        with s3_faults(self.place):
            found = keys_below(self.place.bucket, f"{self.place.prefix}store/")
            return all(key.startswith(_probes(self.place).prefix) for key in found)

    def _key(self, key: str) -> str:
        check_key(key.removesuffix("/"))
        return f"{self.place.prefix}store/{key}"


def _put_if_absent(where: dict[str, str], data: bytes, **more: Any) -> None:
    """A conditional put, tried again while another one of the same key is under way."""
    for pause in (*_CONFLICT_PAUSES_SECONDS, None):
        try:
            client().put_object(**where, Body=data, IfNoneMatch="*", **more, **put_options())
        except ClientError as error:
            # Whether somebody else's succeeds is known in a moment.
            if pause is None or not code_of(error) & _CONFLICT:
                raise
            time.sleep(pause)
        else:
            return


def _probes(out: Place) -> Place:
    """Where an output place's conditional puts are tried out."""
    return out / "store" / "probe"


def has_conditional_puts(out: Place) -> bool:
    """Whether a second ``If-None-Match: *`` put of a key is refused; some servers ignore it."""
    folder = _probes(out)
    where = {"Bucket": folder.bucket, "Key": f"{folder.prefix}{uuid4().hex}"}
    with s3_faults(folder):
        client().put_object(**where, Body=b"probe", **put_options())
        try:
            _put_if_absent(where, b"probe")
        except ClientError as error:
            if code_of(error) & {"501", "NotImplemented", "400", "InvalidArgument"}:
                return False
            if not code_of(error) & _PRESENT:
                raise
            return True
        finally:
            client().delete_object(**where, **options())
    return False
