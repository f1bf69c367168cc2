"""Taking the stain's colour out of white cells, so that nothing can be decided by it.

Illumination, white balance and the strength of a dye multiply what a channel lets through, which
adds a constant to its optical density (Beer-Lambert law). Subtracting each channel's median over
the white cells of the same picture removes that constant; nothing outside the cells is asked, so
that no background can move a decision. Dividing by the common spread evens out contrast. Medians
and percentiles do not mind the dirt or the letters of a scale bar that a cell may touch. What is
left is what differs between places of the cells: chromatin, nucleoli, cytoplasm, outline.
"""

from __future__ import annotations

import numpy as np

#: Level of the median density, levels per unit of spread, and units kept.
MIDDLE, STEP, REACH = 128.0, 42.0, 3.0

#: Half of what lies between these percentiles is the spread: the standard deviation, were the
#: densities normally distributed.
PERCENTILES = (16, 50, 84)

#: Densities that differ by less are noise, not to be enlarged.
SMALLEST_SPREAD = 0.05


def normalise_stain(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """White cells with the stain's colour taken out, on a ground of zeros.

    ``pixels``: uint8 ``(height, width, 3)``. ``mask``: bool ``(height, width)``, where white cells
    lie. The result has the shape and dtype of ``pixels``; it is 1..255 within the mask, darker
    where the cells are denser, and 0 outside.
    """
    shown = np.zeros_like(pixels)
    if not mask.any():
        return shown
    density = -np.log((pixels[mask].astype(np.float64) + 1) / 256)
    low, median, high = np.percentile(density, PERCENTILES, axis=0)
    spread = max(float((high - low).mean()) / 2, SMALLEST_SPREAD)
    score = np.clip((density - median) / spread, -REACH, REACH)
    shown[mask] = np.clip(np.rint(MIDDLE - STEP * score), 1, 255).astype(np.uint8)
    return shown
