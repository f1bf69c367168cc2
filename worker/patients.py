"""Whose image a file is: by folder, by a table, or by a pattern."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.errors import ConfigurationError, NamingError

#: Patient of images that lie at the archive's root.
ROOT_PATIENT = "_root"

#: Names that an error message quotes before it says how many more there are.
NAMED_IN_ERRORS = 5

FILE_COLUMN, PATIENT_COLUMN = "file", "patient"

#: The patient of a file, by its path below the root; None: the rule has no answer.
PatientRule = Callable[[str], str | None]


def by_folder(path: str) -> str:
    """The first-level folder; ``_root`` for files at the root."""
    folder, slash, _ = path.partition("/")
    return folder if slash else ROOT_PATIENT


def by_pattern(pattern: str) -> PatientRule:
    """The group ``patient`` of a regular expression that matches the whole path below the root.

    The whole path, because a pattern that matches only the beginning would make ``P1`` of ``P12``
    and mix two patients. Raises ConfigurationError if the pattern is not valid.
    """
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ConfigurationError(
            f"--patient-pattern {pattern!r} is not a regular expression: {error}"
        ) from None
    if "patient" not in compiled.groupindex:
        raise ConfigurationError(
            f"--patient-pattern {pattern!r} does not say which part is the patient: "
            "put that part into (?P<patient>...)"
        )

    def rule(path: str) -> str | None:
        match = compiled.fullmatch(path)
        return (match["patient"] or None) if match else None

    return rule


def check_patient(name: str, where: str) -> str:
    """A patient's name as a person typed it, without blanks around it.

    Raises ConfigurationError if it is empty or has characters that are not text.
    """
    stripped = name.strip()
    if not stripped:
        raise ConfigurationError(f"{where}: the patient's name is empty")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in stripped):
        raise NamingError(
            f"{where}: the patient's name {stripped!r} has characters that are not text"
        )
    return stripped


class PatientTable:
    """A CSV file with the columns ``file`` and ``patient``.

    UTF-8 (with or without byte order mark) or UTF-16 with one, as spreadsheet programs write it;
    separated by commas, semicolons or tabs; other columns are ignored. Raises ConfigurationError
    with the line of whatever is wrong.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._patients: dict[str, str] = {}
        self._used: set[str] = set()
        self._forgiving: dict[str, str] = {}
        lines: dict[str, int] = {}
        for number, file, patient in _read_table(path):
            name = check_patient(patient, f"{path}, line {number}")
            known = self._patients.setdefault(file, name)
            if known != name:
                raise NamingError(
                    f"{path}: {file!r} belongs to {known!r} in line {lines[file]} and to "
                    f"{name!r} in line {number}; keep one of them"
                )
            lines.setdefault(file, number)
            self._forgiving[_forgiving(file)] = file

    def __call__(self, path: str) -> str | None:
        """The patient of a file."""
        entry = path
        if path not in self._patients:
            entry = self._forgiving.get(_forgiving(path), path)
        if entry not in self._patients:
            return None
        self._used.add(entry)
        return self._patients[entry]

    def unused(self) -> list[str]:
        """Files of the table that were not asked for, in the table's order."""
        return [file for file in self._patients if file not in self._used]


def some_of(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    text = ", ".join(repr(name) for name in listed[:NAMED_IN_ERRORS])
    more = len(listed) - NAMED_IN_ERRORS
    return f"{text} and {more} more" if more > 0 else text


def _forgiving(path: str) -> str:
    """The same for paths that differ in how accents are composed and in how Windows writes /."""
    return unicodedata.normalize("NFC", path.replace("\\", "/"))


def _read_table(path: Path) -> Iterable[tuple[int, str, str]]:
    """Line number, file and patient of every line."""
    text = _decoded(path)
    # Excel's own hint at the separator, which it honours and does not show.
    first, _, rest = text.partition("\n")
    skipped = 0
    if re.fullmatch(r'"?sep=.?"?\s*', first):
        text, skipped = rest, 1
    delimiter, columns = _header(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    file_column, patient_column = columns.index(FILE_COLUMN), columns.index(PATIENT_COLUMN)
    try:
        next(reader)
        for cells in reader:
            number = reader.line_num + skipped
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) <= max(file_column, patient_column):
                raise ConfigurationError(
                    f"{path}, line {number}: a file and its patient are expected, "
                    f"separated by {delimiter!r}"
                )
            yield number, _file_name(cells[file_column], path, number), cells[patient_column]
    except csv.Error as error:
        raise ConfigurationError(
            f"{path}, line {reader.line_num + skipped}: {error}; check the quotes"
        ) from None


def _file_name(cell: str, path: Path, number: int) -> str:
    name = cell.removeprefix("./")
    if not name.strip():
        raise ConfigurationError(f"{path}, line {number}: the file's name is empty")
    return name


def _header(path: Path, text: str) -> tuple[str, list[str]]:
    """The separator and the names of the columns."""
    first = text.partition("\n")[0].rstrip("\r")
    for delimiter in ",;\t":
        columns = [cell.strip().strip('"').strip().lower() for cell in first.split(delimiter)]
        if FILE_COLUMN in columns and PATIENT_COLUMN in columns:
            return delimiter, columns
    raise NamingError(
        f"{path}: the first line must name the columns file and patient, as in 'file,patient'; "
        f"it is {first[:80]!r}"
    )


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        # Guessing an encoding could turn one patient's name into another's.
        line = data[: error.start].count(b"\n") + 1
        raise ConfigurationError(
            f"{path}, line {line}: not UTF-8 text; save it again as 'CSV UTF-8' "
            "(in Excel: Save as, CSV UTF-8)"
        ) from None
