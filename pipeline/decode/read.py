"""Decoding, in the order in which a hostile file must be asked."""

from __future__ import annotations

import hashlib
import logging
import struct
import warnings
import zlib
from contextlib import nullcontext
from functools import partial
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pipeline.decode.completeness import check_complete, refuse_corrupt, refuse_truncated
from pipeline.decode.formats import Format, identify
from pipeline.decode.limits import DEFAULT_LIMITS, DecodeLimits
from pipeline.decode.marker import is_marked_synthetic
from pipeline.decode.pixels import rgb_pixels
from pipeline.decode.tiff import check_tiff, quiet_libtiff
from pipeline.errors import BadInputError
from pipeline.types import SmearImage

#: Opened by class, not by ``Image.open``: no other format can be reached, the first picture of an
#: animation or of a multi-picture JPEG is taken, and Pillow's process-wide pixel limit has no say.
_READERS: dict[Format, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}

#: What Pillow raises on damaged or hostile files. Besides its own SyntaxError, OSError and
#: ValueError, its parsers let through what Python raises where a file contradicts itself.
#: MemoryError is not among them: within the limits it is the machine that is short of memory.
PILLOW_FAULTS = (
    SyntaxError,
    OSError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
)

ORIENTATION = 0x0112

#: What undoes each EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow reports odd files to its logger, which prints where no program has configured logging.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def decode(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> SmearImage:
    """Decode the bytes of a JPEG, PNG, BMP or TIFF file, told by content, to 8-bit RGB.

    The size is read from the header and checked before any pixel is decoded. EXIF orientation is
    applied. Transparency and 16-bit samples: see ``pipeline.decode.pixels``; TIFF with several
    pages: see ``pipeline.decode.tiff``. The pixels returned are read-only.

    Raises BadInputError with one of these reasons: ``empty_file``, ``not_an_image``,
    ``unsupported_format``, ``too_many_bytes``, ``too_many_pixels``, ``too_small``, ``truncated``,
    ``corrupt``, ``unsupported_pixels``. A JPEG damaged inside its compressed data but complete
    cannot be told from an intact one.
    """
    limits.check_bytes(len(data))
    kind = identify(data)
    # What Pillow warns of (odd metadata, large images) is either harmless or refused here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _decode(data, kind, limits)
        except Image.DecompressionBombError as error:
            raise BadInputError(
                "too_many_pixels", "the image has more pixels than can be decoded safely"
            ) from error
        except PILLOW_FAULTS as error:
            raise _as_bad_input(data, kind, error) from error


def _decode(data: bytes, kind: Format, limits: DecodeLimits) -> SmearImage:
    image = _READERS[kind](BytesIO(data))
    limits.check_size(*image.size)
    check_complete(data, kind)
    if isinstance(image, TiffImageFile):
        check_tiff(image, data, limits)
    elif isinstance(image, BmpImageFile):
        _check_bitmap(image, len(data))

    with quiet_libtiff() if kind == "TIFF" else nullcontext():
        pixels = rgb_pixels(image, reopen=partial(_READERS[kind], BytesIO(data)))
    exif = _exif(image)
    if kind != "TIFF":  # there Pillow has done it
        pixels = _upright(pixels, exif)
    pixels = np.ascontiguousarray(pixels)
    pixels.flags.writeable = False
    return SmearImage(
        pixels=pixels,
        sha256=hashlib.sha256(data).hexdigest(),
        synthetic=is_marked_synthetic(image, exif),
    )


def _check_bitmap(image: BmpImageFile, size: int) -> None:
    """Rows of an uncompressed bitmap must lie inside the file."""
    for decoder, _, offset, arguments in image.tile:
        stride = arguments[1] if decoder == "raw" and isinstance(arguments, tuple) else 0
        if offset + stride * image.height > size:
            raise refuse_truncated("the end of the pixels is missing")


def _exif(image: Image.Image) -> Image.Exif:
    """The image's EXIF; empty if it is damaged, which makes no pixel wrong."""
    try:
        exif = image.getexif()
        exif.get(ORIENTATION)
    except PILLOW_FAULTS:
        return Image.Exif()
    return exif


def _upright(pixels: np.ndarray, exif: Image.Exif) -> np.ndarray:
    orientation = exif.get(ORIENTATION)
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def _as_bad_input(data: bytes, kind: Format, error: Exception) -> BadInputError:
    """What is wrong with a file that Pillow could not read."""
    try:
        check_complete(data, kind)
    except BadInputError as precise:
        return precise
    words = str(error)
    if "truncated" in words.lower():
        return refuse_truncated("part of it is missing")
    if words == "unknown pixel mode" or words.startswith("Unsupported BMP"):
        return BadInputError(
            "unsupported_pixels",
            f"a {kind} with such samples cannot be read; save the field as 8-bit RGB, "
            "or as plain 16-bit RGB or grey",
        )
    return refuse_corrupt(f"as a {kind} it contradicts itself")
