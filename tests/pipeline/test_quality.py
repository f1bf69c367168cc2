"""Technical faults of a field are told, by limits that come from calibration images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import ConfigurationError
from pipeline.geometry import fit_field
from pipeline.quality import (
    QualityLimits,
    QualityNumbers,
    measure_quality,
    quality_limits,
    quality_numbers,
)
from pipeline.types import FieldGeometry, FieldTile, Rectangle, SmearImage, WhiteCells
from tests.pipeline.test_geometry import draw_field, no_cells, white_cells

LIMITS = QualityLimits(min_focus=1.0, min_brightness=0.5, max_brightness=0.99, max_saturated=0.3)


def measured(pixels: np.ndarray, cells: WhiteCells | None = None) -> QualityNumbers:
    cells = no_cells(pixels) if cells is None else cells
    return quality_numbers(fit_field(SmearImage(pixels, "0" * 64), cells), cells)


def reasons(
    pixels: np.ndarray, cells: WhiteCells | None = None, limits: QualityLimits = LIMITS
) -> list[str]:
    cells = no_cells(pixels) if cells is None else cells
    geometry = fit_field(SmearImage(pixels, "0" * 64), cells)
    return measure_quality(geometry, cells, limits).reasons


def darkened(pixels: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(pixels * float(gain), 0, 255).astype(np.uint8)


def blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), sigma)


@pytest.fixture(scope="module")
def field() -> tuple[np.ndarray, WhiteCells]:
    return draw_field(1024, 768, 65)


class TestNumbers:
    def test_a_good_field_has_no_faults(self, field: tuple[np.ndarray, WhiteCells]) -> None:
        assert reasons(*field) == []

    def test_focus_falls_with_blur(self, field: tuple[np.ndarray, WhiteCells]) -> None:
        pixels, cells = field
        focus = [measured(blurred(pixels, sigma), cells).focus for sigma in (1, 3, 6, 12)]
        assert focus == sorted(focus, reverse=True)
        assert focus[0] - focus[-1] > 1

    def test_a_known_variance_of_the_laplacian(self) -> None:
        rng = np.random.default_rng(0)
        grey = rng.normal(128, 10, (224, 224, 1))
        pixels = np.clip(np.rint(grey), 0, 255).astype(np.uint8).repeat(3, axis=2)
        # Four neighbours with weight 1 and the centre with -4: 20 times the variance of a pixel.
        assert measured(pixels).focus == pytest.approx(np.log10(20 * 100), abs=0.03)

    def test_brightness_contrast_and_saturation_of_a_known_field(self) -> None:
        pixels = np.full((224, 224, 3), 204, np.uint8)
        pixels[:, :56] = 51
        pixels[:28, 112:] = 255
        pixels[:14, :14] = 0
        numbers = measured(pixels)
        assert numbers.brightness == pytest.approx(0.8)
        assert numbers.contrast == pytest.approx(1.0 - 0.2)
        assert numbers.saturated == pytest.approx((28 * 112 + 14 * 14) / 224**2)

    def test_do_not_depend_on_the_resolution_of_the_file(
        self, field: tuple[np.ndarray, WhiteCells]
    ) -> None:
        pixels, cells = field
        large = cv2.resize(pixels, (2048, 1536), interpolation=cv2.INTER_CUBIC)
        labels = cv2.resize(
            cells.labels.astype(np.uint8), (2048, 1536), interpolation=cv2.INTER_NEAREST
        )
        one = measured(pixels, cells)
        other = measured(large, white_cells(labels.astype(np.int32)))
        assert other.focus == pytest.approx(one.focus, abs=0.1)
        assert other.brightness == pytest.approx(one.brightness, abs=0.01)
        assert other.stained == pytest.approx(one.stained, abs=0.03)

    def test_padding_does_not_count(self) -> None:
        pixels, cells = draw_field(400, 400, 80, white=1)
        pixels[pixels > 200] = 255
        numbers = measured(pixels, cells)
        assert numbers.saturated == pytest.approx(np.all(pixels == 255, axis=2).mean(), abs=0.05)
        assert numbers.stained > 0.3


class TestReasons:
    def test_blur(self, field: tuple[np.ndarray, WhiteCells]) -> None:
        pixels, cells = field
        assert reasons(blurred(pixels, 15), cells) == ["blurred"]

    def test_darkness(self, field: tuple[np.ndarray, WhiteCells]) -> None:
        pixels, cells = field
        assert "dark" in reasons(darkened(pixels, 0.45), cells)

    def test_overexposure(self, field: tuple[np.ndarray, WhiteCells]) -> None:
        pixels, cells = field
        assert reasons(darkened(pixels, 1.2), cells) == ["bright"]

    def test_no_white_cell(self, field: tuple[np.ndarray, WhiteCells]) -> None:
        assert reasons(field[0]) == ["no_white_cell"]

    @pytest.mark.parametrize("sigma", [0, 2, 10, 30, 80])
    @pytest.mark.parametrize("size", [(224, 224), (640, 480)])
    def test_a_plain_field_is_blank_whatever_the_noise(
        self, sigma: float, size: tuple[int, int]
    ) -> None:
        rng = np.random.default_rng(1)
        noise = rng.normal(0, sigma, (size[1], size[0], 3))
        pixels = np.clip(np.array([230, 220, 235]) + noise, 0, 255).astype(np.uint8)
        assert "blank" in reasons(pixels)

    @pytest.mark.parametrize("slope", [20, 60, 120])
    def test_a_gradient_is_blank(self, slope: float) -> None:
        ramp = np.linspace(240 - slope, 240, 1024)[None, :, None] * np.ones((768, 1, 3))
        assert "blank" in reasons(ramp.astype(np.uint8))

    def test_vignetting_is_blank(self) -> None:
        y, x = np.mgrid[-1:1:768j, -1:1:1024j]
        light = 240 / (1 + 0.3 * (x * x + y * y)) ** 2
        assert "blank" in reasons(light[..., None].repeat(3, axis=2).astype(np.uint8))

    def test_a_field_with_three_red_cells_is_blank_and_with_forty_is_not(self) -> None:
        def with_cells(count: int) -> np.ndarray:
            pixels = np.full((768, 1024, 3), (236, 232, 240), np.uint8)
            for i in range(count):
                centre = (80 + 120 * (i % 8), 80 + 130 * (i // 8))
                cv2.circle(pixels, centre, 32, (205, 150, 160), -1, cv2.LINE_AA)
            return pixels

        assert "blank" in reasons(with_cells(3))
        assert "blank" not in reasons(with_cells(40))

    def test_a_crop_that_shows_a_single_cell_is_not_blank(self) -> None:
        pixels = np.full((257, 257, 3), (200, 200, 205), np.uint8)
        labels = np.zeros((257, 257), np.int32)
        cv2.circle(labels, (128, 128), 60, 1, -1)
        pixels[labels > 0] = (110, 60, 150)
        assert "blank" not in reasons(pixels, white_cells(labels))


def numbers(**chosen: float) -> QualityNumbers:
    plain = {"focus": 2.5, "brightness": 0.8, "contrast": 0.4, "saturated": 0.0, "stained": 0.8}
    cells = {"cell_detail": 1.4, "cell_brightness": 0.6}
    burnt_out = {"cell_saturated": 0.0, "cell_saturated_longer": 0.0}
    return QualityNumbers(**{**plain, **cells, **burnt_out, **chosen})


class TestWhiteCells:
    """A field of noise-free ground with one textured cell."""

    def cell(self, gain: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(1)
        labels = np.zeros((224, 224), np.int32)
        cv2.circle(labels, (112, 112), 20, 1, -1)
        texture = cv2.GaussianBlur(rng.normal(0, 40, (224, 224, 1)), (0, 0), 1.0)[..., None]
        pixels = np.where(labels[..., None] > 0, np.add(texture, (120, 70, 140)), (220, 215, 225))
        return np.clip(pixels * gain, 0, 255).astype(np.uint8), labels

    def exposed(self, gain: float, reason: str) -> bool:
        pixels, labels = self.cell(gain)
        limits = quality_limits(
            [self.numbers_of(self.cell(g)) for g in (0.9, 1.0, 1.1)], "white_cells"
        )
        return reason in measure_quality(shown(pixels, labels), white_cells(labels), limits).reasons

    def numbers_of(self, cell: tuple[np.ndarray, np.ndarray]) -> QualityNumbers:
        pixels, labels = cell
        return quality_numbers(shown(pixels, labels), white_cells(labels))

    def test_detail_does_not_depend_on_the_light(self) -> None:
        found = [self.numbers_of(self.cell(gain)) for gain in (0.5, 0.8, 1.0)]
        assert np.ptp([n.cell_detail for n in found]) < 0.05
        assert found[0].focus < found[2].focus - 0.3

    def test_blurred_cells_are_told_on_a_sharp_ground(self) -> None:
        pixels, labels = self.cell()
        limits = quality_limits([self.numbers_of((pixels, labels))] * 2)
        soft = np.where(labels[..., None] > 0, blurred(pixels, 2), pixels)
        quality = measure_quality(shown(soft, labels), white_cells(labels), limits)
        assert "cells_blurred" in quality.reasons
        sharp = measure_quality(shown(pixels, labels), white_cells(labels), limits)
        assert sharp.reasons == []

    def test_a_bleached_ground_does_not_matter_where_cells_alone_are_shown(self) -> None:
        pixels, labels = self.cell()
        cells = white_cells(labels)
        bleached = np.where(labels[..., None] > 0, pixels, 255).astype(np.uint8)
        known = [self.numbers_of((pixels, labels))] * 2
        for part, expected in (("white_cells", False), ("field", True)):
            limits = quality_limits(known, part)
            reasons = measure_quality(shown(bleached, labels), cells, limits).reasons
            assert ("bright" in reasons) == expected

    def test_a_few_sharp_places_do_not_make_up_for_blurred_cells(self) -> None:
        pixels, labels = self.cell()
        limits = quality_limits([self.numbers_of((pixels, labels))] * 2, "white_cells")
        soft = np.where(labels[..., None] > 0, blurred(pixels, 2), pixels)
        soft[108:116:4, 108:116:4] = (30, 20, 30)
        quality = measure_quality(shown(soft, labels), white_cells(labels), limits)
        assert quality.reasons == ["cells_blurred"]

    def test_white_cells_may_be_a_tenth_brighter_than_any_calibration_cell(self) -> None:
        pixels, labels = self.cell()
        limits = quality_limits([self.numbers_of((pixels, labels))] * 2, "white_cells")
        for gain, bright in ((1.0, False), (1.09, False), (1.2, True)):
            brighter = cv2.convertScaleAbs(pixels, alpha=gain)
            quality = measure_quality(shown(brighter, labels), white_cells(labels), limits)
            assert ("bright" in quality.reasons) == bright

    def test_cells_that_are_too_dark_or_bright_are_told(self) -> None:
        assert not self.exposed(1.0, "dark") and not self.exposed(1.0, "bright")
        assert self.exposed(0.5, "dark")
        assert self.exposed(1.8, "bright")

    def test_without_cells_the_field_stands_in(self) -> None:
        pixels, labels = self.cell()
        found = self.numbers_of((pixels, np.zeros_like(labels)))
        assert found.cell_brightness == found.brightness
        empty = measure_quality(shown(pixels, np.zeros_like(labels)), no_cells(pixels), LIMITS)
        assert empty.cell_detail is None


class TestLimits:
    def test_pass_what_they_were_chosen_on_and_its_like(self) -> None:
        rng = np.random.default_rng(0)
        drawn = [
            numbers(
                focus=rng.normal(2.5, 0.3),
                brightness=rng.uniform(0.75, 0.97),
                saturated=float(rng.exponential(0.01)),
                cell_detail=rng.normal(1.4, 0.1),
                cell_brightness=rng.uniform(0.55, 0.8),
            )
            for _ in range(2000)
        ]
        limits = quality_limits(drawn[:1000])
        outside = [
            found
            for found in drawn
            if found.focus < limits.min_focus
            or not limits.min_brightness <= found.brightness <= limits.max_brightness
            or found.saturated > limits.max_saturated
        ]
        assert len(outside) <= 0.005 * len(drawn)
        assert limits.min_focus > 2.5 - 5 * 0.3
        assert 0.5 < limits.min_brightness < 0.75
        assert 0.97 < limits.max_brightness < 1

    def test_lie_half_again_as_far_out_as_the_first_percentile(self) -> None:
        drawn = [numbers(focus=x, cell_detail=2 * x) for x in np.linspace(0, 1, 101)]
        found = quality_limits(drawn)
        assert found.min_focus == pytest.approx(0.01 - 0.5 * (0.5 - 0.01))
        assert found.min_cell_detail == pytest.approx(2 * found.min_focus)

    def test_exposure_is_that_of_the_part_the_network_is_shown(self) -> None:
        drawn = [numbers(brightness=0.9, cell_brightness=0.6)] * 3
        of_field, of_cells = quality_limits(drawn), quality_limits(drawn, "white_cells")
        assert of_field.min_brightness == of_field.max_brightness == pytest.approx(0.9)
        assert of_cells.min_brightness == pytest.approx(0.6)
        assert of_cells.max_brightness == pytest.approx(0.66)

    def test_the_field_may_be_blurred_where_cells_alone_are_shown(self) -> None:
        drawn = [numbers(focus=2.5)] * 3
        assert quality_limits(drawn).min_focus == pytest.approx(2.5)
        assert quality_limits(drawn, "white_cells").min_focus is None

    def test_need_calibration_images(self) -> None:
        with pytest.raises(ConfigurationError, match="calibration images"):
            quality_limits([])


def test_spoiled_training_fields_are_told_and_good_ones_pass(
    shared_data: Callable[[str], Path],
) -> None:
    fields = [
        cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        for folder in ("benign", "early", "pre", "pro")
        for file in sorted(shared_data(f"taleqani/{folder}").glob("*.jpg"))[::12]
    ]
    limits = quality_limits([quality_numbers(as_is(p), some_cell(p)) for p in fields[::2]])
    others = fields[1::2]

    def share(reason: str, spoil: Callable[[np.ndarray], np.ndarray]) -> float:
        spoiled = [spoil(pixels) for pixels in others[::3]]
        found = [measure_quality(as_is(p), some_cell(p), limits).reasons for p in spoiled]
        return float(np.mean([reason in reasons for reasons in found]))

    flagged = [bool(measure_quality(as_is(p), some_cell(p), limits).reasons) for p in others]
    assert np.mean(flagged) <= 0.03
    blur = [share("blurred", lambda p, s=s: blurred(p, s)) for s in (0.5, 1, 2)]
    dark = [share("dark", lambda p, g=g: darkened(p, g)) for g in (0.9, 0.7, 0.5)]
    bright = [share("bright", lambda p, g=g: darkened(p, g)) for g in (1.02, 1.1, 1.4)]
    for shares in (blur, dark, bright):
        assert shares == sorted(shares), (blur, dark, bright)
        assert shares[-1] >= 0.95, (blur, dark, bright)


def shown(pixels: np.ndarray, labels: np.ndarray) -> FieldGeometry:
    """One tile with these white cells."""
    box = Rectangle(0, 0, pixels.shape[1], pixels.shape[0])
    tile = FieldTile(pixels, box, labels > 0, labels > 0, cell_count=int(labels.max()))
    return FieldGeometry("as_is", None, True, (tile,))


def as_is(pixels: np.ndarray) -> FieldGeometry:
    """The geometry of an input that needs none, without measuring its cells."""
    box = Rectangle(0, 0, pixels.shape[1], pixels.shape[0])
    nothing = np.zeros(pixels.shape[:2], bool)
    tile = FieldTile(pixels, box, nothing, nothing, cell_count=1)
    return FieldGeometry("as_is", None, True, (tile,))


def some_cell(pixels: np.ndarray) -> WhiteCells:
    """Stands for whatever the segmentation finds; only that there is a cell matters here."""
    labels = np.zeros(pixels.shape[:2], np.int32)
    cv2.circle(labels, (pixels.shape[1] // 2, pixels.shape[0] // 2), 12, 1, -1)
    return white_cells(labels)
