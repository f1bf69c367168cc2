"""Reading image files below an archive's root, and nothing else.

The archive is other people's: a name may lead out of the root through a symbolic link, name a pipe
that blocks for ever, or be exchanged between the listing and the reading.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn
from urllib.parse import unquote_to_bytes, urlsplit

from pipeline.errors import BadInputError, ConfigurationError, RetryableError
from worker.place import Place
from worker.records import ManifestRow

#: Faults of a disk or a share that may pass.
_PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOTCONN,
    errno.ENODEV,
    errno.EAGAIN,
    errno.EBUSY,
}

#: This machine is short of something; no file is to blame.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT}

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Without O_NONBLOCK, opening a named pipe waits for somebody to write into it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileFaultError(RetryableError):
    """One file cannot be read at the moment, though the archive as a whole can."""


def is_passing(error: OSError) -> bool:
    """Whether the error says something about disk, share or machine, not about one file."""
    return error.errno in _PASSING | _EXHAUSTED


def root_path(root: str) -> bytes:
    """Path of the archive's root, from its file:// URI; bytes, as names need not be text."""
    parts = urlsplit(root)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise ConfigurationError(f"{root}: only archives at file:///... and s3://... can be read")
    return unquote_to_bytes(parts.path)


def row_path(row: ManifestRow) -> bytes:
    """Path of the row's file below the root."""
    return row.source.encode() if row.raw is None else unquote_to_bytes(row.raw)


def read_row_bytes(root: str, row: ManifestRow, *, max_bytes: int) -> bytes:
    """The bytes of the file, or object in a bucket, that was listed.

    Raises BadInputError (``missing``, ``changed``, ``unreadable``, ``outside_root``,
    ``not_a_file``, ``too_many_bytes``) if this file cannot be had, FileFaultError if it cannot be
    had at the moment, RetryableError if nothing of the archive can.
    """
    if row.size > max_bytes:
        refuse_size(row.size, max_bytes)
    if root.startswith("s3://"):
        from worker.s3_archive import read_object

        return read_object(Place.of(root), row, max_bytes=max_bytes)
    top = root_path(root)
    try:
        with _opened(os.path.realpath(top), row_path(row)) as descriptor:
            return _read_checked(descriptor, row, max_bytes)
    except (OSError, ValueError) as error:
        _check_root(top)
        raise _judged(error) from error


@contextmanager
def _opened(top: bytes, path: bytes) -> Iterator[int]:
    """Descriptor of the file, opened folder by folder so that no link is followed on the way.

    Links inside the root are resolved beforehand; one that appears in between is an error.
    """
    resolved = os.path.realpath(top + b"/" + path, strict=True)
    if os.path.commonpath([top, resolved]) != top or resolved == top:
        raise BadInputError("outside_root", "the file is a link that leads out of the archive")
    *folders, name = os.path.relpath(resolved, top).split(b"/")
    current = os.open(top, _FOLDER)
    try:
        for folder in folders:
            inner = os.open(folder, _FOLDER, dir_fd=current)
            os.close(current)
            current = inner
        # Opening some devices has effects, so that the kind is known before and checked after.
        _check_kind(os.stat(name, dir_fd=current, follow_symlinks=False))
        file = os.open(name, _FILE, dir_fd=current)
    finally:
        os.close(current)
    try:
        yield file
    finally:
        os.close(file)


def _read_checked(descriptor: int, row: ManifestRow, max_bytes: int) -> bytes:
    before = os.fstat(descriptor)
    _check_kind(before)
    _check_version(before, row)
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        refuse_size(len(data), max_bytes)
    _check_version(os.fstat(descriptor), row)
    if len(data) != row.size:
        raise BadInputError("changed", "the file changed while it was read; submit again")
    return data


def _check_kind(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise BadInputError("not_a_file", "this is no regular file (a pipe, a device, a socket)")


def _check_version(found: os.stat_result, row: ManifestRow) -> None:
    if (found.st_size, str(found.st_mtime_ns)) != (row.size, row.version):
        raise BadInputError(
            "changed", "the file changed after it was listed; submit the archive again"
        )


def refuse_size(size: int, limit: int) -> NoReturn:
    """Raise for a file that is too large."""
    raise BadInputError("too_many_bytes", f"the file has {size} bytes, the limit is {limit}")


def _judged(error: OSError | ValueError) -> Exception:
    """What a failure to open or read means for the row."""
    code = error.errno if isinstance(error, OSError) else None
    problem = os.strerror(code) if code else "the name is not valid"
    if code in _PASSING:
        return FileFaultError(f"the file cannot be read: {problem}")
    if code in _EXHAUSTED:
        return RetryableError(f"no file can be read at the moment: {problem}")
    if code in {errno.ENOENT, errno.ENOTDIR}:
        return BadInputError("missing", "the file is no longer there; submit the archive again")
    if code in {errno.EACCES, errno.EPERM}:
        return BadInputError("unreadable", "there is no permission to read the file")
    return BadInputError("unreadable", f"the file cannot be opened: {problem}")


def _check_root(top: bytes) -> None:
    """If the whole archive is out of reach, it is the fault of none of its images."""
    try:
        with os.scandir(top) as entries:
            next(entries, None)
    except OSError as error:
        raise RetryableError(
            f"the archive {os.fsdecode(top)} cannot be read at the moment "
            f"({os.strerror(error.errno or 0)}); is the share mounted?"
        ) from error
