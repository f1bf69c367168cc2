"""Names as keyed hashes: who has the hashes and not the store's key cannot find a name by trying.

The key is made with the first run of a store and stays in it. Hashes of one store say nothing in
another, so that none of them is part of a report that carries plain names.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import lru_cache
from typing import Literal

from pipeline.canonical import canonical_bytes
from pipeline.errors import ConfigurationError
from worker import keys
from worker.records import ManifestRow, RunRecord
from worker.store import Store

_KEY_BYTES = 32

#: What a hash is of: the same text as a patient and as an archive gives different hashes.
_Kind = Literal["patient", "archive", "file", "source", "manifest"]


class Pseudonyms:
    """HMAC-SHA-256 of names under one key, as 64 hexadecimal digits."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def patient(self, name: str) -> str:
        """Of a patient."""
        return self._of("patient", name)

    def archive(self, uri: str) -> str:
        """Of an archive, or a source that is watched."""
        return self._of("archive", uri)

    def file(self, row: ManifestRow, run: RunRecord) -> str:
        """Of a file as it was listed; changes with path, size and version."""
        return self._of("file", run.root, row.source, row.raw, row.size, row.version)

    def source(self, row: ManifestRow) -> str:
        """Of a file's path below its archive."""
        return self._of("source", row.source, row.raw)

    def manifest(self, digest: str) -> str:
        """Of a manifest, by its digest."""
        return self._of("manifest", digest)

    def _of(self, kind: _Kind, *parts: str | int | None) -> str:
        return hmac.new(self._key, canonical_bytes([kind, *parts]), hashlib.sha256).hexdigest()


@lru_cache(maxsize=8)
def pseudonyms(store: Store) -> Pseudonyms:
    """Those of a store, with the key that is made when it is first asked for.

    Raises ConfigurationError where the key of a store in use is lost or damaged.
    """
    if store.read(keys.NAMES_KEY) is None:
        if next(iter(store.list(keys.RUNS)), None) is not None:
            raise _unusable(store, "is gone")
        store.create(keys.NAMES_KEY, secrets.token_hex(_KEY_BYTES).encode())
    # Of two that make it at once one is heard.
    try:
        key = bytes.fromhex((store.read(keys.NAMES_KEY) or b"").decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise _unusable(store, "is damaged")
    return Pseudonyms(key)


def _unusable(store: Store, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"store/{keys.NAMES_KEY} of {store.uri} {what}: restore it from the back-up, or choose "
        "another --out"
    )
