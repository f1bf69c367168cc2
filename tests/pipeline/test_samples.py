"""Rendered fields: the truth is true, the same seed gives the same bytes, folders are safe."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.decode import SYNTHETIC_MARKER, decode
from pipeline.errors import ConfigurationError
from pipeline.samples import (
    RECIPES,
    FieldRecipe,
    SyntheticField,
    TruthCell,
    render_field,
    write_samples,
)
from pipeline.samples import write as writing
from pipeline.segment import segment

CROWDED = FieldRecipe(
    white_cells={"lymphoblast": 5.0, "haematogone": 2.0, "neutrophil": 2.0, "monocyte": 1.0},
    touching=0.5,
    at_edge=0.4,
)


@pytest.fixture(scope="module")
def crowded() -> SyntheticField:
    return render_field(3, CROWDED)


# --- one field ------------------------------------------------------------------------------


def test_a_field_has_the_size_of_its_recipe(crowded: SyntheticField) -> None:
    assert crowded.pixels.shape == (768, 1024, 3)
    assert crowded.pixels.dtype == np.uint8
    assert crowded.labels.shape == crowded.nuclei.shape == (768, 1024)
    assert crowded.labels.dtype == np.int32
    assert crowded.nuclei.dtype == bool


def test_the_same_seed_gives_the_same_pixels_and_another_seed_does_not(
    crowded: SyntheticField,
) -> None:
    again, other = render_field(3, CROWDED), render_field(4, CROWDED)
    assert np.array_equal(again.pixels, crowded.pixels)
    assert np.array_equal(again.labels, crowded.labels)
    assert again.cells == crowded.cells
    assert not np.array_equal(other.pixels, crowded.pixels)


def test_every_cell_of_the_truth_is_in_the_masks(crowded: SyntheticField) -> None:
    assert len(crowded.cells) >= 5
    assert {cell.number for cell in crowded.cells} == set(np.unique(crowded.labels)) - {0}
    for cell in crowded.cells:
        mask = crowded.labels == cell.number
        box = cell.box
        inside = mask[box.y : box.y + box.height, box.x : box.x + box.width]
        assert mask.sum() == inside.sum() == cell.area
        assert inside[0].any() and inside[-1].any()
        assert inside[:, 0].any() and inside[:, -1].any()
        assert (mask & crowded.nuclei).sum() == cell.nucleus_area
        assert 0 < cell.nucleus_area < cell.area


def test_nuclei_lie_in_cells_and_cells_are_numbered_downwards(crowded: SyntheticField) -> None:
    assert not (crowded.nuclei & (crowded.labels == 0)).any()
    heights = [cell.centre[1] for cell in crowded.cells]
    assert heights == sorted(heights)


def test_cells_cut_by_the_edge_say_so(crowded: SyntheticField) -> None:
    border = np.concatenate(
        [crowded.labels[0], crowded.labels[-1], crowded.labels[:, 0], crowded.labels[:, -1]]
    )
    cut = set(np.unique(border)) - {0}
    assert cut == {cell.number for cell in crowded.cells if cell.touches_edge}
    assert cut


def test_a_whole_cell_alone_has_about_the_area_of_its_radius() -> None:
    recipe = FieldRecipe(white_cells={"lymphoblast": 4.0}, touching=0.0, at_edge=0.0)
    for cell in render_field(1, recipe).cells:
        assert cell.area == pytest.approx(np.pi * cell.radius**2, rel=0.05)


def test_some_cells_touch() -> None:
    recipe = replace(CROWDED, touching=1.0, at_edge=0.0)
    field = render_field(5, recipe)
    beside = (field.labels[:, 1:] != field.labels[:, :-1]) & (field.labels[:, 1:] > 0)
    assert (beside & (field.labels[:, :-1] > 0)).any()


def test_kinds_differ_as_they_do_under_the_microscope() -> None:
    cells: list[TruthCell] = []
    for seed in range(4):
        recipe = replace(CROWDED, at_edge=0.0, touching=0.0)
        cells.extend(render_field(seed, recipe).cells)

    def mean(kind: str, value: str) -> float:
        chosen = [cell for cell in cells if cell.kind == kind]
        if value == "nucleus":
            return float(np.mean([cell.nucleus_area / cell.area for cell in chosen]))
        return float(np.mean([cell.radius for cell in chosen]))

    assert mean("haematogone", "radius") < mean("lymphoblast", "radius")
    assert mean("lymphoblast", "radius") < mean("monocyte", "radius")
    assert mean("lymphoblast", "nucleus") > 0.7 > mean("monocyte", "nucleus")
    assert mean("neutrophil", "nucleus") < 0.5


def test_nuclei_are_darkest_and_cells_darker_than_the_background(crowded: SyntheticField) -> None:
    light = crowded.pixels[:, :, 1].astype(float)
    background = np.percentile(light, 90)
    cytoplasm = (crowded.labels > 0) & ~crowded.nuclei
    assert light[crowded.nuclei].mean() < light[cytoplasm].mean() - 30
    assert light[cytoplasm].mean() < background - 30


def test_a_recipe_without_white_cells_has_none() -> None:
    field = render_field(1, FieldRecipe(white_cells={}))
    assert field.cells == ()
    assert not field.labels.any()


def test_other_sizes_and_scales_are_rendered() -> None:
    recipe = FieldRecipe(width=640, height=480, red_cell_diameter=38.0, red_cells=70)
    field = render_field(2, recipe)
    assert field.pixels.shape == (480, 640, 3)
    assert all(15 < cell.radius < 45 for cell in field.cells)


def test_defocus_blurs_the_pixels_and_leaves_the_truth() -> None:
    recipe = replace(CROWDED, scale_bar=False)
    sharp, blurred = (render_field(6, replace(recipe, defocus=blur)) for blur in (0.9, 6.0))
    assert np.array_equal(sharp.labels, blurred.labels)
    steps = [np.abs(np.diff(f.pixels[:, :, 1].astype(float))).max() for f in (sharp, blurred)]
    assert steps[1] < steps[0] / 2


# --- segmentation ---------------------------------------------------------------------------


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("name", RECIPES)
def test_the_segmenter_finds_the_cells_that_were_drawn(name: str) -> None:
    """Neither was tuned to the other: a disagreement says that one of them has changed."""
    drawn = found = 0
    for seed in (100, 101, 103):
        field = render_field(seed, RECIPES[name])
        cells = segment(field.pixels)
        assert overlap(field.labels > 0, cells.labels > 0) >= 0.85
        assert overlap(field.nuclei, cells.nuclei) >= 0.85
        drawn += len(field.cells)
        for cell in field.cells:
            mask = field.labels == cell.number
            number = np.bincount(cells.labels[mask]).argmax()
            found += bool(number) and overlap(mask, cells.labels == number) > 0.5
    assert found >= 0.85 * drawn


# --- folders --------------------------------------------------------------------------------


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("samples") / "new" / "samples"
    write_samples(directory, patients=4, fields=2, seed=1)
    return directory


def test_every_patient_has_a_folder_of_images(written: Path) -> None:
    assert sorted(contents(written)) == [
        "S-001/field-01.png",
        "S-001/field-02.jpg",
        "S-002/field-01.png",
        "S-002/field-02.jpg",
        "S-003/field-01.png",
        "S-003/field-02.jpg",
        "S-004/field-01.png",
        "truth.json",
    ]


def test_every_image_is_decoded_as_synthetic(written: Path) -> None:
    for name, data in contents(written).items():
        if name != "truth.json":
            assert decode(data).synthetic


def test_the_truth_lists_what_is_in_the_images(written: Path) -> None:
    truth = json.loads((written / "truth.json").read_bytes())
    assert truth["description"] == SYNTHETIC_MARKER
    assert sorted(image["source"] for image in truth["images"]) == truth["sources"]
    assert len(truth["images"]) == 7
    for image in truth["images"]:
        assert image["patient"] == image["source"].split("/")[0]
        pixels = np.asarray(Image.open(written / image["source"]).convert("RGB"))
        assert pixels.shape == (image["height"], image["width"], 3)
        for cell in image["cells"]:
            box = cell["box"]
            part = pixels[
                box["y"] : box["y"] + box["height"], box["x"] : box["x"] + box["width"], 1
            ]
            # A cell is there: the box is clearly darker than the field usually is.
            assert part.mean() < np.median(pixels[:, :, 1]) - 15
            assert cell["nucleus_area"] < cell["area"] <= box["width"] * box["height"]


def test_the_last_field_of_the_mixed_patient_is_out_of_focus(written: Path) -> None:
    truth = json.loads((written / "truth.json").read_bytes())
    blurred = [image["source"] for image in truth["images"] if image["defocus"] > 3]
    assert blurred == ["S-003/field-02.jpg"]


def test_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    write_samples(tmp_path / "a", patients=2, fields=1, seed=7)
    write_samples(tmp_path / "b", patients=2, fields=1, seed=7)
    first = contents(tmp_path / "a")
    write_samples(tmp_path / "a", patients=2, fields=1, seed=7)
    assert contents(tmp_path / "a") == first == contents(tmp_path / "b")


def test_fewer_samples_take_the_place_of_more_and_leave_other_files(tmp_path: Path) -> None:
    write_samples(tmp_path, patients=2, fields=1, seed=7)
    (tmp_path / "S-001" / "notes.txt").write_text("mine")
    (tmp_path / "field.jpg").write_bytes(b"mine")
    write_samples(tmp_path, patients=1, fields=1, seed=7)
    assert sorted(contents(tmp_path)) == [
        "S-001/field-01.png",
        "S-001/notes.txt",
        "field.jpg",
        "truth.json",
    ]
    assert not (tmp_path / "S-002").exists()


def test_an_edited_truth_removes_nothing_but_samples(tmp_path: Path) -> None:
    precious = tmp_path / "precious.jpg"
    precious.write_bytes(b"mine")
    folder = tmp_path / "samples"
    write_samples(folder, patients=1, fields=1, seed=7)
    truth = json.loads((folder / "truth.json").read_bytes())
    truth["sources"] += ["../precious.jpg", str(precious), 5, "S-001/../../precious.jpg"]
    (folder / "truth.json").write_text(json.dumps(truth))
    write_samples(folder, patients=1, fields=1, seed=7)
    assert precious.read_bytes() == b"mine"


def test_an_interrupted_run_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = []

    def stop_at_second(seed: int, recipe: FieldRecipe) -> SyntheticField:
        if rendered:
            raise KeyboardInterrupt
        rendered.append(seed)
        return render_field(seed, recipe)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "render_field", stop_at_second)
        with pytest.raises(KeyboardInterrupt):
            write_samples(tmp_path / "a", patients=2, fields=1, seed=7)
    write_samples(tmp_path / "a", patients=2, fields=1, seed=7)
    write_samples(tmp_path / "b", patients=2, fields=1, seed=7)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    "name", ["slide.jpg", "truth.json", ".hidden"], ids=["image", "foreign-truth", "hidden"]
)
def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"images": []}')
    before = contents(tmp_path)
    with pytest.raises(ConfigurationError, match="name a new or an empty folder"):
        write_samples(tmp_path, patients=1, fields=1)
    assert contents(tmp_path) == before


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "samples").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="is a file"):
        write_samples(tmp_path / "samples", patients=1, fields=1)
    with pytest.raises(ConfigurationError, match="name a folder"):
        write_samples(tmp_path / "samples" / "below", patients=1, fields=1)


def test_images_are_small_enough_to_hand_around(written: Path) -> None:
    sizes = [len(data) for data in contents(written).values()]
    assert sum(sizes) < 6_000_000


def test_a_field_survives_jpeg(crowded: SyntheticField) -> None:
    buffer = io.BytesIO()
    Image.fromarray(crowded.pixels).save(buffer, "JPEG", quality=writing.JPEG_QUALITY)
    pixels = decode(buffer.getvalue()).pixels.astype(int)
    assert np.abs(pixels - crowded.pixels).mean() < 3
