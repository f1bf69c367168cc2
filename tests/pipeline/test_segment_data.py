"""The default method on masks drawn by people; only even-numbered files, none of it tuned on."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.segmentation import (
    GAINS,
    even_numbered,
    masked_images,
    match,
    read_image,
    scores,
    white_cell_boxes,
)
from pipeline.segment import segment

#: Mean IoU of cells and nuclei over every eighth even-numbered file, less a margin.
FLOORS = {
    "jtsc": (0.90, 0.90),
    "cellavision": (0.90, 0.93),
    "bccd": (0.82, 0.78),
    "all-idb2": (0.88, 0.89),
}


def some_images(data, name):
    return list(masked_images(data, name))[::8]


@pytest.mark.parametrize("name", FLOORS)
def test_masks_are_matched_and_published_methods_beaten(shared_data, name):
    data = shared_data("wbc_masks").parent
    images = some_images(data, name)
    means = {
        method: np.mean([scores(segment(image.pixels, method), image) for image in images], axis=0)
        for method in ("default", "hsi-saturation", "hsv-threshold")
    }
    cell_floor, nucleus_floor = FLOORS[name]
    assert means["default"][0] > cell_floor
    assert means["default"][2] > nucleus_floor
    assert (means["default"] > means["hsi-saturation"]).all()
    assert (means["default"] > means["hsv-threshold"]).all()


@pytest.mark.parametrize("gain", ["green x 1.15", "red x 1.15, blue x 0.85"])
def test_channel_gains_cost_little(shared_data, gain):
    data = shared_data("wbc_masks").parent
    for name in ("jtsc", "all-idb2"):
        images = some_images(data, name)
        plain = np.mean([scores(segment(image.pixels), image) for image in images], axis=0)
        changed = []
        for image in images:
            pixels = np.clip(np.rint(image.pixels * np.array(GAINS[gain])), 0, 255)
            changed.append(scores(segment(pixels.astype(np.uint8)), image))
        assert (np.mean(changed, axis=0) > plain - 0.08).all()


def test_white_cells_of_bccd_are_found_once(shared_data):
    folder = shared_data("bccd")
    truth = reported = found = 0
    for path in even_numbered(list((folder / "images").iterdir()))[::8]:
        boxes = white_cell_boxes(folder / "annotations" / f"{path.stem}.xml")
        result = segment(read_image(path))
        truth += len(boxes)
        reported += len(result.cells)
        found += match(result, boxes)[1]
    assert truth >= 14
    assert found >= truth - 1
    assert reported <= truth + 4
