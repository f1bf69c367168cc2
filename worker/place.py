"""Places in buckets, by name; nothing here speaks to a server."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pipeline.errors import ConfigurationError


class Place(NamedTuple):
    """A bucket, and what the keys in it start with (``""``, or ending with ``/``)."""

    bucket: str
    prefix: str

    @classmethod
    def of(cls, uri: str) -> Place:
        """From ``s3://bucket/prefix``. Raises ConfigurationError."""
        parts = _parts(uri)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise ConfigurationError(f"{uri} is not of the form s3://bucket/prefix")
        prefix = unquote(parts.path).strip("/")
        return cls(parts.netloc, f"{prefix}/" if prefix else "")

    def as_uri(self) -> str:
        """As ``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{quote(self.prefix)}".rstrip("/")

    def __str__(self) -> str:
        return self.as_uri()

    def __truediv__(self, name: str) -> Place:
        return Place(self.bucket, f"{self.prefix}{name}/")

    def contains(self, other: Place) -> bool:
        """Whether the other is the same or lies within."""
        return self.bucket == other.bucket and other.prefix.startswith(self.prefix)


def parse_place(text: str) -> Path | Place:
    """What a person calls an archive or a folder of reports: a path, or ``s3://bucket/prefix``.

    Raises ConfigurationError for an address of another kind.
    """
    if "\0" in unquote(text):
        raise ConfigurationError("a place must not have NUL characters in its name")
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Path(text)
    if scheme == "file":
        return Path(unquote(_parts(text).path))
    if scheme == "s3":
        return Place.of(text)
    raise ConfigurationError(f"{text}: places of kind {scheme}:// are not supported")


def _parts(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise ConfigurationError(f"{uri} is not an address: {error}") from None
