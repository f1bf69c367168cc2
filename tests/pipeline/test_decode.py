"""Decoding: what every kind of file gives, and what every kind of bad file is told."""

from __future__ import annotations

import hashlib
import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile, PngImagePlugin

from pipeline.decode import SYNTHETIC_MARKER, DecodeLimits, decode
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


# --- what can be read -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_the_pixels_that_were_saved(kind: str) -> None:
    data = saved(field(), kind)

    image = decode(data)

    assert image.pixels.dtype == np.uint8
    assert np.array_equal(image.pixels, field())
    assert (image.width, image.height) == (WIDTH, HEIGHT)
    assert image.sha256 == hashlib.sha256(data).hexdigest()
    assert not image.synthetic
    assert not image.pixels.flags.writeable


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_gives_about_the_pixels_that_were_saved(options: dict[str, Any]) -> None:
    assert_close(decode(saved(field(), "JPEG", quality=95, **options)).pixels, field(), 3)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_is_read(compression: str) -> None:
    assert np.array_equal(decode(saved(field(), "TIFF", compression=compression)).pixels, field())


def test_tiled_and_big_tiff_are_read() -> None:
    samples = np.tile(field(), (2, 2, 1))
    data = tiff(samples, photometric="rgb", tile=(64, 64), bigtiff=True)
    assert np.array_equal(decode(data).pixels, samples)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_shown_in_the_colours_that_were_meant(kind: str) -> None:
    data = saved(Image.fromarray(field()).convert("CMYK"), kind)
    assert_close(decode(data).pixels, field(), 4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
def test_grey_has_three_equal_channels(kind: str) -> None:
    grey = Image.fromarray(field()).convert("L")
    pixels = decode(saved(grey, kind)).pixels
    assert np.ptp(pixels, axis=2).max() == 0
    assert_close(pixels[:, :, 0], np.asarray(grey), 2)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_palette_and_one_bit_images_are_read(kind: str) -> None:
    palette = Image.fromarray(field()).quantize(64)
    assert np.array_equal(decode(saved(palette, kind)).pixels, np.asarray(palette.convert("RGB")))
    bits = Image.fromarray(field()).convert("1")
    assert np.array_equal(decode(saved(bits, kind)).pixels, np.asarray(bits.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_transparent_parts_are_shown_on_white(kind: str) -> None:
    opacity = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    opacity[:, : WIDTH // 2] = 255
    pixels = decode(saved(np.concatenate([field(), opacity], axis=2), kind)).pixels
    assert np.array_equal(pixels[:, : WIDTH // 2], field()[:, : WIDTH // 2])
    assert (pixels[:, WIDTH // 2 :] == 255).all()


def test_a_transparent_colour_of_a_palette_is_shown_on_white() -> None:
    palette = Image.fromarray(np.tile(np.arange(2, dtype=np.uint8), (80, 40)), "P")
    palette.putpalette([10, 20, 30, 200, 100, 50])
    pixels = decode(saved(palette, "PNG", transparency=1)).pixels
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[0, 1].tolist() == [255, 255, 255]


def test_opacity_that_is_zero_everywhere_is_ignored() -> None:
    nothing = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    data = saved(np.concatenate([field(), nothing], axis=2), "PNG")
    assert np.array_equal(decode(data).pixels, field())


def test_grey_with_alpha_is_shown_on_white() -> None:
    samples = np.zeros((80, 80, 2), np.uint8)
    samples[:40] = (100, 255)
    pixels = decode(saved(samples, "PNG")).pixels
    assert (pixels[:40] == 100).all()
    assert (pixels[40:] == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(kind: str, orientation: int) -> None:
    lying = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = saved(np.ascontiguousarray(lying(field())), kind, exif=exif)
    assert_close(decode(data).pixels, field(), 3)


def test_damaged_exif_does_not_cost_the_image() -> None:
    data = saved(field(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert np.array_equal(decode(data).pixels, field())


def test_the_first_picture_of_an_animation_is_taken() -> None:
    later = [Image.fromarray(field()[::-1])]
    animated = saved(field(), "PNG", save_all=True, append_images=later)
    assert np.array_equal(decode(animated).pixels, field())
    several = saved(field(), "MPO", save_all=True, append_images=later, quality=95)
    assert_close(decode(several).pixels, field(), 3)


def test_a_field_from_a_camera_is_read(shared_data: Callable[[str], Path]) -> None:
    path = shared_data("taleqani_fullres/pre/WBC-Malignant-Pre-183-full.jpg")
    image = decode(path.read_bytes())
    assert (image.width, image.height, image.synthetic) == (1024, 768, False)
    # A smear is bright, and its brightest parts are the background.
    assert np.median(image.pixels, axis=(0, 1)).min() > 200


# --- 16 bits --------------------------------------------------------------------------------

#: Samples of a camera with this many bits, in 16-bit files.
DEPTHS = [8, 10, 12, 14, 16]


def deep(bits: int) -> np.ndarray:
    top = 2**bits - 1
    return np.rint(field() * (top / 255.0)).astype(np.uint16)


@pytest.mark.parametrize("bits", DEPTHS)
def test_sixteen_bit_colour_is_scaled_by_the_depth_of_the_camera(bits: int) -> None:
    files = [
        deep_png(deep(bits), colour=2),
        tiff(deep(bits), photometric="rgb"),
        tiff(deep(bits), photometric="rgb", byteorder=">"),
        tiff(deep(bits), photometric="rgb", compression="zlib"),
        tiff(deep(bits), photometric="rgb", compression="zlib", byteorder=">"),
        tiff(np.pad(deep(bits), ((0, 0), (0, 0), (0, 1))), photometric="rgb", extrasamples=[0]),
    ]
    for data in files:
        assert np.array_equal(decode(data).pixels, field())


@pytest.mark.parametrize("bits", DEPTHS)
def test_sixteen_bit_grey_is_scaled_by_the_depth_of_the_camera(bits: int) -> None:
    grey = deep(bits)[:, :, 0]
    inverted = (2**bits - 1 - grey).astype(np.uint16)
    files = [
        deep_png(grey, colour=0),
        tiff(grey),
        tiff(grey, byteorder=">"),
        tiff(grey, compression="zlib", byteorder=">"),
        tiff(inverted, photometric="miniswhite"),
    ]
    for data in files:
        assert np.array_equal(decode(data).pixels[:, :, 1], field()[:, :, 0])


def test_sixteen_bit_opacity_is_shown_on_white() -> None:
    opacity = np.full((HEIGHT, WIDTH, 1), 65535, np.uint16)
    opacity[: HEIGHT // 2] = 0
    expected = field().copy()
    expected[: HEIGHT // 2] = 255
    colour = np.concatenate([deep(12), opacity], axis=2)
    grey = np.concatenate([deep(12)[:, :, :1], opacity], axis=2)
    assert np.array_equal(decode(deep_png(colour, colour=6)).pixels, expected)
    assert np.array_equal(decode(deep_png(grey, colour=4)).pixels[:, :, 2], expected[:, :, 0])


def test_sixteen_bits_and_orientation_go_together() -> None:
    data = tiff(deep(16), photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    assert np.array_equal(decode(data).pixels, np.rot90(field(), -1))


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (field().astype(np.float32) / 255, {"photometric": "rgb"}),
        (field()[:, :, 0].astype(np.float32) / 255, {}),
        (field()[:, :, 0].astype(np.float64), {}),
        (field()[:, :, 0].astype(np.int32), {}),
        (field()[:, :, 0].astype(np.uint32), {}),
        (field()[:, :, 0].astype(np.int16), {}),
        ((field()[:, :, 0] // 2).astype(np.int8), {}),
        (np.moveaxis(deep(16), 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        (
            np.pad(deep(16), ((0, 0), (0, 0), (0, 1)), constant_values=9),
            {"photometric": "rgb", "extrasamples": [1]},
        ),
    ],
    ids=["rgb-float", "float", "double", "int32", "uint32", "int16", "int8", "planes", "premult"],
)
def test_samples_without_a_meaning_as_colour_are_refused(
    samples: np.ndarray, options: dict[str, Any]
) -> None:
    error = refusal(tiff(samples, **options))
    assert error.reason == "unsupported_pixels"
    assert "save the field as" in str(error)


def test_twelve_bit_jpeg_is_refused_by_its_depth() -> None:
    data = bytearray(saved(field(), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    error = refusal(bytes(data))
    assert (error.reason, "12 bits" in str(error)) == ("unsupported_pixels", True)


# --- TIFF with several pages ----------------------------------------------------------------


def pages(*kinds: int) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for kind in kinds:
            step = 2 if kind else 1
            writer.write(field()[::step, ::step], photometric="rgb", subfiletype=kind)
    return buffer.getvalue()


def test_reduced_pages_beside_one_full_page_are_ignored() -> None:
    assert np.array_equal(decode(pages(0, 1, 1)).pixels, field())


def test_a_tiff_with_several_full_pages_is_refused() -> None:
    error = refusal(pages(0, 1, 0))
    assert error.reason == "unsupported_format"
    assert "several pages" in str(error)


# --- what is refused ------------------------------------------------------------------------


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


TRUNCATED = {
    "jpeg": saved(field(), "JPEG", quality=95),
    "progressive": saved(field(), "JPEG", progressive=True),
    "png": saved(field(), "PNG"),
    "bmp": saved(field(), "BMP"),
    "tiff": tiff(field(), photometric="rgb"),
    "deflated tiff": tiff(field(), photometric="rgb", compression="zlib"),
}


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


# --- the mark of rendered samples -----------------------------------------------------------


def test_the_mark_of_a_rendered_sample_is_found_in_every_format() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", SYNTHETIC_MARKER)
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = SYNTHETIC_MARKER
    assert decode(saved(field(), "PNG", pnginfo=text)).synthetic
    assert decode(saved(field(), "JPEG", comment=SYNTHETIC_MARKER)).synthetic
    assert decode(saved(field(), "JPEG", exif=exif)).synthetic
    assert decode(saved(field(), "TIFF", tiffinfo=exif)).synthetic


def test_other_words_do_not_make_a_field_synthetic() -> None:
    assert not decode(saved(field(), "JPEG", comment="not " + SYNTHETIC_MARKER)).synthetic


# --- hostile bytes --------------------------------------------------------------------------

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
