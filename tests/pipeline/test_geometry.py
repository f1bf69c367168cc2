"""Fields become network inputs in which cells have the size of the training cells."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.geometry import fit_field, squash
from pipeline.geometry.arcs import find_arcs
from pipeline.geometry.fit import REFERENCE_RED_CELL, TOLERANCE
from pipeline.geometry.ruler import measure_red_cells
from pipeline.geometry.windows import MAXIMUM_TILES, STRETCH, cover
from pipeline.segment import segment
from pipeline.types import FieldGeometry, Rectangle, SmearImage, WhiteCell, WhiteCells

BACKGROUND = (236, 232, 240)
RED, PALLOR, WHITE = (205, 150, 160), (226, 205, 212), (110, 60, 150)


def draw_field(
    width: int,
    height: int,
    diameter: float,
    *,
    density: float = 0.4,
    overlap: bool = False,
    white: int = 3,
    seed: int = 1,
) -> tuple[np.ndarray, WhiteCells]:
    """A field of red cells with pallor and a few white cells twice as wide, with its truth."""
    rng = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    labels = np.zeros((height, width), np.int32)
    placed: list[tuple[float, float, float]] = []
    radius = diameter / 2

    def free_spot(reach: float) -> tuple[int, int] | None:
        for _ in range(200):
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            if all(math.hypot(x - u, y - v) > reach + r for u, v, r in placed):
                return int(x), int(y)
        return None

    white_spots = [spot for spot in (free_spot(diameter) for _ in range(white)) if spot]
    placed += [(x, y, diameter) for x, y in white_spots]
    for _ in range(int(density * width * height / (math.pi * radius**2))):
        spot = free_spot(radius * (0.3 if overlap else 1.05))
        if spot is None:
            continue
        placed.append((*spot, radius * (0.3 if overlap else 1.05)))
        size = radius * rng.normal(1, 0.04)
        cv2.circle(canvas, spot, round(size), RED, -1, cv2.LINE_AA)
        cv2.circle(canvas, spot, round(size * 0.4), PALLOR, -1, cv2.LINE_AA)
    for number, spot in enumerate(white_spots, start=1):
        cv2.circle(canvas, spot, round(diameter), WHITE, -1, cv2.LINE_AA)
        cv2.circle(labels, spot, round(diameter), number, -1)
    canvas = cv2.GaussianBlur(canvas, (0, 0), max(0.7, diameter / 40))
    noisy = canvas + rng.normal(0, 2, canvas.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), white_cells(labels)


def white_cells(labels: np.ndarray) -> WhiteCells:
    """The cells of a label image, measured as far as geometry looks at them."""
    cells = []
    for number in range(1, int(labels.max()) + 1):
        y, x = np.nonzero(labels == number)
        if not len(x):
            continue
        box = Rectangle(int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1)
        cells.append(
            WhiteCell(
                number=number,
                box=box,
                outline=(),
                centre=(float(x.mean()), float(y.mean())),
                area=float(len(x)),
                nucleus_area=0.0,
                nucleus_to_cytoplasm_ratio=None,
                roundness=1.0,
                mean_colour=WHITE,
                touches_edge=False,
            )
        )
    return WhiteCells(tuple(cells), labels, np.zeros(labels.shape, bool))


def no_cells(pixels: np.ndarray) -> WhiteCells:
    return white_cells(np.zeros(pixels.shape[:2], np.int32))


def fit(pixels: np.ndarray, cells: WhiteCells) -> FieldGeometry:
    return fit_field(SmearImage(pixels, sha256="0" * 64), cells)


class TestRuler:
    @pytest.mark.parametrize("diameter", [18, 32, 65, 110])
    def test_measures_separate_cells(self, diameter: float) -> None:
        pixels, cells = draw_field(1024, 768, diameter)
        measured = measure_red_cells(pixels, cells.labels > 0).diameter
        assert measured == pytest.approx(diameter, rel=0.05)

    @pytest.mark.parametrize("diameter", [32, 65])
    def test_measures_cells_that_overlap(self, diameter: float) -> None:
        pixels, cells = draw_field(1024, 768, diameter, overlap=True, density=0.6)
        measured = measure_red_cells(pixels, cells.labels > 0).diameter
        assert measured == pytest.approx(diameter, rel=0.08)

    def test_measures_cells_in_uneven_light(self) -> None:
        pixels, cells = draw_field(1024, 768, 65)
        light = np.linspace(0.55, 1.0, 1024)[None, :, None]
        pixels = (pixels * light).astype(np.uint8)
        measured = measure_red_cells(pixels, cells.labels > 0).diameter
        assert measured == pytest.approx(65, rel=0.05)

    def test_measures_small_cells_of_a_large_field_at_full_resolution(self) -> None:
        pixels, cells = draw_field(3000, 2200, 36, density=0.15)
        measured = measure_red_cells(pixels, cells.labels > 0).diameter
        assert measured == pytest.approx(36, rel=0.05)

    def test_tells_the_colour_between_the_cells(self) -> None:
        pixels, cells = draw_field(1024, 768, 65)
        background = measure_red_cells(pixels, cells.labels > 0).background
        assert background is not None
        assert np.abs(background.astype(int) - BACKGROUND).max() <= 2

    @pytest.mark.parametrize("kind", ["plain", "black", "faint noise", "noise", "gradient"])
    def test_finds_nothing_where_there_is_nothing(self, kind: str) -> None:
        measured = measure_red_cells(_empty_field(kind), np.zeros((768, 1024), bool))
        assert measured.diameter is None

    def test_does_not_take_specks_for_red_cells_of_a_white_cell_crop(self) -> None:
        pixels, _ = draw_field(257, 257, 20, density=0.2, white=0)
        none = np.zeros((257, 257), bool)
        assert measure_red_cells(pixels, none).diameter == pytest.approx(20, rel=0.1)
        assert measure_red_cells(pixels, none, white_diameter=120).diameter is None

    def test_does_not_take_one_speck_of_a_crop_for_its_red_cells(self) -> None:
        pixels, _ = draw_field(400, 400, 60, density=0, white=0)
        cv2.circle(pixels, (300, 200), 9, RED, -1, cv2.LINE_AA)
        none = np.zeros((400, 400), bool)
        assert measure_red_cells(pixels, none).diameter is None
        cv2.circle(pixels, (150, 300), 35, RED, -1, cv2.LINE_AA)
        assert measure_red_cells(pixels, none).diameter == pytest.approx(70, rel=0.05)

    def test_sees_only_arcs_with_the_cell_on_the_inside(self) -> None:
        gap = np.ones((200, 200), np.uint8)
        cv2.circle(gap, (100, 100), 40, 0, -1)
        excluded = np.zeros((200, 200), bool)
        assert len(find_arcs(gap > 0, excluded).radius) == 0
        arcs = find_arcs(gap == 0, excluded)
        assert np.median(arcs.radius) == pytest.approx(40, rel=0.03)


class TestChoice:
    @pytest.mark.parametrize(
        ("width", "diameter"), [(1024, 65), (2560, 162), (640, 41), (1024, 76)]
    )
    def test_a_training_like_field_is_squashed_whole(self, width: int, diameter: float) -> None:
        pixels, cells = draw_field(width, width * 3 // 4, diameter)
        geometry = fit(pixels, cells)
        assert geometry.method == "whole_field"
        assert geometry.scale_known
        assert [tile.box for tile in geometry.tiles] == [Rectangle(0, 0, width, width * 3 // 4)]
        np.testing.assert_array_equal(geometry.tiles[0].pixels, squash(pixels, 224))
        assert geometry.tiles[0].cell_count == len(cells.cells)

    def test_an_input_of_the_networks_size_is_taken_as_it_is(self) -> None:
        pixels, cells = draw_field(1024, 768, 65)
        pixels = squash(pixels, 224)
        labels = cv2.resize(
            cells.labels.astype(np.uint8), (224, 224), interpolation=cv2.INTER_NEAREST
        )
        geometry = fit(pixels, white_cells(labels.astype(np.int32)))
        assert geometry.method == "as_is"
        assert geometry.scale_known
        assert geometry.red_cell_diameter == pytest.approx(
            65 * 224 / math.sqrt(1024 * 768), rel=0.06
        )
        np.testing.assert_array_equal(geometry.tiles[0].pixels, pixels)

    def test_an_input_of_the_networks_size_with_other_cells_is_told(self) -> None:
        pixels, _ = draw_field(224, 224, 40, white=0)
        geometry = fit(pixels, no_cells(pixels))
        assert geometry.method == "as_is"
        assert not geometry.scale_known

    def test_a_large_field_is_tiled(self) -> None:
        pixels, cells = draw_field(2592, 1944, 70, white=6)
        geometry = fit(pixels, cells)
        assert geometry.method == "tiled"
        assert geometry.scale_known
        assert geometry.red_cell_diameter == pytest.approx(70, rel=0.05)
        for tile in geometry.tiles:
            in_training_field = 70 * 1024 / tile.box.width
            assert REFERENCE_RED_CELL / TOLERANCE <= in_training_field <= REFERENCE_RED_CELL * 1.05
        counted = [
            any(tile.box.contains(*cell.centre) for tile in geometry.tiles) for cell in cells.cells
        ]
        assert all(counted)
        assert sum(tile.cell_count for tile in geometry.tiles) >= len(cells.cells)

    def test_a_small_field_is_placed_on_its_own_background(self) -> None:
        pixels, cells = draw_field(400, 400, 80, white=1)
        geometry = fit(pixels, cells)
        assert geometry.method == "padded"
        tile = geometry.tiles[0]
        assert 80 * 1024 / tile.box.width == pytest.approx(REFERENCE_RED_CELL, rel=0.06)
        assert tile.box.x < 0
        assert tile.box.y < 0
        assert tile.box.width + tile.box.x > 400
        assert np.abs(tile.pixels[:20].astype(int) - BACKGROUND).max() <= 3

    def test_a_field_of_another_shape_keeps_its_proportions(self) -> None:
        pixels, cells = draw_field(1280, 720, 76)
        geometry = fit(pixels, cells)
        assert geometry.method == "scaled"
        box = geometry.tiles[0].box
        assert (box.x, box.width) == (0, 1280)
        assert box.width * 3 == pytest.approx(box.height * 4, abs=4)

    def test_a_squashed_square_field_is_recognised_by_its_cells(self) -> None:
        pixels, cells = draw_field(1024, 768, 65)
        labels = cv2.resize(
            cells.labels.astype(np.uint8), (512, 512), interpolation=cv2.INTER_NEAREST
        )
        squashed = cv2.resize(pixels, (512, 512), interpolation=cv2.INTER_AREA)
        geometry = fit(squashed, white_cells(labels.astype(np.int32)))
        assert geometry.method == "whole_field"
        expected = 65 * 512 / math.sqrt(1024 * 768)
        assert geometry.red_cell_diameter == pytest.approx(expected, rel=0.06)

    def test_a_square_field_with_round_cells_is_not_stretched(self) -> None:
        pixels, cells = draw_field(768, 768, 65)
        geometry = fit(pixels, cells)
        assert geometry.method == "scaled"
        assert geometry.tiles[0].box == Rectangle(-128, 0, 1024, 768)

    def test_a_blank_field_counts_as_one_window_of_unknown_scale(self) -> None:
        pixels = _empty_field("plain")
        geometry = fit(pixels, no_cells(pixels))
        assert geometry.method == "whole_field"
        assert geometry.red_cell_diameter is None
        assert not geometry.scale_known

    def test_without_red_cells_white_cells_are_the_ruler(self) -> None:
        pixels = np.zeros((450, 450, 3), np.uint8)
        labels = np.zeros((450, 450), np.int32)
        cv2.circle(labels, (225, 225), 100, 1, -1)
        pixels[labels > 0] = WHITE
        geometry = fit(pixels, white_cells(labels))
        assert geometry.method == "padded"
        assert not geometry.scale_known
        tile = geometry.tiles[0]
        assert tile.box.width == pytest.approx(2048, rel=0.02)
        assert tile.pixels[0, 0].tolist() == [0, 0, 0]
        expected = math.pi * 100**2 * 224 * 224 / (tile.box.width * tile.box.height)
        assert tile.white_cells.sum() == pytest.approx(expected, rel=0.05)

    @pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (17, 16), (40, 3000)])
    def test_odd_shapes_give_inputs_too(self, shape: tuple[int, int]) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
        geometry = fit(pixels, no_cells(pixels))
        assert len(geometry.tiles) >= 1
        for tile in geometry.tiles:
            assert tile.pixels.shape == (224, 224, 3)
            assert tile.white_cells.shape == (224, 224)

    def test_is_deterministic(self) -> None:
        pixels, cells = draw_field(1500, 1200, 60)
        first, second = fit(pixels, cells), fit(pixels, cells)
        assert (first.method, first.red_cell_diameter) == (second.method, second.red_cell_diameter)
        for one, other in zip(first.tiles, second.tiles, strict=True):
            assert one.box == other.box
            np.testing.assert_array_equal(one.pixels, other.pixels)

    def test_a_huge_field_is_judged_where_its_white_cells_are(self) -> None:
        pixels, _ = draw_field(2400, 2000, 22, density=0.1, white=0)
        labels = np.zeros(pixels.shape[:2], np.int32)
        cv2.circle(labels, (2100, 1800), 22, 1, -1)
        cv2.circle(labels, (300, 1900), 22, 2, -1)
        pixels[labels > 0] = WHITE
        geometry = fit(pixels, white_cells(labels))
        assert geometry.method == "tiled"
        assert len(geometry.tiles) == MAXIMUM_TILES
        for centre in [(2100, 1800), (300, 1900)]:
            assert any(tile.box.contains(*centre) for tile in geometry.tiles)
        boxes = [(tile.box.y, tile.box.x) for tile in geometry.tiles]
        assert boxes == sorted(boxes)


class TestWindows:
    @given(
        width=st.integers(1, 5000),
        height=st.integers(1, 5000),
        scale=st.floats(0.2, 5),
        overlap=st.floats(0, 0.2),
    )
    @settings(max_examples=200, deadline=None)
    def test_cover_every_pixel(self, width: int, height: int, scale: float, overlap: float) -> None:
        window = (1024 * scale, 768 * scale)
        boxes = cover(width, height, window, overlap * window[1])
        for length, starts, size in [
            (width, sorted({box.x for box in boxes}), boxes[0].width),
            (height, sorted({box.y for box in boxes}), boxes[0].height),
        ]:
            assert starts[0] <= 0
            assert starts[-1] + size >= length
            for start, following in itertools.pairwise(starts):
                assert start + size >= following + math.floor(overlap * window[1]) - 1
            if len(starts) > 1:
                assert starts[0] == 0
                assert starts[-1] + size == length
        assert boxes[0].width <= math.ceil(window[0] * STRETCH) + 1
        assert boxes[0].width >= window[0]
        assert boxes[0].width * 3 == pytest.approx(boxes[0].height * 4, abs=8)


class TestTrainingFields:
    def test_originals_come_out_as_their_small_twins(
        self, shared_data: Callable[[str], Path]
    ) -> None:
        pairs = shared_data("taleqani_fullres/pairs.csv")
        with pairs.open() as lines:
            rows = list(csv.DictReader(lines))
        assert len(rows) == 20
        for row in rows:
            original = _read(shared_data(row["full"]))
            twin = _read(shared_data(row["small"]))
            geometry = fit(original, segment(original))
            assert geometry.method == "whole_field", row["full"]
            assert geometry.scale_known, row["full"]
            tile = geometry.tiles[0].pixels
            assert np.abs(tile.astype(int) - twin).mean() < 4, row["full"]
            assert _sharpness(tile) == pytest.approx(_sharpness(twin), rel=0.15), row["full"]

    @pytest.mark.parametrize("folder", ["benign", "early", "pre", "pro"])
    def test_small_fields_show_cells_of_the_reference_size(
        self, shared_data: Callable[[str], Path], folder: str
    ) -> None:
        files = sorted(shared_data(f"taleqani/{folder}").glob("*.jpg"))[::60]
        known = []
        for file in files:
            pixels = _read(file)
            geometry = fit(pixels, segment(pixels))
            assert geometry.method == "as_is"
            known.append(geometry.scale_known)
        assert np.mean(known) >= 0.85


def _empty_field(kind: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    if kind == "plain":
        return np.full((768, 1024, 3), BACKGROUND, np.uint8)
    if kind == "black":
        return np.zeros((768, 1024, 3), np.uint8)
    if kind in ("faint noise", "noise"):
        sigma = 2 if kind == "faint noise" else 60
        return np.clip(rng.normal(200, sigma, (768, 1024, 3)), 0, 255).astype(np.uint8)
    ramp = np.linspace(120, 240, 1024)[None, :, None] * np.ones((768, 1, 3))
    return ramp.astype(np.uint8)


def _read(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def _sharpness(pixels: np.ndarray) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
