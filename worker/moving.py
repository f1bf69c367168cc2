"""Moving the files of an archive that is a folder, where that was asked for."""

from __future__ import annotations

import filecmp
import os
import shutil
from contextlib import suppress
from pathlib import Path

from worker.archive import row_path
from worker.records import ManifestRow
from worker.store import storage_error

#: A copy on its way to another disk; what a killed process left is written over.
_ON_ITS_WAY = ".screen-part"


class Moving:
    """Moves files below ``source`` to the same path below ``target``, and never over another."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source = source.resolve()
        self._target = target.resolve()

    @property
    def name(self) -> str:
        """What it is called in the store."""
        return f"moved to {self._target.as_uri()}"

    def __call__(self, row: ManifestRow, run_id: str) -> bool:
        """False where the file is another one now, is a link, or where its place is taken."""
        below = os.fsdecode(row_path(row))
        file, target = self._source / below, self._target / below
        try:
            # What a link leads to is not ours to move.
            if Path(os.path.realpath(file)) != file or not _is_listed(file, row):
                return False
            target.parent.mkdir(parents=True, exist_ok=True)
            if not _give_name(file, target) or not _is_listed(file, row):
                return False
            file.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise storage_error(self._target, error) from error
        return True


def _is_listed(file: Path, row: ManifestRow) -> bool:
    found = file.stat(follow_symlinks=False)
    return (found.st_size, str(found.st_mtime_ns)) == (row.size, row.version)


def _give_name(file: Path, target: Path) -> bool:
    """Have the same content at ``target``; False if something else is there."""
    try:
        os.link(file, target, follow_symlinks=False)
    except FileExistsError:
        # An earlier try that was killed, or another file.
        return not target.is_symlink() and target.is_file() and filecmp.cmp(file, target, False)
    except OSError:
        # Another disk, or one without hard links.
        return _copy(file, target)
    return True


def _copy(file: Path, target: Path) -> bool:
    part = target.with_name(f".{target.name}{_ON_ITS_WAY}")
    try:
        shutil.copy2(file, part)
        with part.open("rb") as copied:
            os.fsync(copied.fileno())
        try:
            os.link(part, target)
        except FileExistsError:
            return filecmp.cmp(file, target, False)
        except OSError:
            if target.exists():
                return filecmp.cmp(file, target, False)
            part.rename(target)
        return True
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
