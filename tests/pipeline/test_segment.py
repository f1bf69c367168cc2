"""The segmentation on fields that are drawn here, so that the truth is known."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.segment import METHODS, segment

EMPTY, RED_CELL, PALLOR = (236, 226, 214), (216, 152, 150), (228, 200, 194)
CYTOPLASM, CHROMATIN, PLATELET = (176, 172, 212), (92, 44, 134), (120, 70, 150)


@dataclass
class Smear:
    """A field of discs; ``cell`` and ``nucleus`` are the truth."""

    height: int = 240
    width: int = 320
    seed: int = 0
    pixels: np.ndarray = field(init=False)
    cell: np.ndarray = field(init=False)
    nucleus: np.ndarray = field(init=False)

    def __post_init__(self):
        self.pixels = np.full((self.height, self.width, 3), EMPTY, np.uint8)
        self.cell = np.zeros((self.height, self.width), bool)
        self.nucleus = self.cell.copy()

    def disc(self, x, y, radius):
        rows, columns = np.ogrid[: self.height, : self.width]
        return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2

    def white_cell(self, x, y, radius=20, nucleus=0.75):
        self.pixels[self.disc(x, y, radius)] = CYTOPLASM
        self.pixels[self.disc(x, y, nucleus * radius)] = CHROMATIN
        self.cell |= self.disc(x, y, radius)
        self.nucleus |= self.disc(x, y, nucleus * radius)
        return self

    def neutrophil(self, x, y, radius=24):
        self.pixels[self.disc(x, y, radius)] = CYTOPLASM
        self.cell |= self.disc(x, y, radius)
        for angle in (90, 210, 330):
            lobe_x = x + 0.5 * radius * np.cos(np.radians(angle))
            lobe_y = y + 0.5 * radius * np.sin(np.radians(angle))
            self.pixels[self.disc(lobe_x, lobe_y, 0.33 * radius)] = CHROMATIN
            self.nucleus |= self.disc(lobe_x, lobe_y, 0.33 * radius)
        return self

    def red_cells(self, count=40, radius=13):
        generator = np.random.default_rng(self.seed)
        for _ in range(count):
            x, y = generator.uniform(0, self.width), generator.uniform(0, self.height)
            free = ~self.cell
            self.pixels[self.disc(x, y, radius) & free] = RED_CELL
            self.pixels[self.disc(x, y, 0.4 * radius) & free] = PALLOR
        return self

    def platelet(self, x, y, radius=4):
        self.pixels[self.disc(x, y, radius)] = PLATELET
        return self

    def photographed(self, noise=3.0):
        generator = np.random.default_rng(self.seed + 1)
        soft = cv2.GaussianBlur(self.pixels, (0, 0), 1.0)
        return np.clip(soft + generator.normal(0, noise, soft.shape), 0, 255).astype(np.uint8)


def three_cells(seed=0):
    smear = Smear(seed=seed).white_cell(60, 60).white_cell(230, 70, 26).white_cell(150, 180, 18)
    return smear.red_cells()


def iou(found, truth):
    return (found & truth).sum() / (found | truth).sum()


def test_white_cells_and_nuclei_are_found_among_red_cells():
    smear = three_cells()
    result = segment(smear.photographed())
    assert len(result.cells) == 3
    assert iou(result.labels > 0, smear.cell) > 0.9
    assert iou(result.nuclei, smear.nucleus) > 0.9


def test_areas_and_ratios_are_those_drawn():
    result = segment(three_cells().photographed())
    radii = {cell.number: radius for cell, radius in zip(result.cells, (20, 26, 18), strict=True)}
    for cell in result.cells:
        drawn = np.pi * radii[cell.number] ** 2
        assert cell.area == pytest.approx(drawn, rel=0.12)
        assert cell.nucleus_area == pytest.approx(0.75**2 * drawn, rel=0.1)
        assert cell.nucleus_to_cytoplasm_ratio == pytest.approx(0.5625 / 0.4375, rel=0.3)
        assert cell.roundness > 0.9


def test_touching_cells_are_separated():
    smear = Smear().white_cell(120, 120).white_cell(159, 120).white_cell(140, 154).red_cells()
    result = segment(smear.photographed())
    assert len(result.cells) == 3
    assert iou(result.labels > 0, smear.cell) > 0.9


def test_a_lobed_nucleus_belongs_to_one_cell():
    smear = Smear().neutrophil(150, 120).red_cells()
    result = segment(smear.photographed())
    assert len(result.cells) == 1
    assert iou(result.labels > 0, smear.cell) > 0.85


def test_cells_cut_by_the_edge_are_marked():
    smear = Smear().white_cell(4, 80).white_cell(160, 120).white_cell(200, 236).red_cells()
    result = segment(smear.photographed())
    assert [cell.touches_edge for cell in result.cells] == [True, False, True]


def test_red_cells_platelets_and_a_scale_bar_are_no_white_cells():
    smear = Smear().red_cells(60).platelet(50, 50).platelet(200, 100).platelet(120, 200)
    pixels = smear.photographed()
    pixels[205:238, 240:318] = 255
    cv2.putText(pixels, "100 px", (246, 222), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1)
    cv2.line(pixels, (246, 230), (312, 230), (0, 0, 0), 2)
    assert segment(pixels).cells == ()
    pixels[205:238, 240:318] = EMPTY
    cv2.putText(pixels, "100 px", (246, 222), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (220, 20, 30), 1)
    cv2.line(pixels, (246, 230), (312, 230), (220, 20, 30), 2)
    assert segment(pixels).cells == ()


def test_a_scale_bar_does_not_disturb_the_cells_beside_it():
    pixels = three_cells().photographed()
    plain = segment(pixels)
    cv2.rectangle(pixels, (250, 205), (318, 236), (255, 255, 255), -1)
    cv2.putText(pixels, "200", (256, 228), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 0, 0), 2)
    marked = segment(pixels)
    assert len(marked.cells) == len(plain.cells)
    assert iou(marked.labels > 0, plain.labels > 0) > 0.95


@pytest.mark.parametrize(
    ("height", "width", "value"), [(1, 1, 0), (1, 50, 200), (3, 3, 255), (64, 64, 0), (64, 64, 128)]
)
@pytest.mark.parametrize("method", METHODS)
def test_flat_fields_have_no_cells(method, height, width, value):
    result = segment(np.full((height, width, 3), value, np.uint8), method)
    assert result.cells == ()
    assert result.labels.shape == result.nuclei.shape == (height, width)


def test_noise_is_no_error():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 110, 3), np.uint8)
    for method in METHODS:
        assert segment(pixels, method).labels.shape == (90, 110)


def test_a_cell_cut_out_on_black_is_one_cell():
    smear = Smear(200, 200).white_cell(100, 100, 60, 0.7)
    pixels = smear.photographed()
    pixels[~smear.cell] = 0
    result = segment(pixels)
    assert len(result.cells) == 1
    assert iou(result.labels > 0, smear.cell) > 0.95
    assert iou(result.nuclei, smear.nucleus) > 0.9


@pytest.mark.parametrize("factor", [0.7, 1.5, 2.0, 6.0])
def test_the_scale_of_the_field_does_not_matter(factor):
    smear = three_cells()
    pixels = cv2.resize(smear.photographed(), None, fx=factor, fy=factor)
    result = segment(pixels)
    assert result.labels.shape == pixels.shape[:2]
    plain = segment(smear.photographed())
    assert len(result.cells) == len(plain.cells)
    for cell, other in zip(result.cells, plain.cells, strict=True):
        assert cell.area == pytest.approx(factor**2 * other.area, rel=0.15)
        assert cell.centre == pytest.approx([factor * value for value in other.centre], abs=factor)


def test_uneven_light_does_not_matter():
    smear = three_cells()
    columns = np.linspace(0.8, 1.0, smear.width)[None, :, None]
    result = segment((smear.photographed() * columns).astype(np.uint8))
    assert len(result.cells) == 3
    assert iou(result.labels > 0, smear.cell) > 0.9


gain = st.floats(0.85, 1.15)


@settings(max_examples=25)
@given(st.tuples(gain, gain, gain))
def test_channel_gains_do_not_matter(gains):
    smear = three_cells()
    pixels = np.clip(smear.photographed() * np.array(gains), 0, 255).astype(np.uint8)
    result = segment(pixels)
    assert len(result.cells) == 3
    assert iou(result.labels > 0, smear.cell) > 0.85
    assert iou(result.nuclei, smear.nucleus) > 0.9


@settings(max_examples=15)
@given(
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(0, 319), st.integers(0, 239), st.integers(14, 30)), max_size=5),
    st.sampled_from(METHODS),
)
def test_labels_nuclei_and_cells_agree(seed, cells, method):
    smear = Smear(seed=seed)
    for x, y, radius in cells:
        smear.white_cell(x, y, radius)
    pixels = smear.red_cells(20).photographed()
    result = segment(pixels, method)
    assert result.labels.dtype == np.int32
    assert result.nuclei.dtype == bool
    assert not (result.nuclei & (result.labels == 0)).any()
    assert [cell.number for cell in result.cells] == list(range(1, len(result.cells) + 1))
    assert result.labels.max(initial=0) == len(result.cells)
    order = [(cell.centre[1], cell.centre[0]) for cell in result.cells]
    assert order == sorted(order)
    for cell in result.cells:
        assert cell.area == (result.labels == cell.number).sum()


def test_equal_pixels_give_equal_cells():
    pixels = three_cells().photographed()
    first, second = segment(pixels), segment(pixels.copy())
    assert first.cells == second.cells
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.nuclei, second.nuclei)


def test_the_field_is_not_changed():
    pixels = three_cells().photographed()
    before = pixels.copy()
    for method in METHODS:
        segment(pixels, method)
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("method", ["hsi-saturation", "hsv-threshold"])
def test_published_methods_find_saturated_violet(method):
    smear = Smear().white_cell(100, 120).red_cells(20)
    result = segment(smear.photographed(), method)
    assert iou(result.nuclei, smear.nucleus) > 0.5


def test_other_pixels_and_methods_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        segment(np.zeros((10, 10, 3), np.float32))
    with pytest.raises(ValueError, match="uint8"):
        segment(np.zeros((10, 10), np.uint8))
    with pytest.raises(ValueError, match="known are default"):
        segment(np.zeros((10, 10, 3), np.uint8), "otsu")
