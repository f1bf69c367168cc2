"""Whether a file is all there, told from its structure.

Pillow finds most of this itself while it decodes, but a process-wide switch of it
(``LOAD_TRUNCATED_IMAGES``) turns missing rows into grey, it does not check the checksums of a PNG's
pixels, and it names a file that breaks off in its header just malformed.
"""

from __future__ import annotations

import struct
import zlib

from pipeline.decode.formats import Format
from pipeline.errors import BadInputError

_STARTS_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def check_complete(data: bytes, kind: Format) -> None:
    """Raises BadInputError ``truncated`` or ``corrupt`` if ``data`` breaks off or was altered.

    TIFF and BMP keep their pixels at offsets that the header states; the pixels' are checked where
    the header has been read.
    """
    if kind == "JPEG":
        _check_jpeg(data)
    elif kind == "PNG":
        _check_png(data)
    elif kind == "TIFF":
        _check_tiff(data)
    else:
        _check_bitmap(data)


def refuse_truncated(missing: str) -> BadInputError:
    """The error for a file that ends before ``missing``."""
    return BadInputError(
        "truncated",
        f"the file breaks off: {missing}; copy it again from where it came from",
    )


def refuse_corrupt(fault: str) -> BadInputError:
    """The error for a file whose content contradicts itself."""
    return BadInputError(
        "corrupt",
        f"the file is damaged: {fault}; copy it again from where it came from",
    )


def _check_jpeg(data: bytes) -> None:
    """The header's segments must lie in the file, and after the scan an end marker must follow.

    ITU T.81 annex B: inside a scan every 0xFF byte is followed by 0x00 or a restart marker, so
    0xFF 0xD9 after its start is the end of an image.
    """
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF or data[position + 1] == 0xFF:
            position += 1  # padding, or stray bytes that decoders step over
            continue
        marker = data[position + 1]
        if marker in _WITHOUT_LENGTH:
            position += 2
            continue
        if marker in _STARTS_OF_FRAME:
            _check_precision(data[position + 4 : position + 5])
        if marker == _START_OF_SCAN:
            if data.find(b"\xff\xd9", position) < 0:
                raise refuse_truncated("the end of the pixels is missing")
            return
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise refuse_truncated("it has a header but no pixels")


def _check_precision(bits: bytes) -> None:
    if bits and bits[0] != 8:
        raise BadInputError(
            "unsupported_pixels",
            f"a JPEG with {bits[0]} bits per sample cannot be read; save the field as PNG or TIFF",
        )


def _check_png(data: bytes) -> None:
    """Every chunk must lie in the file and agree with its checksum (PNG specification, 5.3)."""
    position, pixels = 8, False
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        if name == b"IEND":
            if not pixels:
                raise refuse_corrupt("it has no pixels")
            return
        pixels = pixels or name == b"IDAT"
        if name[:1].isupper():  # chunks that the picture depends on
            content = memoryview(data)[position + 4 : end - 4]
            if zlib.crc32(content) != int.from_bytes(data[end - 4 : end], "big"):
                raise refuse_corrupt("the checksum of its pixels or header is wrong")
        position = end
    raise refuse_truncated("the end of the pixels is missing")


def _check_tiff(data: bytes) -> None:
    """The first directory must lie in the file (TIFF 6.0, section 2; BigTIFF has wider fields)."""
    order = "<" if data[:1] == b"I" else ">"
    is_big = data[2:4] in {b"+\0", b"\0+"}
    header, count, entry = ("8xQ", "Q", 20) if is_big else ("4xI", "H", 12)
    try:
        (directory,) = struct.unpack_from(order + header, data)
        (entries,) = struct.unpack_from(order + count, data, directory)
    except (struct.error, OverflowError):
        raise refuse_truncated("its table of contents is missing") from None
    if directory + entries * entry > len(data):
        raise refuse_truncated("its table of contents is cut")


def _check_bitmap(data: bytes) -> None:
    if len(data) < 26 or int.from_bytes(data[10:14], "little") >= len(data):
        raise refuse_truncated("it has a header but no pixels")
