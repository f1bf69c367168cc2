"""From optical densities to what a camera on a microscope records."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.samples.recipe import FieldRecipe
from pipeline.samples.shapes import texture

#: Blur that a lens adds to red, green and blue beside the focus, in pixels.
AXIAL_COLOUR = (0.5, 0.35, 0.8)

#: How much larger red and blue are imaged than green.
LATERAL_COLOUR = (1.0006, 1.0, 0.9993)

#: Strength and reach (pixels) of the dark rim and bright fringe that refraction gives every edge.
FRINGE, FRINGE_REACH = 0.3, 2.5

#: Red cells measure so many micrometres; the scale bar shows so many.
RED_CELL_MICROMETRES, BAR_MICROMETRES = 7.5, 10

BAR_MARGIN = (28, 18)


def expose(rng: np.random.Generator, density: np.ndarray, recipe: FieldRecipe) -> np.ndarray:
    """Photograph a field: light, lens, sensor.

    ``density``: float32 ``(height, width, 3)``, optical density (natural logarithm) of red, green
    and blue. Returns uint8 RGB of the same size.
    """
    density = density + FRINGE * (density - cv2.GaussianBlur(density, (0, 0), FRINGE_REACH))
    light = np.array(recipe.stain.background, np.float32) * _illumination(rng, recipe)
    picture = light * np.exp(-density)
    for channel in range(3):
        picture[:, :, channel] = _imaged(picture[:, :, channel], channel, recipe.defocus)
    picture += _sensor_noise(rng, picture, recipe.noise)
    exposed: np.ndarray = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return exposed


def _illumination(rng: np.random.Generator, recipe: FieldRecipe) -> np.ndarray:
    """Relative light: brightest near the middle, falling off, with a tint that drifts."""
    y, x = np.mgrid[-1 : 1 : recipe.height * 1j, -1 : 1 : recipe.width * 1j].astype(np.float32)
    middle_x, middle_y = rng.uniform(-0.35, 0.35, 2)
    distance = (x - middle_x) ** 2 + 0.6 * (y - middle_y) ** 2
    fall = 1.0 + 0.02 - recipe.unevenness * distance / 1.6
    lean = rng.normal(0.0, 0.007, (2, 3))
    haze = 0.004 * texture(rng, (recipe.height // 8, recipe.width // 8), 12.0)
    haze = cv2.resize(haze, (recipe.width, recipe.height), interpolation=cv2.INTER_LINEAR)
    tint = x[:, :, np.newaxis] * lean[0] + y[:, :, np.newaxis] * lean[1]
    return ((fall + haze)[:, :, np.newaxis] + tint).astype(np.float32)


def _imaged(plane: np.ndarray, channel: int, defocus: float) -> np.ndarray:
    """One colour as the lens shows it: blurred, and a little larger or smaller than the others."""
    blur = float(np.hypot(defocus, AXIAL_COLOUR[channel]))
    plane = cv2.GaussianBlur(plane, (0, 0), blur, borderType=cv2.BORDER_REFLECT)
    size = LATERAL_COLOUR[channel]
    if size == 1.0:
        return plane
    height, width = plane.shape
    shift = np.array(
        [[size, 0, (1 - size) * width / 2], [0, size, (1 - size) * height / 2]], np.float32
    )
    return cv2.warpAffine(plane, shift, (width, height), borderMode=cv2.BORDER_REFLECT)


def _sensor_noise(rng: np.random.Generator, picture: np.ndarray, deviation: float) -> np.ndarray:
    """Noise that grows with the square root of the light, with the grain of a colour mosaic."""
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.6) * np.float32(1.9)
    return deviation * noise * np.sqrt(np.clip(picture, 0, None) / 255.0)


def scale_bar_box(recipe: FieldRecipe) -> tuple[int, int, int, int]:
    """Left, top, right and bottom (exclusive) of the box that the scale bar takes."""
    length = _bar_length(recipe)
    width, height = length + 24, 38
    right, bottom = recipe.width - BAR_MARGIN[0], recipe.height - BAR_MARGIN[1]
    return right - width, bottom - height, right, bottom


def draw_scale_bar(pixels: np.ndarray, recipe: FieldRecipe) -> np.ndarray:
    """The field with a bar of 10 micrometres, lettered, on white in its lower right corner."""
    left, top, right, bottom = scale_bar_box(recipe)
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, right - 1, bottom - 1), fill="white")
    start, end, line = left + 12, left + 12 + _bar_length(recipe), bottom - 9
    draw.line((start, line, end, line), fill="black", width=2)
    for x in (start, end):
        draw.line((x, line - 5, x, line + 5), fill="black", width=2)
    words = f"{BAR_MICROMETRES} um"  # Pillow's own font has no Greek letter
    draw.text(
        ((start + end) / 2, line - 7),
        words,
        fill="black",
        anchor="ms",
        font=ImageFont.load_default(17),
    )
    return np.array(picture)


def _bar_length(recipe: FieldRecipe) -> int:
    return round(recipe.red_cell_diameter * BAR_MICROMETRES / RED_CELL_MICROMETRES)
