"""Which kind of file it is, told from its first bytes: file names lie."""

from __future__ import annotations

import re
from typing import Literal, NoReturn

from pipeline.errors import BadInputError

Format = Literal["JPEG", "PNG", "BMP", "TIFF"]

_READABLE: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),  # BigTIFF
    (b"MM\x00+", "TIFF"),
)

#: Other files that people have beside smears: pattern of the first bytes, and how it is called.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (rb".{128}DICM", "a DICOM file"),
    (rb"GIF8[79]a", "a GIF image"),
    (rb"RIFF.{4}WEBP", "a WebP image"),
    (rb"%PDF", "a PDF document"),
    (rb".{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", "a HEIC image"),
    (rb".{4}ftypavi[fs]", "an AVIF image"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (rb"\x00\x00\x00\x0cJXL |\xff\x0a", "a JPEG XL image"),
    (rb"II\xbc", "a JPEG XR image"),
    (rb"8BPS", "a Photoshop document"),
    (rb"ZISRAWFILE", "a Zeiss CZI slide"),
    (rb"\xda\xce\xbe\x0a", "a Nikon ND2 file"),
    (rb"\xd0\xcf\x11\xe0", "a Zeiss ZVI or Microsoft Office file"),
    (rb"PK\x03\x04", "a ZIP archive or Office document"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"7z\xbc\xaf", "a 7z archive"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb".{4}ftyp", "a video"),
    (rb"P[1-7]\s", "a Netpbm image"),
)

SAVE_AS = "save the fields as PNG, TIFF, JPEG or BMP"


def identify(data: bytes) -> Format:
    """Format of the file that ``data`` begins.

    Raises BadInputError: ``unsupported_format`` with its name for other known kinds of files,
    ``not_an_image`` for the rest.
    """
    for start, readable in _READABLE:
        # Text may begin with the two letters that mark a bitmap, but has no offset of pixels.
        if data.startswith(start) and (readable != "BMP" or _is_bitmap(data)):
            return readable
    for pattern, name in _OTHERS:
        if re.match(pattern, data[:256], re.DOTALL):
            refuse_format(name)
    if not data.strip(b"\0"):
        raise BadInputError(
            "not_an_image",
            "the file holds nothing but zero bytes, as after a copy that broke off; "
            "copy it again from where it came from",
        )
    raise BadInputError(
        "not_an_image",
        f"the content is no image, whatever the name says; {SAVE_AS}, or take the file away",
    )


def refuse_format(name: str) -> NoReturn:
    """Raise BadInputError ``unsupported_format`` for a kind of file that is known by ``name``."""
    raise BadInputError(
        "unsupported_format", f"this is {name}, which this version cannot read; {SAVE_AS}"
    )


def _is_bitmap(data: bytes) -> bool:
    """Whether what follows BM is a bitmap's header: reserved zeros and a known length."""
    known_lengths = {12, 16, 40, 52, 56, 64, 108, 124}
    return len(data) < 18 or int.from_bytes(data[14:18], "little") in known_lengths
