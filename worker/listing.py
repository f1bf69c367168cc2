"""Listing an archive: which files are images, which are refused, which are ignored.

Paths are bytes from end to end, because that is what a file name is on Linux; nothing is opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import ConfigurationError, NamingError
from pipeline.results import ImageError

IMAGE_EXTENSIONS = frozenset({b"jpg", b"jpeg", b"png", b"bmp", b"tif", b"tiff"})

#: Whole-slide and DICOM files hold smears too, but this version cannot read them: they are
#: reported as failed, so that nobody takes them for screened.
SLIDE_EXTENSIONS = frozenset(
    b"svs svslide ndpi ndpis mrxs scn vms vmu bif czi zvi lif nd2 vsi afi qptiff btf tf8 "
    b"isyntax i2syntax dcm dicom".split()
)

#: Pictures that are neither read nor reported as failed; a note says that they are there.
OTHER_PICTURES = frozenset(
    b"gif webp heic heif jp2 j2k jpe jfif jxl avif raw cr2 nef dng psd".split()
)

#: What operating systems and file servers leave behind: thumbnails and deleted files look like
#: images but are none of the archive's.
LITTER_FOLDERS = frozenset(
    {b"__macosx", b"@eadir", b"#recycle", b"$recycle.bin", b"lost+found", b"thumbs.db"}
    | {b"system volume information", b"network trash folder", b"@recycle"}
)

#: The same folder is listed at most so often under the names that links give it; more is a maze.
MAX_VISITS = 100

Identity = tuple[int, int]


class Listed(NamedTuple):
    """One file that the manifest must account for. ``path`` is below the root, / between parts."""

    path: bytes
    size: int
    version: str
    refused: ImageError | None = None
    is_folder: bool = False


@dataclass
class Listing:
    """What an archive holds. ``ignored`` counts files (and hidden folders) that are no images."""

    files: list[Listed] = field(default_factory=list)
    ignored: Counter[bytes] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def account_for(self, path: bytes, size: int, version: str) -> None:
        """Take in a file by what its name says it is."""
        extension = _extension(path)
        if extension in IMAGE_EXTENSIONS:
            self.files.append(Listed(path, size, version))
        elif extension in SLIDE_EXTENSIONS:
            self.refuse(
                path,
                "unsupported_format",
                f".{extension.decode()} files (whole slides, DICOM) cannot be read by this "
                "version; export the fields to look at as TIFF or PNG",
            )
        else:
            self.ignored[extension] += 1

    def refuse(self, path: bytes, reason: str, message: str, *, is_folder: bool = False) -> None:
        """A name that the manifest must account for and that must not be read."""
        error = ImageError(reason=reason, message=message)
        self.files.append(Listed(path, 0, "", error, is_folder))


class _Folder(NamedTuple):
    path: bytes
    below: bytes
    ancestors: frozenset[Identity]


def list_archive(root: Path, *, leave_out: Path | None = None) -> Listing:
    """List the images below ``root``, an absolute path without links.

    Nothing below ``leave_out`` (the folder of the reports) is listed, nor any other folder that
    holds results of this software. Raises ConfigurationError if the root cannot be listed.
    """
    reports = leave_out and leave_out.exists() and os.path.realpath(os.fsencode(leave_out))
    walk = _Walk(os.fsencode(root), reports or None)
    walk.everything()
    return walk.listing


def list_named(root: Path, files: list[bytes]) -> Listing:
    """The files named, as ``list_archive`` would have listed them; ``files`` are below ``root``.

    A file that was asked for by name is never ignored: if it is no image, it is refused.
    """
    walk = _Walk(os.fsencode(root), None)
    for below in files:
        walk.named(below)
    return walk.listing


class _Walk:
    def __init__(self, root: bytes, leave_out: bytes | None) -> None:
        self.listing = Listing()
        self._root = root.rstrip(b"/")
        self._leave_out = leave_out
        self._left_out = _identity(_status(leave_out)) if leave_out else None
        self._visits: Counter[Identity] = Counter()

    def everything(self) -> None:
        top = self._root or b"/"
        try:
            with os.scandir(top):
                pending = [_Folder(top, b"", frozenset({_identity(_status(top))}))]
        except OSError as error:
            raise ConfigurationError(
                f"{os.fsdecode(top)} cannot be listed: {error.strerror}; "
                "check the path and your permission to read it"
            ) from error
        while pending:
            pending.extend(self._folder(pending.pop()))

    def named(self, below: bytes) -> None:
        kept = len(self.listing.files)
        path = self._root + b"/" + below
        self._look(path, below, os.lstat(path), frozenset())
        if len(self.listing.files) == kept:
            self.listing.ignored.clear()
            self._refuse(
                below,
                "unsupported_format",
                "the file's extension is not one of jpg, jpeg, png, bmp, tif, tiff; "
                "convert it to TIFF or PNG",
            )

    def _folder(self, folder: _Folder) -> list[_Folder]:
        try:
            with os.scandir(folder.path) as entries:
                found = list(entries)
        except OSError as error:
            self._refuse(
                folder.below.rstrip(b"/"),
                "unreadable",
                f"the folder cannot be listed ({error.strerror}), so its images are unknown; "
                "give the user that runs this program permission to read it, then submit again",
                is_folder=True,
            )
            return []
        if self._holds_results(folder, found):
            return []
        deeper = []
        for entry in found:
            inner = self._entry(entry, folder)
            if inner is not None:
                deeper.append(inner)
        return deeper

    def _holds_results(self, folder: _Folder, found: list[os.DirEntry[bytes]]) -> bool:
        """Whether the folder is the output of an earlier run, whose pictures are no smears."""
        if not any(entry.name == b"store" for entry in found):
            return False
        if not Path(os.fsdecode(folder.path), "store", "schema.json").exists():
            return False
        if not folder.below:
            raise ConfigurationError(
                f"{os.fsdecode(folder.path)} holds results of this software, not smears: "
                "submit the folder of the images, and write the reports into another one"
            )
        self._note(folder.below, "holds results of an earlier run and is left out")
        return True

    def _entry(self, entry: os.DirEntry[bytes], folder: _Folder) -> _Folder | None:
        """Account for one name in a folder; a folder to look into is returned."""
        name, below = entry.name, folder.below + entry.name
        if is_litter(name):
            self.listing.ignored[_extension(name)] += 1
            return None
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            self._unreachable(below, error, is_folder=entry.is_dir(follow_symlinks=False))
            return None
        return self._look(entry.path, below, status, folder.ancestors)

    def _look(
        self, path: bytes, below: bytes, status: os.stat_result, ancestors: frozenset[Identity]
    ) -> _Folder | None:
        if stat.S_ISLNK(status.st_mode):
            return self._link(path, below, ancestors)
        if not stat.S_ISDIR(status.st_mode):
            self._file(below, status)
        elif _identity(status) != self._left_out:
            return _Folder(path, below + b"/", ancestors | {_identity(status)})
        return None

    def _link(self, path: bytes, below: bytes, ancestors: frozenset[Identity]) -> _Folder | None:
        """Follow a link as far as the archive reaches."""
        target = os.path.realpath(path)
        inside = _is_within(target, self._root)
        try:
            status = _status(path)
        except OSError as error:
            if inside:
                self._unreachable(below, error)
            elif _matters(below):
                self._refuse_outside(below, "file")
            else:
                self.listing.ignored[_extension(below)] += 1
            return None
        if not stat.S_ISDIR(status.st_mode):
            if inside or _extension(below) not in IMAGE_EXTENSIONS:
                self._file(below, status)
            else:
                self._refuse_outside(below, "file")
        elif not inside:
            self._refuse_outside(below, "folder")
        elif _identity(status) in ancestors:
            self._note(below, "is a link to a folder that contains it; it adds no image")
        elif not self._leave_out or not _is_within(target, self._leave_out):
            self._count_visit(_identity(status), below)
            return _Folder(path, below + b"/", ancestors | {_identity(status)})
        return None

    def _file(self, below: bytes, status: os.stat_result) -> None:
        if _extension(below) in IMAGE_EXTENSIONS and not stat.S_ISREG(status.st_mode):
            message = "it is a pipe, a socket or a device, not a file; remove it"
            self._refuse(below, "not_a_file", message)
        else:
            self.listing.account_for(below, status.st_size, str(status.st_mtime_ns))

    def _unreachable(self, below: bytes, error: OSError, is_folder: bool = False) -> None:
        """A name that leads to nothing that can be looked at."""
        if not is_folder and not _matters(below):
            self.listing.ignored[_extension(below)] += 1
        elif error.errno in {errno.ENOENT, errno.ELOOP, errno.ENOTDIR}:
            self._refuse(below, "missing", "it is gone, or a link that leads nowhere; remove it")
        else:
            self._refuse(
                below,
                "unreadable",
                f"it is listed but cannot be looked at ({error.strerror}); check the permissions "
                "of the file and its folder, then submit again",
                is_folder,
            )

    def _refuse_outside(self, below: bytes, what: str) -> None:
        self._refuse(
            below,
            "outside_root",
            f"a link to a {what} outside the archive is not followed; put the {what} itself into "
            "the archive, or submit the folder that it lies in",
            is_folder=what == "folder",
        )

    def _refuse(self, below: bytes, reason: str, message: str, is_folder: bool = False) -> None:
        self.listing.refuse(below, reason, message, is_folder=is_folder)

    def _note(self, below: bytes, text: str) -> None:
        self.listing.notes.append(f"{source_of(below.rstrip(b'/'))[0]} {text}")

    def _count_visit(self, folder: Identity, below: bytes) -> None:
        self._visits[folder] += 1
        if self._visits[folder] > MAX_VISITS:
            raise NamingError(
                f"more than {MAX_VISITS} links lead to the folder of {source_of(below)[0]!r}: "
                "the same images would be screened again and again; remove the links"
            )


def is_litter(name: bytes) -> bool:
    """Whether a file or folder of this name is none of the archive's."""
    return name.startswith(b".") or name.lower() in LITTER_FOLDERS


def source_of(path: bytes) -> tuple[str, str | None]:
    """How a path is shown, and its percent-encoded form where that does not name the file.

    Bytes that are no UTF-8 become ``\\xNN``, and so does a backslash, so that no two different
    paths look the same.
    """
    if b"\\" not in path:
        try:
            return path.decode("utf-8"), None
        except UnicodeDecodeError:
            pass
    from urllib.parse import quote_from_bytes

    text = path.replace(b"\\", rb"\x5c").decode("utf-8", "backslashreplace")
    return text, quote_from_bytes(path)


def _extension(path: bytes) -> bytes:
    name = path.rpartition(b"/")[2]
    return name.rpartition(b".")[2].lower() if b"." in name else b""


def _matters(path: bytes) -> bool:
    """Whether a name that leads nowhere may have been an image, or a folder of them (P7, P.7)."""
    extension = _extension(path)
    return extension in IMAGE_EXTENSIONS | SLIDE_EXTENSIONS or not extension.strip(b"0123456789")


def _status(path: bytes) -> os.stat_result:
    return Path(os.fsdecode(path)).stat()


def _is_within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
