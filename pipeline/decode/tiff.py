"""What has to be asked of a TIFF before its pixels are trusted."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import TiffImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from pipeline.decode.completeness import refuse_corrupt, refuse_truncated
from pipeline.decode.formats import SAVE_AS, refuse_format
from pipeline.decode.limits import DecodeLimits
from pipeline.errors import BadInputError

NEW_SUBFILE_TYPE, OLD_SUBFILE_TYPE = 254, 255
BITS_PER_SAMPLE, PLANAR_CONFIGURATION, SAMPLE_FORMAT = 258, 284, 339
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
EXTRA_SAMPLES, PREMULTIPLIED = 338, 1
DESCRIPTION, SOFTWARE, XMP, HAMAMATSU_FORMAT = 270, 305, 700, 65420
TILE_WIDTH, TILE_LENGTH = 322, 323
STRIPS, TILES = (273, 279), (324, 325)

#: Directories that are looked at; more is a slide or an attack.
MAX_PAGES = 64

#: How slide scanners sign their files: tag, words in it, name.
_SCANNERS = (
    (DESCRIPTION, "Aperio", "an Aperio SVS whole slide"),
    (DESCRIPTION, "<scn", "a Leica SCN whole slide"),
    (DESCRIPTION, "PHILIPS", "a Philips whole slide"),
    (SOFTWARE, "Philips", "a Philips whole slide"),
    (SOFTWARE, "MedScan", "a Trestle whole slide"),
    (XMP, "iScan", "a Ventana BIF whole slide"),
)

_stderr_lock = threading.Lock()


def check_tiff(image: TiffImageFile, data: bytes, limits: DecodeLimits) -> None:
    """Refuse what would be read as something it is not.

    A TIFF with one full page and any number of reduced ones (thumbnails, pyramids) is a field: the
    full one. With several full pages (a stack, or several fields) it is refused, because the
    others would go unseen. Raises BadInputError.
    """
    _check_scanner(image)
    _check_samples(image)
    _check_extent(image, len(data), limits)
    _check_pages(data)


def is_white_zero(image: TiffImageFile) -> bool:
    """Whether small samples are bright (Pillow inverts these up to 8 bits only)."""
    return bool(image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO)


@contextmanager
def quiet_libtiff() -> Iterator[None]:
    """Keep libtiff from writing about damaged files to the process's standard error.

    It does so from C and offers Python no handler, so descriptor 2 points elsewhere for the moment.
    Its complaints still arrive as error codes.
    """
    with _stderr_lock:
        try:
            kept = os.dup(2)
        except OSError:  # there is no standard error, so there is nothing to keep quiet
            yield
            return
        silent = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(silent, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(silent)


def _check_scanner(image: TiffImageFile) -> None:
    if HAMAMATSU_FORMAT in image.tag_v2:
        refuse_format("a Hamamatsu NDPI whole slide")
    for tag, words, name in _SCANNERS:
        value = image.tag_v2.get(tag)
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        if words in text[:10_000]:
            refuse_format(name)


def _check_samples(image: TiffImageFile) -> None:
    """Sample layouts that Pillow opens but reads wrongly, or that have no meaning as a colour."""
    tags = image.tag_v2
    sample_format = tags.get(SAMPLE_FORMAT, (1,))
    if set(sample_format) != {1}:
        kinds = {2: "signed", 3: "floating-point"}
        kind = kinds.get(sample_format[0], "unknown")
        _refuse_pixels(f"{kind} samples, whose black and white are not stated")
    if max(tags.get(BITS_PER_SAMPLE, (1,))) <= 8:
        return
    if tags.get(PLANAR_CONFIGURATION, 1) != 1:
        _refuse_pixels("samples of more than 8 bits stored plane by plane")
    if PREMULTIPLIED in tags.get(EXTRA_SAMPLES, ()):
        _refuse_pixels("samples of more than 8 bits multiplied with their opacity")


def _refuse_pixels(layout: str) -> None:
    raise BadInputError(
        "unsupported_pixels",
        f"the TIFF has {layout}; save the field as 8-bit RGB, or as plain 16-bit RGB or grey",
    )


def _check_extent(image: TiffImageFile, size: int, limits: DecodeLimits) -> None:
    """Strips or tiles must lie inside the file, and a tile must not be larger than an image may."""
    tags = image.tag_v2
    for offsets, counts in (STRIPS, TILES):
        pairs = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
        if any(offset + count > size for offset, count in pairs):
            raise refuse_truncated("part of the pixels lies behind its end")
    if tags.get(TILE_WIDTH, 0) * tags.get(TILE_LENGTH, 0) > limits.max_pixels:
        raise refuse_corrupt("its tiles are larger than any image")


def _check_pages(data: bytes) -> None:
    pages = TiffImageFile(BytesIO(data))
    for page in range(1, MAX_PAGES + 1):
        try:
            pages.seek(page)
        except EOFError:
            return
        if not _is_reduced(pages):
            break
    raise BadInputError(
        "unsupported_format",
        "the TIFF holds several pages, of which only one could be judged; save each field or "
        f"focal plane as a file of its own ({SAVE_AS})",
    )


def _is_reduced(page: TiffImagePlugin.TiffImageFile) -> bool:
    kind = page.tag_v2.get(NEW_SUBFILE_TYPE, 0)
    return bool(kind & 1) or page.tag_v2.get(OLD_SUBFILE_TYPE) == 2
