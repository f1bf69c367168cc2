"""What the network is shown of a tile: the whole field, or a part by what is in it."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from pipeline.quality import Part
from pipeline.results import Record
from pipeline.segment.published import hsi_saturation_masks
from pipeline.stain import normalise_stain
from pipeline.types import FieldTile

View = Literal["field", "white_cells", "saturated"]


class Preprocessing(Record):
    """How a tile becomes network input: float32 RGB, ``pixels / 255``."""

    input_size: int = Field(description="side of the network input, in pixels")
    tile_size: int = Field(default=224, description="side of the tiles that fields are cut into")
    view: View = "field"
    channels: Literal["RGB"] = "RGB"
    scale: Literal["0..1"] = "0..1"

    @property
    def needs_cells(self) -> bool:
        """Whether the view depends on where white cells are."""
        return self.view == "white_cells"

    @property
    def exposed(self) -> Part:
        """The part of a field whose exposure matters."""
        return "white_cells" if self.needs_cells else "field"


def view_of(tile: FieldTile, preprocessing: Preprocessing) -> np.ndarray:
    """What the network is shown of the tile, uint8 ``(input_size, input_size, 3)``.

    ``field``: all of it. ``white_cells``: white cells with the stain's colour taken out, on a
    ground of zeros; what is not zero is white cell. ``saturated``: what the HSI saturation mask of
    Sampathila et al. 2022 keeps, on a ground of zeros.
    """
    size = (preprocessing.input_size, preprocessing.input_size)
    pixels, mask = tile.pixels, tile.white_cells
    if pixels.shape[:2] != size:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
        mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    if preprocessing.view == "white_cells":
        return normalise_stain(pixels, mask)
    if preprocessing.view == "saturated":
        labels, _ = hsi_saturation_masks(pixels)
        return np.where(labels[..., None] > 0, pixels, 0).astype(np.uint8)
    return pixels


def network_input(view: np.ndarray) -> np.ndarray:
    """Turn uint8 ``(size, size, 3)`` into float32 ``(1, size, size, 3)`` in 0..1."""
    return view[None].astype(np.float32) / np.float32(255.0)
