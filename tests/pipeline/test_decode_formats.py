"""What every kind of image file gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from pipeline.decode import SYNTHETIC_MARKER, decode
from tests.pipeline.image_files import (
    DEPTHS,
    HEIGHT,
    WIDTH,
    assert_close,
    deep,
    deep_png,
    field,
    pages,
    refusal,
    saved,
    tiff,
)


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


def test_reduced_pages_beside_one_full_page_are_ignored() -> None:
    assert np.array_equal(decode(pages(0, 1, 1)).pixels, field())


def test_a_tiff_with_several_full_pages_is_refused() -> None:
    error = refusal(pages(0, 1, 0))
    assert error.reason == "unsupported_format"
    assert "several pages" in str(error)


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
