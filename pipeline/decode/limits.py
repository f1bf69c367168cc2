"""What is too large or too small to be decoded."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import BadInputError


@dataclass(frozen=True)
class DecodeLimits:
    """Limits that are checked before pixels are decoded.

    ``max_bytes``: of the file. ``max_pixels``: width times height; fields of usual cameras have 1
    to 20 million, and a decoder needs about ten bytes of memory for each. ``min_side``: pixels;
    below it a field shows no cell that could be judged.
    """

    max_bytes: int = 200_000_000
    max_pixels: int = 100_000_000
    min_side: int = 64

    def check_bytes(self, size: int) -> None:
        """Raises BadInputError if a file has no bytes or too many."""
        if size == 0:
            raise BadInputError(
                "empty_file", "the file is empty (0 bytes); copy it again from where it came from"
            )
        if size > self.max_bytes:
            raise BadInputError(
                "too_many_bytes",
                f"the file has {size / 1e6:.0f} MB, more than the {self.max_bytes / 1e6:g} MB "
                "allowed; export single fields instead of the whole slide",
            )

    def check_size(self, width: int, height: int) -> None:
        """Raises BadInputError if an image of so many pixels must not be decoded."""
        if width * height > self.max_pixels:
            raise BadInputError(
                "too_many_pixels",
                f"the image has {width} x {height} pixels ({width * height / 1e6:.0f} million), "
                f"more than the {self.max_pixels / 1e6:g} million allowed; export single fields "
                "instead of the whole slide",
            )
        if min(width, height) < self.min_side:
            raise BadInputError(
                "too_small",
                f"the image has {width} x {height} pixels; both sides must have at least "
                f"{self.min_side}, so export the field at its full resolution",
            )


DEFAULT_LIMITS = DecodeLimits()
