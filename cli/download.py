"""Weights of a network from a file or an https address."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from pipeline.errors import ConfigurationError, RetryableError

#: Larger than the weights of any network here (NASNetLarge: 0.35 GB).
MAXIMUM_BYTES = 1 << 30

TIMEOUT_SECONDS = 60.0
_CHUNK = 1 << 20

Open = Callable[[str], AbstractContextManager[IO[bytes]]]


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https addresses and to no others."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        """The request to follow; raises ConfigurationError where it leaves https."""
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch_weights(
    place: str, directory: Path, *, sha256: str | None = None, open_url: Open | None = None
) -> Path:
    """The file of weights: ``place`` itself, or what its https address gives, in ``directory``.

    A file that was downloaded before is taken again. Raises ConfigurationError if there is no such
    file, the address is not https, or the file is too large or not the one with this ``sha256``;
    RetryableError if the server cannot be reached.
    """
    if "://" not in place:
        path = Path(place)
        if not path.is_file():
            raise ConfigurationError(f"there is no file of weights {path}")
        _check_hash(path, sha256)
        return path
    _check_scheme(place)
    address = hashlib.sha256(place.encode()).hexdigest()[:12]
    name = PurePosixPath(urlsplit(place).path).name or "weights"
    path = directory / "weights" / address / name
    if not path.exists():
        _download(place, path, open_url or _open, sha256)
    _check_hash(path, sha256)
    return path


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise ConfigurationError(
            f"weights are downloaded over https only, not from {url}; "
            "download the file yourself and name its path"
        )


def _open(url: str) -> Any:
    opener = urllib.request.build_opener(_HttpsOnly())
    return opener.open(url, timeout=TIMEOUT_SECONDS)


def _download(url: str, path: Path, open_url: Open, sha256: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"new-{path.name}")
    try:
        with open_url(url) as answer, partial.open("wb") as file:
            size = 0
            while chunk := answer.read(_CHUNK):
                size += len(chunk)
                if size > MAXIMUM_BYTES:
                    raise ConfigurationError(
                        f"{url} gives more than {MAXIMUM_BYTES >> 20} MiB: not a file of weights"
                    )
                file.write(chunk)
        _check_hash(partial, sha256)
        partial.replace(path)
    except urllib.error.HTTPError as error:
        raise ConfigurationError(f"{url} answers {error.code} {error.reason}") from error
    except OSError as error:
        raise RetryableError(f"{url} cannot be downloaded now: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _check_hash(path: Path, expected: str | None) -> None:
    if expected is None:
        return
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected.lower():
        raise ConfigurationError(
            f"{path.name} is not the file asked for: SHA-256 {found}, expected {expected.lower()}"
        )
