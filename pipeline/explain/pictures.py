"""Pictures of fields and explanations, as small PNG files.

Pictures are palette images of at most 256 colours: on a report page they look the same and take a
quarter of the space.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from pipeline.results import LimeExplanation
from pipeline.types import FieldTile, SmearImage

#: Longest side of the picture of a field, in pixels.
FIELD_SIDE = 640
#: Height of one explanation panel, twice the height of the network input.
PANEL_HEIGHT = 448
GAP = 12

_OUTLINE = (255, 221, 0)
_RED = np.array([214, 39, 40], dtype=np.float64)
_BLUE = np.array([31, 119, 180], dtype=np.float64)


def draw_field(image: SmearImage) -> bytes:
    """The whole field, reduced to FIELD_SIDE."""
    scale = min(1.0, FIELD_SIDE / max(image.width, image.height))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return _png(cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA))


def draw_lime(tile: FieldTile, superpixels: np.ndarray, lime: LimeExplanation) -> bytes:
    """Two panels: the top regions outlined with the rest dimmed, and all weights in red and blue.

    Red speaks for the explained label, blue against it; the strongest weight is opaque.
    """
    panel = _panel_size(tile)
    field = cv2.resize(tile.pixels, panel, interpolation=cv2.INTER_LINEAR)
    regions = cv2.resize(superpixels.astype(np.int32), panel, interpolation=cv2.INTER_NEAREST)

    top = np.isin(regions, [region.number for region in lime.top_regions])
    grey = field.mean(axis=2, keepdims=True) * 0.35 + 150
    shown = np.where(top[..., None], field, grey).astype(np.uint8)
    for region in lime.top_regions:
        outline, _ = cv2.findContours(
            (regions == region.number).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(shown, outline, -1, _OUTLINE, 2)

    weights = np.asarray(lime.weights)
    strongest = np.abs(weights).max(initial=0.0)
    strength = (weights / strongest if strongest > 0 else weights)[regions][..., None]
    colour = np.where(strength > 0, _RED, _BLUE)
    opacity = 0.75 * np.abs(strength)
    heat = (field * (1 - opacity) + colour * opacity).astype(np.uint8)
    return _png(_side_by_side(shown, heat))


def draw_grad_cam(tile: FieldTile, cam: np.ndarray) -> bytes:
    """The tile under its class activation map (viridis: dark blue 0, yellow 1)."""
    panel = _panel_size(tile)
    field = cv2.resize(tile.pixels, panel, interpolation=cv2.INTER_LINEAR)
    size = tile.pixels.shape[0]
    smooth = cv2.resize(cam, (size, size), interpolation=cv2.INTER_LINEAR)
    smooth = cv2.resize(smooth, panel, interpolation=cv2.INTER_LINEAR)
    levels = np.clip(smooth * 255, 0, 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    overlay = (field * 0.5 + colours * 0.5).astype(np.uint8)
    return _png(overlay)


def _panel_size(tile: FieldTile) -> tuple[int, int]:
    """Width and height of a panel that shows the tile with the proportions of the original."""
    return max(1, round(PANEL_HEIGHT * tile.box.width / tile.box.height)), PANEL_HEIGHT


def _side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    gap = np.full((left.shape[0], GAP, 3), 255, dtype=np.uint8)
    return np.hstack([left, gap, right])


def _png(pixels: np.ndarray) -> bytes:
    palette = Image.fromarray(pixels).quantize(
        256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
