"""How a file says that it is a rendered sample and shows no patient's blood."""

from __future__ import annotations

from PIL import Image

#: Written by ``screen samples`` as the PNG text ``Description``, the JPEG comment, or the EXIF or
#: TIFF image description. Only the exact text counts.
SYNTHETIC_MARKER = "Synthetic blood smear rendered by screen samples; shows no patient"

IMAGE_DESCRIPTION = 0x010E


def is_marked_synthetic(image: Image.Image, exif: Image.Exif) -> bool:
    """Whether a loaded image carries ``SYNTHETIC_MARKER``."""
    said = (
        image.info.get("Description"),
        image.info.get("comment"),
        exif.get(IMAGE_DESCRIPTION),
    )
    return any(_text(words) == SYNTHETIC_MARKER for words in said)


def _text(words: object) -> str | None:
    if isinstance(words, bytes):
        return words.decode("utf-8", errors="replace")
    return words if isinstance(words, str) else None
