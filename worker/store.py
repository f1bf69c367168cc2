"""The result store: the truth about every run, behind one small interface."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from pipeline.canonical import canonical_bytes
from pipeline.errors import ConfigurationError, ScreenError, StoreUnavailableError
from worker.place import Place, parse_place

#: Rises when the layout changes, so that another layout is refused instead of misread.
STORE_SCHEMA = 2

_KEY = re.compile(r"(?:[a-z0-9_-][a-z0-9._-]*/)*[a-z0-9_-][a-z0-9._-]*")

#: What file systems without hard links answer to link(2): vfat, exfat, some SMB and FUSE mounts.
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

#: What nothing depends on after a power failure is not worth waiting for the disk.
_PASSING_KEYS = ("attempts/", "lease/", "log/", "patients/")

#: What only the owner of the store may read.
_PRIVATE_KEYS = "private/"
_PRIVATE_MODE, _USUAL_MODE = 0o600, 0o666

#: A temporary file lives for milliseconds; one older than this was left by a killed process.
_LEFTOVER_SECONDS = 3600.0

#: Publishing under a claim takes milliseconds; a claim older than this has lost its owner.
_CLAIM_SECONDS = 60.0


class Store(Protocol):
    """Keys are relative paths of ``[a-z0-9._-]`` parts; values are bytes.

    Every method raises StoreUnavailableError where the store cannot answer at the moment.
    """

    def __hash__(self) -> int:
        """Stores are told apart by identity."""
        ...

    @property
    def uri(self) -> str:
        """What ``open_store`` needs to open the same store elsewhere."""
        ...

    def read(self, key: str) -> bytes | None:
        """The value, or None."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Write the value unless there is one; False if there was. Nobody sees half a value."""
        ...

    def replace(self, key: str, data: bytes) -> None:
        """Write the value whether or not there is one. Readers see the old or the new one."""
        ...

    def delete(self, key: str) -> None:
        """Remove the value, if there is one."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys below a prefix that ends with ``/``, sorted within each folder."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is a value."""
        ...


class DirectoryStore:
    """A store in an existing directory, which may be a share that several machines mount.

    A value is written to a temporary file, synced, and then linked or renamed to its place, so
    that a process killed at any moment leaves at worst a temporary file. Folders are not synced: a
    power failure may take back the newest names, but not what was written before them, and what is
    missing is made anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._temporary = self.path / "tmp"

    @property
    def uri(self) -> str:
        """URI of the output folder that holds the store."""
        return self.path.parent.as_uri()

    def read(self, key: str) -> bytes | None:
        """The value, or None."""
        try:
            return self._place(key).read_bytes()
        except FileNotFoundError:
            self._check_present()
            return None
        except OSError as error:
            raise storage_error(self.path, error) from error

    def exists(self, key: str) -> bool:
        """Whether there is a value."""
        try:
            self._place(key).stat()
        except FileNotFoundError:
            self._check_present()
            return False
        except OSError as error:
            raise storage_error(self.path, error) from error
        return True

    def create(self, key: str, data: bytes) -> bool:
        """Write the value unless there is one; False if there was."""
        if self.exists(key):
            return False
        return self._write(key, data, self._link)

    def replace(self, key: str, data: bytes) -> None:
        """Write the value whether or not there is one."""
        self._write(key, data, _rename)

    def delete(self, key: str) -> None:
        """Remove the value, if there is one."""
        try:
            self._place(key).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self.path, error) from error

    def list(self, prefix: str) -> Iterator[str]:
        """Keys below a prefix that ends with ``/``, sorted within each folder."""
        folder = self._place(prefix.removesuffix("/"))
        try:
            with os.scandir(folder) as entries:
                found = sorted((entry.name, entry.is_dir()) for entry in entries)
        except FileNotFoundError:
            self._check_present()
            return
        except OSError as error:
            raise storage_error(self.path, error) from error
        for name, is_folder in found:
            if is_folder:
                yield from self.list(f"{prefix}{name}/")
            else:
                yield f"{prefix}{name}"

    def remove_leftovers(self) -> None:
        """Remove temporary files of processes that were killed long ago."""
        now = time.time()
        try:
            with os.scandir(self._temporary) as entries:
                for entry in entries:
                    # Another process may be cleaning as well.
                    with suppress(FileNotFoundError):
                        if now - entry.stat().st_mtime > _LEFTOVER_SECONDS:
                            Path(entry.path).unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(self.path, error) from error

    # --- writing ----------------------------------------------------------------------------

    def _write(self, key: str, data: bytes, publish: Callable[[Path, Path], bool]) -> bool:
        target = self._place(key)
        temporary = self._temporary / uuid4().hex
        try:
            self._make_folder(self._temporary)
            try:
                write_new(
                    temporary,
                    data,
                    sync=not key.startswith(_PASSING_KEYS),
                    mode=_PRIVATE_MODE if key.startswith(_PRIVATE_KEYS) else _USUAL_MODE,
                )
                self._make_folder(target.parent)
                written = publish(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self.path, error) from error
        return written

    def _link(self, temporary: Path, target: Path) -> bool:
        """Give the file its name unless the name is taken."""
        try:
            os.link(temporary, target)
        except FileExistsError:
            # NFS repeats a request whose answer was lost, and then the name is taken by ourselves.
            return temporary.stat().st_nlink > 1
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            return self._claim_and_rename(temporary, target)
        return True

    def _claim_and_rename(self, temporary: Path, target: Path) -> bool:
        """Without hard links: whoever creates the claim may rename; the others wait and look."""
        claim = self._temporary / f"{hashlib.sha256(os.fsencode(target)).hexdigest()}.claim"
        while True:
            try:
                os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            except FileExistsError:
                self._break_if_stale(claim, temporary)
                if target.exists():
                    return False
                time.sleep(0.01)
                continue
            try:
                if target.exists():
                    return False
                temporary.rename(target)
                return True
            finally:
                claim.unlink(missing_ok=True)

    def _break_if_stale(self, claim: Path, temporary: Path) -> None:
        """Remove a claim whose owner was killed, judged by the file server's own clock."""
        with suppress(FileNotFoundError):
            os.utime(temporary)
            if temporary.stat().st_mtime - claim.stat().st_mtime > _CLAIM_SECONDS:
                # The rename has one winner, so nobody removes a claim that was just made anew.
                broken = claim.with_name(f"{uuid4().hex}.broken")
                claim.rename(broken)
                broken.unlink()

    def _make_folder(self, folder: Path) -> None:
        """Make a folder below the store, never the store itself: its share may be unmounted."""
        if folder.is_dir():
            return
        if folder == self.path:
            self._check_present()
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)

    # --- places and failures ----------------------------------------------------------------

    def _place(self, key: str) -> Path:
        check_key(key)
        return self.path / key

    def _check_present(self) -> None:
        """Tell "no such key" from "the share is gone"."""
        if not self.path.is_dir():
            raise StoreUnavailableError(
                f"{self.path} is gone; is the share mounted? The run goes on when it is back"
            )


def check_key(key: str) -> None:
    """Raise ValueError for what could lead out of the store."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a store key: {key!r}")


def storage_error(path: Path, error: OSError) -> ScreenError:
    """What a failure to read or write below the output folder means."""
    problem = os.strerror(error.errno) if error.errno else str(error)
    if isinstance(error, PermissionError):
        return ConfigurationError(
            f"{path}: {problem}; give this user permission to read and write there"
        )
    return StoreUnavailableError(f"{path}: {problem}; the run goes on when it is mended")


def open_store(out: str, *, create: bool = False) -> Store:
    """The store below the output place ``out`` (``OUT/store``); ``create`` makes a new one.

    ``out`` is a path, a file:// URI or s3://bucket/prefix. Raises ConfigurationError where there is
    no store (and ``create`` is False) or where it was written by another version.
    """
    place = parse_place(out)
    if isinstance(place, Path):
        return open_directory(place, create=create)
    # Only here, as it takes a moment to import.
    from worker.s3 import S3Store

    store = S3Store(place)

    def fresh() -> bool:
        empty = store.is_empty()
        if empty and not create:
            raise ConfigurationError(_no_results(place))
        return empty

    _settle_schema(store, str(place), fresh=fresh)
    return store


def open_directory(out: Path, *, create: bool = False) -> DirectoryStore:
    """The store in a folder of reports; as ``open_store``."""
    store = DirectoryStore(out / "store")
    if create:
        try:
            store.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"{store.path} cannot be made: {os.strerror(error.errno or 0)}; "
                "choose another --out"
            ) from error
        store.remove_leftovers()
    elif not store.path.is_dir():
        raise ConfigurationError(_no_results(out))
    _settle_schema(
        store, str(store.path), fresh=lambda: create and not any(store.path.glob("r*/*"))
    )
    return store


def _settle_schema(store: Store, where: str, *, fresh: Callable[[], bool]) -> None:
    """Write down the layout of a fresh store; refuse another one."""
    found = store.read("schema.json")
    if found is None:
        if fresh():
            store.create("schema.json", canonical_bytes({"schema": STORE_SCHEMA}))
        # Where it is not, another process may have begun it since the first look.
        found = store.read("schema.json")
    _check_schema(found, where)


def _no_results(out: Path | Place) -> str:
    return f"{out} holds no results; give the --out of an earlier `screen submit`"


def _check_schema(found: bytes | None, path: str) -> None:
    try:
        schema = json.loads(found or b"{}")["schema"]
    except (ValueError, KeyError, TypeError):
        schema = None
    if schema != STORE_SCHEMA:
        raise ConfigurationError(
            f"{path} has layout {schema if schema is not None else 'unknown'}, this version of "
            f"screen reads and writes layout {STORE_SCHEMA}; choose another --out, "
            "or use the version that wrote it"
        )


def _rename(temporary: Path, target: Path) -> bool:
    temporary.replace(target)
    return True


def write_new(path: Path, data: bytes, *, sync: bool = True, mode: int = _USUAL_MODE) -> None:
    """Write a new file and wait until it is on the disk; ``mode``: before the umask."""
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())
