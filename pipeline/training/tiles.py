"""Training fields as tiles, read and segmented once however often they are looked at."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pipeline.decode import decode
from pipeline.geometry import whole_tile
from pipeline.segment import no_cells, segment
from pipeline.types import FieldTile


@cache
def training_tile(path: Path, size: int, *, with_cells: bool) -> FieldTile:
    """All of a training field as one tile of ``size``; without cells if nobody asks for them.

    It is kept for the life of the process: 200 kB for a tile of 224, so that several folds of one
    set cost one segmentation.
    """
    pixels = decode(path.read_bytes()).pixels
    cells = segment(pixels) if with_cells else no_cells(pixels)
    return whole_tile(pixels, cells, size)
