"""Inputs made from others: bytes changed, cut, repeated, and replaced by what parsers trip over."""

from __future__ import annotations

import random

#: What parsers of text, numbers and paths trip over.
_TOKENS = (
    *(b"\0", b"\r", b"\n", b'"', b",", b";", b"\xff", b"\xff\xfe", b"\xed\xa0\x80", b"\x1b[2J"),
    *(b"..", b"/", b"//", b"../", b"%2e%2e", b"%00", b"[", b"]", b"{", b"}", b"\\", b"://", b"@"),
    *(b"NaN", b"Infinity", b"-1", b"1e999", b"0" * 400, b"null", b"true", b'"x"', b"[]"),
    *(b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"),
)

_MOST_CHANGES = 6
_MOST_BYTES = 100_000


def altered(data: bytes, chance: random.Random) -> bytes:
    """The bytes with a few changes."""
    found = bytearray(data)
    for _ in range(chance.randint(1, _MOST_CHANGES)):
        at = chance.randint(0, len(found))
        end = min(len(found), at + chance.randint(0, 8))
        kind = chance.randrange(5)
        if kind == 0:
            found[at:end] = chance.randbytes(end - at)
        elif kind == 1:
            found[at:end] = chance.choice(_TOKENS)
        elif kind == 2:
            del found[at : at + chance.randint(1, max(1, len(found) // 4))]
        elif kind == 3:
            found[at:at] = found[at : at + 64] * chance.randint(1, 20)
        else:
            found[at:at] = chance.choice(_TOKENS)
    return bytes(found[:_MOST_BYTES])
