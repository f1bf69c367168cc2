"""Image files of every kind, made in memory, and what decoding says of bad ones."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.decode import DecodeLimits, decode
from pipeline.errors import BadInputError

HEIGHT, WIDTH = 72, 96
PNG_START = b"\x89PNG\r\n\x1a\n"


def field() -> np.ndarray:
    """A smooth picture in colour whose four corners differ."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red, green = 255 * x / (WIDTH - 1), 255 * y / (HEIGHT - 1)
    blue = 128 + 60 * np.sin(x / 9) * np.cos(y / 7)
    return np.stack([red, green, blue], axis=2).round().astype(np.uint8)


def saved(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(samples: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    checked = name + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG of any layout; ``rows`` has a filter byte before each row."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    pixels = zlib.compress(rows)
    return (
        PNG_START
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", pixels)
        + png_chunk(b"IEND", b"")
    )


def deep_png(samples: np.ndarray, colour: int) -> bytes:
    rows = samples.astype(">u2").reshape(len(samples), -1)
    unfiltered = b"".join(b"\0" + row.tobytes() for row in rows)
    return png(samples.shape[1], samples.shape[0], 16, colour, unfiltered)


def refusal(data: bytes, **limits: int) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        decode(data, DecodeLimits(**limits))
    return caught.value


def assert_close(pixels: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    difference = np.abs(pixels.astype(int) - expected.astype(int))
    assert difference.mean() <= tolerance


#: Samples of a camera with this many bits, in 16-bit files.
DEPTHS = [8, 10, 12, 14, 16]


def deep(bits: int) -> np.ndarray:
    top = 2**bits - 1
    return np.rint(field() * (top / 255.0)).astype(np.uint16)


def pages(*kinds: int) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for kind in kinds:
            step = 2 if kind else 1
            writer.write(field()[::step, ::step], photometric="rgb", subfiletype=kind)
    return buffer.getvalue()


TRUNCATED = {
    "jpeg": saved(field(), "JPEG", quality=95),
    "progressive": saved(field(), "JPEG", progressive=True),
    "png": saved(field(), "PNG"),
    "bmp": saved(field(), "BMP"),
    "tiff": tiff(field(), photometric="rgb"),
    "deflated tiff": tiff(field(), photometric="rgb", compression="zlib"),
}
