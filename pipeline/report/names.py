"""Names of patients and files: as directories, and as text that cannot mislead a reader."""

from __future__ import annotations

import hashlib
import string
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

#: Longest directory name in bytes; file systems allow 255, archives and copies add to it.
MAX_DIRECTORY_BYTES = 120

_PLAIN = frozenset((string.ascii_letters + string.digits + "_-").encode("ascii"))
_HASH_DIGITS = 32

#: Unicode categories that leave no mark on paper or change the marks around them: controls,
#: formats (bidirectional overrides, zero-width characters), surrogates, private use, unassigned,
#: separators of lines, paragraphs and (other than U+0020) words.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def patient_directory(patient: str) -> str:
    """The directory of a patient's report, at most MAX_DIRECTORY_BYTES ASCII characters.

    UTF-8 bytes outside ``[A-Za-z0-9_-]`` are percent-encoded with upper-case digits, dots
    included, so no name is ``.`` or ``..`` or leaves its parent. A longer name is cut and ends in
    ``~`` and 128 bits of the SHA-256 of the patient; ``~`` is in no other name, so different
    patients have different directories. The empty patient is ``%``, which no encoding yields.

    Letter case is kept, as readers expect ``P-17`` to be ``P-17``: see ``case_conflicts``.
    """
    data = patient.encode("utf-8", "surrogatepass")
    if not data:
        return "%"
    name = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in data)
    if len(name) <= MAX_DIRECTORY_BYTES:
        return name
    kept = name[: MAX_DIRECTORY_BYTES - _HASH_DIGITS - 1]
    if "%" in kept[-2:]:  # never cut an escape in two
        kept = kept[: kept.rindex("%")]
    return f"{kept}~{hashlib.sha256(data).hexdigest()[:_HASH_DIGITS]}"


def case_conflicts(patients: Iterable[str]) -> list[list[str]]:
    """Groups of different patients whose directories are one on a case-insensitive file system.

    Writing such a run to a Windows share would put one report over another: refuse it beforehand.
    """
    groups: dict[str, set[str]] = defaultdict(set)
    for patient in patients:
        groups[patient_directory(patient).lower()].add(patient)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def visible_parts(text: str) -> list[tuple[str, bool]]:
    """Split text into (piece, escaped) pairs.

    Characters that do not show become escapes such as ``\\n`` or ``\\u202E``. Ordinary
    spaces are escaped where they would not be seen: first, last, and after another.
    """
    if text.isascii() and text.isprintable() and " " not in text:
        return [(text, False)] if text else []
    parts: list[tuple[str, bool]] = []
    for index, character in enumerate(text):
        hidden = _is_hidden(text, index)
        shown = _escape(character) if hidden else character
        if parts and parts[-1][1] == hidden:
            parts[-1] = (parts[-1][0] + shown, hidden)
        else:
            parts.append((shown, hidden))
    return parts


def visible(text: str) -> str:
    """The text in one line in which every character shows; see ``visible_parts``."""
    return "".join(piece for piece, _ in visible_parts(text))


def _is_hidden(text: str, index: int) -> bool:
    character = text[index]
    if character == " ":
        return index in (0, len(text) - 1) or text[index - 1] == " "
    return unicodedata.category(character) in _UNSEEN


def _escape(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
