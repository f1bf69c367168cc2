"""From the untrusted bytes of an image file to a smear image."""

from pipeline.decode.limits import DecodeLimits
from pipeline.decode.marker import SYNTHETIC_MARKER
from pipeline.decode.read import decode

__all__ = ["SYNTHETIC_MARKER", "DecodeLimits", "decode"]
