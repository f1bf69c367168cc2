"""Writing what people read into the output folder, or bucket.

Every file appears whole or not at all, and only those that differ are written.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from worker.place import Place
from worker.store import storage_error, write_new

#: A file that is being written is renamed within seconds; one older was left by a killed process.
_LEFTOVER_SECONDS = 3600.0

#: What a browser is to make of a file of a bucket.
_KINDS = {
    "csv": "text/csv; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
}


class Publisher(Protocol):
    """Names are relative, with ``/`` between parts. Raises StoreUnavailableError."""

    def write(self, name: str, data: bytes) -> None:
        """Make the file's content this."""
        ...

    def read(self, name: str) -> bytes | None:
        """What was written before; None if there is nothing."""
        ...

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder."""
        ...

    def remove_others(self, folder: str, kept: set[str]) -> None:
        """Remove pictures of a report that was replaced."""
        ...

    def files(self, name: str) -> list[str]:
        """Names of the files in a folder and all folders in it; or of the one file."""
        ...

    def remove(self, name: str) -> int:
        """Remove a file, or a folder with everything in it; the number of files."""
        ...

    def close(self) -> None:
        """Remove what was only there for writing."""
        ...


def open_publisher(out: Path | Place) -> Publisher:
    """For a folder, or a place in a bucket."""
    return DirectoryPublisher(out) if isinstance(out, Path) else BucketPublisher(out)


def read_published(out: Path | Place, name: str, *, most: int = -1) -> bytes | None:
    """A file, or the first ``most`` bytes of it; None if there is none.

    Raises ScreenError where it is out of reach.
    """
    if isinstance(out, Place):
        from worker import s3

        return s3.read(out, f"{out.prefix}{name}", most=most)
    try:
        # A pipe of that name would wait for ever.
        if not (out / name).is_file():
            return None
        with (out / name).open("rb") as file:
            return file.read(most)
    except FileNotFoundError:
        return None
    except OSError as error:
        # The name may be a patient's, and the message ends in a log.
        raise storage_error(out, error) from error


def published_folders(out: Path | Place, folder: str) -> list[str]:
    """Names of the folders in a folder of what was published."""
    if isinstance(out, Place):
        from worker import s3

        return list(s3.folders_below(out, f"{out.prefix}{folder}/"))
    try:
        return [entry.name for entry in (out / folder).iterdir() if entry.is_dir()]
    except OSError:
        return []


class DirectoryPublisher:
    """Into a folder; a file is written beside its place and renamed."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._parts = out / ".parts"
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
        except OSError as error:
            raise storage_error(out, error) from error

    def write(self, name: str, data: bytes) -> None:
        """Make the file's content this."""
        target = self._out / name
        part = self._parts / uuid4().hex
        try:
            if target.is_file() and target.read_bytes() == data:
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                write_new(part, data)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self._out, error) from error

    def read(self, name: str) -> bytes | None:
        """What was written before; None if there is nothing."""
        return read_published(self._out, name)

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder."""
        return published_folders(self._out, folder)

    def remove_others(self, folder: str, kept: set[str]) -> None:
        """Remove pictures of a report that was replaced."""
        try:
            for path in (self._out / folder).glob("*.png"):
                if path.name not in kept:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self._out, error) from error

    def files(self, name: str) -> list[str]:
        """Names of the files in a folder and all folders in it; or of the one file."""
        top = self._out / name
        found = [top] if top.is_file() else [path for path in top.rglob("*") if not path.is_dir()]
        return [path.relative_to(self._out).as_posix() for path in found]

    def remove(self, name: str) -> int:
        """Remove a file, or a folder with everything in it; the number of files."""
        found = self.files(name)
        try:
            for file in found:
                (self._out / file).unlink(missing_ok=True)
            if (self._out / name).is_dir():
                shutil.rmtree(self._out / name)
        except OSError as error:
            raise storage_error(self._out, error) from error
        return len(found)

    def close(self) -> None:
        """Remove the folder of unfinished files, unless somebody else is writing."""
        with suppress(OSError):
            self._parts.rmdir()

    def _remove_leftovers(self) -> None:
        now = time.time()
        with os.scandir(self._parts) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if now - entry.stat().st_mtime > _LEFTOVER_SECONDS:
                        Path(entry.path).unlink()


class BucketPublisher:
    """Into a bucket, where an object is whole or not at all."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def write(self, name: str, data: bytes) -> None:
        """Make the object's content this."""
        from worker import s3, s3_parts

        where = {"Bucket": self._place.bucket, "Key": f"{self._place.prefix}{name}"}
        digest = hashlib.sha256(data).hexdigest()
        with s3.s3_faults(self._place):
            if s3.metadata_of(where).get(s3.DIGEST) == digest:
                return
            s3_parts.put(where, data, digest=digest, kind=_KINDS[name.rpartition(".")[2]])

    def read(self, name: str) -> bytes | None:
        """What was written before; None if there is nothing."""
        return read_published(self._place, name)

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder."""
        return published_folders(self._place, folder)

    def remove_others(self, folder: str, kept: set[str]) -> None:
        """Remove pictures of a report that was replaced."""
        from worker import s3

        start = f"{self._place.prefix}{folder}/"
        with s3.s3_faults(self._place):
            for key in list(s3.keys_below(self._place.bucket, start)):
                if key.endswith(".png") and key.removeprefix(start) not in kept:
                    s3.client().delete_object(Bucket=self._place.bucket, Key=key, **s3.options())

    def files(self, name: str) -> list[str]:
        """Names of the objects in a folder and all folders in it; or of the one object."""
        from worker import s3

        start = f"{self._place.prefix}{name}"
        with s3.s3_faults(self._place):
            found = list(s3.keys_below(self._place.bucket, start))
        return [
            key.removeprefix(self._place.prefix)
            for key in found
            if key == start or key.startswith(f"{start}/")
        ]

    def remove(self, name: str) -> int:
        """Remove an object, or a folder with everything in it; the number of objects."""
        from worker import s3

        found = self.files(name)
        with s3.s3_faults(self._place):
            for file in found:
                where = {"Bucket": self._place.bucket, "Key": f"{self._place.prefix}{file}"}
                s3.client().delete_object(**where, **s3.options())
        return len(found)

    def close(self) -> None:
        """Nothing was there for writing only."""
