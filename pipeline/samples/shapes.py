"""Outlines, windows and textures that cells are made of."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Window:
    """The part of a field around a point.

    ``place``: index into arrays of the field. ``x``, ``y``: float32 ``(rows, columns)``, pixels
    from the point.
    """

    place: tuple[slice, slice]
    x: np.ndarray
    y: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns; one of them is 0 if the point is far outside the field."""
        return self.x.shape[0], self.x.shape[1]


def window(shape: tuple[int, int], centre: tuple[float, float], reach: float) -> Window:
    """The window ``reach`` pixels around ``centre`` (x, y), cut off at the edges of the field."""
    height, width = shape
    x, y = centre
    left, right = max(0, int(x - reach)), max(0, min(width, int(x + reach) + 2))
    top, bottom = max(0, int(y - reach)), max(0, min(height, int(y + reach) + 2))
    rows = np.arange(top, bottom, dtype=np.float32) - np.float32(y)
    columns = np.arange(left, right, dtype=np.float32) - np.float32(x)
    grid_y, grid_x = np.meshgrid(rows, columns, indexing="ij")
    return Window((slice(top, bottom), slice(left, right)), grid_x, grid_y)


@dataclass(frozen=True)
class Outline:
    """A closed curve around the origin: an ellipse with waves on it.

    ``radius``: pixels. ``stretch``: long axis over geometric mean of both. ``angle``: radians.
    ``waves``: number of waves round the curve, their height relative to the radius, and phase.
    """

    radius: float
    stretch: float = 1.0
    angle: float = 0.0
    waves: tuple[tuple[int, float, float], ...] = ()

    @property
    def reach(self) -> float:
        """Radius of a circle that holds the curve."""
        return self.radius * self.stretch * (1.0 + sum(height for _, height, _ in self.waves))

    def depth(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Pixels to the curve along the ray from the origin; positive inside."""
        along = (x * np.cos(self.angle) + y * np.sin(self.angle)) / self.stretch
        across = (y * np.cos(self.angle) - x * np.sin(self.angle)) * self.stretch
        direction = np.arctan2(across, along)
        radius = np.ones_like(along)
        for count, height, phase in self.waves:
            radius += np.float32(height) * np.cos(count * direction + np.float32(phase))
        return self.radius * radius - np.hypot(along, across)


def random_outline(
    rng: np.random.Generator, radius: float, *, stretch: float, roughness: float, waves: int = 5
) -> Outline:
    """An outline with waves of 2 to ``waves`` periods whose heights fall off with their number."""
    counts = range(2, waves + 1)
    heights = np.abs(rng.normal(0.0, roughness, len(counts))) * 2.0 / np.array(counts)
    phases = rng.uniform(0.0, 2 * np.pi, len(counts))
    return Outline(
        radius=radius,
        stretch=float(1.0 + np.abs(rng.normal(0.0, stretch))),
        angle=float(rng.uniform(0.0, np.pi)),
        waves=tuple(zip(counts, heights.tolist(), phases.tolist(), strict=True)),
    )


def covered(depth: np.ndarray, softness: float = 1.0) -> np.ndarray:
    """0 to 1: how much of each pixel lies inside, with an edge ``2 * softness`` pixels wide."""
    share = np.clip(0.5 + depth / (2.0 * softness), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def texture(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> np.ndarray:
    """Smooth random float32 of ``shape``: mean 0, standard deviation 1; ``grain`` in pixels."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), grain)
    # The deviation of blurred white noise is known; that of a small window would be uncertain.
    return smooth * np.float32(2.0 * np.sqrt(np.pi) * grain)


def shape_of(array: np.ndarray) -> tuple[int, int]:
    """Rows and columns."""
    return array.shape[0], array.shape[1]
