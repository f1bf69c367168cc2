"""How much room the results of a run will need."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

#: Bytes for an image: its result and pictures in the store, and the same in its patient's report.
#: Measured on fields of 224 x 224 and 1024 x 768 pixels.
BYTES_AN_IMAGE = {"all": 700_000, "flagged": 700_000, "none": 500_000}


class Space(NamedTuple):
    """What a run needs, and what there is."""

    needed: int
    free: int

    @property
    def fits(self) -> bool:
        """Whether the run will come to its end without anybody making room."""
        return self.needed <= self.free

    def __str__(self) -> str:
        return f"about {self.needed / 1e9:.1f} GB are needed, {self.free / 1e9:.1f} GB are free"


def estimate(images: int, explain: str, folder: Path) -> Space:
    """For so many images that have no result yet; ``folder`` exists."""
    return Space(images * BYTES_AN_IMAGE[explain], shutil.disk_usage(folder).free)
