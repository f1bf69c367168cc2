"""Files that were altered at random are decoded or refused, and nothing else happens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.decode import DecodeLimits, decode
from pipeline.errors import BadInputError
from tests.pipeline.image_files import (
    PNG_START,
    TRUNCATED,
    deep,
    deep_png,
    field,
    pages,
    png_chunk,
    saved,
    tiff,
)

SEEDS = [
    *TRUNCATED.values(),
    saved(Image.fromarray(field()).quantize(16), "PNG"),
    saved(Image.fromarray(field()).convert("CMYK"), "JPEG"),
    saved(Image.fromarray(field()).convert("1"), "TIFF", compression="group4"),
    saved(field(), "TIFF", compression="tiff_lzw"),
    saved(field(), "TIFF", compression="jpeg"),
    tiff(deep(12), photometric="rgb", compression="zlib"),
    tiff(np.tile(field(), (2, 2, 1)), photometric="rgb", tile=(64, 64), bigtiff=True),
    deep_png(deep(16), colour=2),
    pages(0, 1),
]
STARTS = [b"\xff\xd8\xff", PNG_START, b"BM", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0"]
SMALL = DecodeLimits(max_pixels=200_000)

edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6
)


def with_checksums(data: bytes) -> bytes:
    """The PNG with checksums that agree with its altered chunks, so that decoding goes on."""
    fixed, position = bytearray(data[:8]), 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if end > len(data):
            break
        fixed += png_chunk(data[position + 4 : position + 8], data[position + 8 : end - 4])
        position = end
    return bytes(fixed) + data[position:]


def assert_decodes_or_refuses(data: bytes) -> None:
    try:
        image = decode(data, SMALL)
    except BadInputError as error:
        assert str(error)
        assert error.reason.replace("_", "").isalpha()
    else:
        assert image.pixels.dtype == np.uint8
        assert image.pixels.ndim == 3
        assert image.pixels.shape[2] == 3
        assert SMALL.min_side <= min(image.width, image.height)


def test_damaged_files_leave_nothing_on_standard_error(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    # libtiff, called by Pillow, writes to the descriptor itself.
    for seed in SEEDS:
        for place in range(8, min(len(seed), 400), 3):
            assert_decodes_or_refuses(seed[:place] + b"\xff" + seed[place + 1 :])
        assert_decodes_or_refuses(seed[: len(seed) // 2])
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.sampled_from(SEEDS),
    edits=edits,
    header_only=st.booleans(),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_altered_files_are_decoded_or_refused(
    seed: bytes, edits: list[tuple[float, int]], header_only: bool, keep: float
) -> None:
    data = bytearray(seed)
    reach = min(len(data), 400) if header_only else len(data)
    for place, value in edits:
        data[int(place * reach)] = value
    altered = bytes(data[: int(keep * len(data))])
    if altered.startswith(PNG_START):
        altered = with_checksums(altered)
    assert_decodes_or_refuses(altered)


@settings(max_examples=300)
@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=400))
def test_random_bytes_behind_a_known_beginning_are_decoded_or_refused(
    start: bytes, rest: bytes
) -> None:
    assert_decodes_or_refuses(start + rest)


@settings(max_examples=200)
@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadInputError):
        decode(data)
