"""From what Pillow opened to 8-bit RGB.

Colour profiles and gamma are ignored: segmentation and network are made for the numbers as
cameras write them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pipeline.decode.tiff import is_white_zero
from pipeline.errors import BadInputError

#: Depths that cameras have. 16-bit files of a camera with fewer bits usually keep its numbers as
#: they are, so that 4095 is white.
CAMERA_BITS = (8, 10, 12, 14, 16)

#: Bytes of a 16-bit sample, for each raw layout of Pillow's: the layout that gives the high byte
#: of every sample, and the one that gives the low byte.
_BIG, _LITTLE = ("B", "L"), ("L", "B")

Opener = Callable[[], ImageFile.ImageFile]


def rgb_pixels(opened: ImageFile.ImageFile, reopen: Opener) -> np.ndarray:
    """8-bit RGB pixels, not yet turned upright. Loads ``opened``.

    Transparent parts are shown on white; opacity that is zero everywhere is taken for a mistake
    of the program that wrote it. 16-bit samples are scaled by the camera depth (see
    ``CAMERA_BITS``) that the brightest of them needs: in a bright field the background comes
    near to full scale, so this tells a 12-bit camera from a 16-bit one. A field so underexposed
    that its background stays below a quarter of full scale comes out brighter than it was.

    Returns uint8 ``(height, width, 3)``. Raises BadInputError ``unsupported_pixels``, and
    whatever Pillow raises on damaged files. ``reopen`` opens the same file once more: Pillow gives
    one byte of 16-bit colours at a time.
    """
    layout = _raw_layout(opened)
    if opened.mode.startswith("I;16"):
        opened.load()
        return _grey_to_rgb(_deep_grey(opened))
    if ";16" in layout and opened.mode in {"RGB", "RGBA"}:
        return _deep_colour(opened, reopen, layout)
    opened.load()
    if opened.mode in {"I", "F", "LAB", "HSV"}:
        raise BadInputError(
            "unsupported_pixels",
            "the samples have 32 bits or are no colours (Pillow mode "
            f"{opened.mode}); save the field as 8-bit or 16-bit RGB or grey",
        )
    return np.asarray(_flat(opened))


def _flat(image: Image.Image) -> Image.Image:
    """An RGB image without transparency."""
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    seen = image.convert("RGBA")
    if seen.getchannel("A").getextrema() == (0, 0):
        return seen.convert("RGB")
    white = Image.new("RGBA", seen.size, "white")
    return Image.alpha_composite(white, seen).convert("RGB")


def _raw_layout(image: ImageFile.ImageFile) -> str:
    if not image.tile:
        return ""
    arguments = image.tile[0].args
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _deep_grey(image: Image.Image) -> np.ndarray:
    samples = np.asarray(image).astype(np.uint16)
    white_zero = isinstance(image, TiffImageFile) and is_white_zero(image)
    grey = scale_to_bytes(samples)
    return 255 - grey if white_zero else grey


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _deep_colour(opened: ImageFile.ImageFile, reopen: Opener, layout: str) -> np.ndarray:
    """16-bit colours, put together from two readings of the file."""
    if layout.startswith("LA"):
        # Pillow has no such image; as four 8-bit samples each pixel is high, low, high, low.
        samples = _samples(opened, "RGBA").astype(np.uint16)
        deep = samples[:, :, 0::2] << 8 | samples[:, :, 1::2]
        return _on_white(_grey_to_rgb(scale_to_bytes(deep[:, :, 0])), deep[:, :, 1])
    name, order = layout[:-1], layout[-1]
    native = _LITTLE if sys.byteorder == "little" else _BIG
    high, low = {"B": _BIG, "L": _LITTLE, "N": native}[order]
    deep = _samples(opened, name + high).astype(np.uint16) << 8
    deep |= _samples(reopen(), name + low)
    colours = scale_to_bytes(deep[:, :, :3])
    return _on_white(colours, deep[:, :, 3]) if deep.shape[2] == 4 else colours


def _samples(image: ImageFile.ImageFile, layout: str) -> np.ndarray:
    """Load an image as if its file had the raw layout ``layout``."""
    tiles = []
    for tile in image.tile:
        arguments = tile.args
        changed = (layout, *arguments[1:]) if isinstance(arguments, tuple) else layout
        tiles.append(tile._replace(args=changed))
    image.tile = tiles
    image.load()
    return np.asarray(image)


def _on_white(colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    if not opacity.any():
        return colours
    share = (opacity / 65535.0)[:, :, np.newaxis]
    shown: np.ndarray = np.rint(colours * share + 255.0 * (1.0 - share)).astype(np.uint8)
    return shown


def scale_to_bytes(samples: np.ndarray) -> np.ndarray:
    """Scale uint16 samples to uint8 by the smallest camera depth that holds all of them."""
    brightest = int(samples.max())
    bits = next(depth for depth in CAMERA_BITS if brightest < 2**depth)
    table = np.rint(np.arange(2**bits) * (255.0 / (2**bits - 1))).astype(np.uint8)
    scaled: np.ndarray = table[samples]
    return scaled
