"""Canonical JSON: equal values give equal bytes, on every machine and in every run."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from pydantic import BaseModel

#: Floats keep this many significant digits on the way out: more than any reader needs, fewer
#: than where the order of a summation shows.
SIGNIFICANT_DIGITS = 6


def canonical_bytes(value: Any) -> bytes:
    """Serialise a model or plain JSON value: sorted keys, rounded floats, ASCII, one final newline.

    Raises ValueError on NaN and infinities, which JSON has no word for.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = json.dumps(
        _rounded(value), sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":")
    )
    return text.encode("ascii") + b"\n"


def digest(value: Any) -> str:
    """SHA-256 of the canonical bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()


def rounded(number: float) -> float:
    """Round to SIGNIFICANT_DIGITS; negative zero becomes zero."""
    if number == 0 or not math.isfinite(number):
        return number + 0.0
    return float(f"{number:.{SIGNIFICANT_DIGITS - 1}e}")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return rounded(value)
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
