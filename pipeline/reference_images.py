"""The images of references, which bundles do not carry: from a folder of who has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

#: From a reference's id to the bytes of its image; None where it is not at hand.
ReferenceImages = Callable[[str], bytes | None]

_SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".bmp")


def reference_images_in(folder: Path) -> ReferenceImages:
    """Images by id below a folder; an id never leads out of it."""
    top = folder.resolve()

    def read(identity: str) -> bytes | None:
        for suffix in _SUFFIXES:
            path = (top / f"{identity}{suffix}").resolve()
            if path.is_relative_to(top) and path.is_file():
                return path.read_bytes()
        return None

    return read
