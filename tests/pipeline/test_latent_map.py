"""The latent map: fitted once, stored under the digest, and nothing fitted for a new image."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_limits

from pipeline.bundle import (
    Bundle,
    default_bundle,
    load_bundle,
    read_latent_map,
    write_bundle,
)
from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS
from pipeline.latent_map import LEAST_REFERENCES, LatentMap
from pipeline.latent_picture import MARGIN, SIDE, MapPicture, PlacedImage
from pipeline.neighbours import Neighbours, References
from pipeline.references import UnchangedNetwork, recalibrate, with_map
from pipeline.results import MapPosition, Neighbour

PER_CLASS = 20


@pytest.fixture(scope="module")
def references() -> References:
    """Four clusters in six dimensions, one of each class."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(4, dtype=np.int8), PER_CLASS)
    middles = 4 * np.eye(4, 6)
    embeddings = middles[labels] + rng.normal(0, 0.2, (len(labels), 6))
    names = tuple(f"{LABELS[label]}/{row}" for row, label in enumerate(labels))
    return References(embeddings.astype(np.float32), labels, names)


@pytest.fixture(scope="module")
def fitted(references: References) -> LatentMap:
    found = LatentMap.fit(references)
    assert found is not None
    return found


@pytest.fixture
def older(tmp_path: Path, references: References) -> Bundle:
    """A bundle without a map."""
    import keras

    image = keras.Input((16, 16, 3))
    features = keras.layers.Conv2D(6, 3, name="features")(image)
    hidden = keras.layers.GlobalAveragePooling2D(name="embedding")(features)
    model = keras.Model(image, keras.layers.Dense(4, activation="softmax")(hidden))
    shipped = load_bundle(default_bundle()).record
    return write_bundle(tmp_path / "older", model, references, "# Card\n", shipped)


def grid() -> LatentMap:
    """References 0 to 8 at the corners and in the middle of a square of three by three."""
    places = np.stack(np.meshgrid([0, 0.5, 1], [0, 0.5, 1]), axis=-1).reshape(-1, 2)
    return LatentMap(places.astype(np.float32), np.arange(9, dtype=np.int8) % 4)


def near(*rows: int, label: str = "pre_b") -> Neighbours:
    return Neighbours(tuple(Neighbour(id=str(row), label=label, distance=1.0) for row in rows))  # type: ignore[arg-type]


def grid_references() -> References:
    rng = np.random.default_rng(0)
    return References(
        rng.normal(size=(9, 3)).astype(np.float32),
        np.arange(9, dtype=np.int8) % 4,
        tuple(str(row) for row in range(9)),
    )


def test_what_is_alike_lies_together(references: References, fitted: LatentMap) -> None:
    gaps = np.linalg.norm(fitted.points[:, None] - fitted.points[None], axis=-1)
    np.fill_diagonal(gaps, np.inf)
    nearest = np.argsort(gaps, axis=1)[:, :5]
    assert (references.labels[nearest] == references.labels[:, None]).mean() > 0.95
    assert fitted.points.min(axis=0).min() == 0
    assert fitted.points.max(axis=0).max() == 1


def test_the_same_references_give_the_same_bytes_with_any_number_of_threads(
    references: References, fitted: LatentMap, tmp_path: Path
) -> None:
    for threads in (1, 2):
        with threadpool_limits(threads):
            again = LatentMap.fit(references)
        assert again is not None
        again.save(tmp_path / f"{threads}.npz")
    fitted.save(tmp_path / "first.npz")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize(
    "embeddings",
    [
        np.eye(LEAST_REFERENCES - 1, 4),
        np.ones((30, 4)),
        np.linspace(0, 1, 30)[:, None],
    ],
    ids=["few", "alike", "one dimension"],
)
def test_there_is_no_map_where_there_is_nothing_to_map(embeddings: np.ndarray) -> None:
    count = len(embeddings)
    names = tuple(str(row) for row in range(count))
    references = References(embeddings.astype(np.float32), np.zeros(count, np.int8), names)
    assert LatentMap.fit(references) is None


def test_an_image_lies_at_the_median_of_its_neighbours_and_strays_do_not_move_it() -> None:
    position = grid().place(near(0, 1, 3, 4, 8), grid_references())
    assert (position.x, position.y) == (0.5, 0.5)
    assert position.neighbours == [(0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5), (1, 1)]
    cluster = grid().place(near(0, 0, 0, 8, 8), grid_references())
    assert (cluster.x, cluster.y) == (0, 0)


def test_a_map_reads_back_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    grid().save(path)
    np.testing.assert_array_equal(LatentMap.load(path).points, grid().points)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ConfigurationError, match=r"map\.npz"):
        LatentMap.load(path)
    for points in (np.full((9, 2), np.nan), np.full((9, 2), 1.5), np.zeros((8, 2))):
        with pytest.raises(ConfigurationError):
            LatentMap(points.astype(np.float32), grid().labels)


def test_an_older_bundle_works_and_is_given_a_map_that_changes_nothing_else(
    older: Bundle, tmp_path: Path
) -> None:
    assert load_bundle(older.directory).latent_map is None
    assert read_latent_map(older.directory) is None
    first, second = (with_map(older, tmp_path / name) for name in ("first", "second"))
    assert first.digest == second.digest != older.digest
    assert first.record.model_copy(update={"files": older.record.files}) == older.record
    for name in older.record.files:
        assert first.record.files[name] == older.record.files[name]
    assert read_latent_map(first.directory) == (first.directory / "latent_map.npz").read_bytes()


def test_a_map_that_was_changed_or_is_of_other_references_is_refused(
    older: Bundle, references: References, tmp_path: Path
) -> None:
    made = with_map(older, tmp_path / "made")
    grid().save(made.directory / "latent_map.npz")
    for read in (load_bundle, read_latent_map):
        with pytest.raises(ConfigurationError, match=r"latent_map\.npz"):
            read(made.directory)
    with pytest.raises(ConfigurationError, match="not a map of the bundle's references"):
        write_bundle(
            tmp_path / "mixed",
            UnchangedNetwork(older),
            references,
            "",
            older.record,
            latent_map=grid(),
        )


@pytest.mark.parametrize("name", ["white-cells", "all-net"])
def test_a_shipped_bundle_has_a_map_on_which_classes_lie_apart(name: str) -> None:
    shipped = load_bundle(default_bundle().parent / name)
    assert shipped.latent_map is not None
    assert (shipped.directory / "latent_map.npz").stat().st_size < 20_000
    points, labels = shipped.latent_map.points, shipped.references.labels
    gaps = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(gaps, np.inf)
    assert (labels[gaps.argmin(axis=1)] == labels).mean() > 0.9


def test_new_thresholds_keep_the_map(tmp_path: Path) -> None:
    shipped = load_bundle(default_bundle())
    made = recalibrate(shipped, tmp_path / "made", target_error=0.05, target_missed=0.05)
    assert made.record.files["latent_map.npz"] == shipped.record.files["latent_map.npz"]


def drawn(picture: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(picture), formats=["PNG"]) as image:
        assert image.size == (SIDE, SIDE)
        return np.asarray(image.convert("RGB")).astype(int)


def pixel(x: float, y: float) -> tuple[int, int]:
    """Row and column of a place on the map."""
    return round(MARGIN + y * (SIDE - 2 * MARGIN)), round(MARGIN + x * (SIDE - 2 * MARGIN))


def test_an_image_is_joined_to_its_neighbours_in_colour_and_in_grey() -> None:
    ground = MapPicture.of(grid())
    position = MapPosition(x=0.5, y=0.75, neighbours=[(0, 0), (1, 0)])
    picture = ground.of_image(position, near(0, 2))
    assert picture == MapPicture.of(grid()).of_image(position, near(0, 2))
    pixels = drawn(picture)
    for x, y in ((0.25, 0.375), (0.75, 0.375)):
        row, column = pixel(x, y)
        around = pixels[row - 3 : row + 4, column - 3 : column + 4].sum(axis=-1)
        assert around.min() < 200, "a dark line leads half-way to each neighbour"
    row, column = pixel(0.25, 0.6)
    assert (pixels[row, column] > 250).all(), "nothing is drawn where nothing lies"
    # The neighbours' own class shows, blue for Pre-B.
    red, _, blue = pixels[pixel(0, 0)]
    assert blue > red + 80


def test_the_images_of_a_run_are_filled_where_confidence_is_high_and_hollow_where_low() -> None:
    images = [PlacedImage(0.25, 0.3, "pro_b", "high"), PlacedImage(0.75, 0.3, "pro_b", "low")]
    pixels = drawn(MapPicture.of(grid()).of_run(images))
    filled, hollow = pixels[pixel(0.25, 0.3)], pixels[pixel(0.75, 0.3)]
    assert filled.sum() < 600
    assert hollow.sum() > 740


def test_pictures_of_the_shipped_map_are_small() -> None:
    shipped = load_bundle(default_bundle())
    assert shipped.latent_map is not None
    ground = MapPicture.of(shipped.latent_map)
    found = shipped.references.nearest(shipped.references.embeddings[0], 5)
    position = shipped.latent_map.place(found, shipped.references)
    assert len(ground.of_image(position, found)) < 16_000
    images = [PlacedImage(x, y, "pre_b", "high") for x, y in shipped.latent_map.points.tolist()]
    assert len(ground.of_run(images)) < 40_000
