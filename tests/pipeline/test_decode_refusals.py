"""What every kind of bad file is told."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from PIL import ImageFile

from tests.pipeline.image_files import (
    HEIGHT,
    TRUNCATED,
    WIDTH,
    field,
    png,
    refusal,
    saved,
    tiff,
)


def test_an_empty_file_is_refused() -> None:
    assert refusal(b"").reason == "empty_file"


@pytest.mark.parametrize(
    "data",
    [
        b"patient,slide\n1,2\n" * 50,
        b"BMI of the patients is in the other folder\n" * 20,
        b"\0" * 5000,
        b"\xff",
        b"<html><body>not found</body></html>",
        "Прочти меня".encode(),
    ],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    assert refusal(data).reason == "not_an_image"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0" * 128 + b"DICM" + b"\0" * 100, "DICOM"),
        (saved(field(), "GIF"), "GIF"),
        (saved(field(), "WEBP"), "WebP"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF"),
        (saved(field(), "JPEG2000"), "JPEG 2000"),
        (b"PK\x03\x04" + b"\0" * 100, "ZIP"),
        (b"ZISRAWFILE\0\0", "CZI"),
        (tiff(field(), photometric="rgb", description="Aperio Image Library v11"), "SVS"),
        (tiff(field(), photometric="rgb", extratags=[(65420, 4, 1, 1, True)]), "NDPI"),
        (tiff(field(), photometric="rgb", software="Philips DP v1.0"), "Philips"),
        (tiff(field(), photometric="rgb", description="<scn xmlns='x'/>"), "Leica"),
    ],
)
def test_other_formats_are_refused_by_name(data: bytes, name: str) -> None:
    error = refusal(data)
    assert error.reason == "unsupported_format"
    assert name in str(error)
    assert "save the fields as PNG" in str(error)


def test_too_many_bytes_are_refused_before_they_are_looked_at() -> None:
    error = refusal(b"x" * 2001, max_bytes=2000)
    assert error.reason == "too_many_bytes"


def test_a_small_image_is_refused_with_the_smallest_side() -> None:
    error = refusal(saved(field(), "PNG"), min_side=90)
    assert error.reason == "too_small"
    assert "90" in str(error)


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_a_huge_png_is_refused_at_once_and_without_memory(bits: int) -> None:
    data = png(60_000, 60_000, bits, 0, b"\0" * 1000)
    tracemalloc.start()
    started = time.perf_counter()

    error = refusal(data)

    seconds = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.reason == "too_many_pixels"
    assert "60000 x 60000" in str(error)
    assert seconds < 0.5
    assert peak < 1_000_000


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "TIFF"])
def test_pixels_are_counted_in_every_format(kind: str) -> None:
    error = refusal(saved(field(), kind), max_pixels=HEIGHT * WIDTH - 1)
    assert error.reason == "too_many_pixels"


@pytest.mark.parametrize("name", TRUNCATED)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_refused_as_truncated(name: str, share: float) -> None:
    data = TRUNCATED[name]
    assert refusal(data[: max(60, int(len(data) * share))]).reason == "truncated"


def test_a_truncated_jpeg_is_refused_even_where_pillow_was_told_to_accept_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for data in TRUNCATED.values():
        assert refusal(data[: int(len(data) * 0.8)]).reason == "truncated"


def test_a_png_whose_pixels_were_altered_is_refused_as_corrupt() -> None:
    data = bytearray(saved(field(), "PNG"))
    data[len(data) // 2] ^= 1
    assert refusal(bytes(data)).reason == "corrupt"


def test_messages_say_what_to_do() -> None:
    for data in (b"", b"text", saved(field(), "GIF"), TRUNCATED["jpeg"][:500]):
        assert ";" in str(refusal(data))
