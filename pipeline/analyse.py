"""One image's way through the pipeline, from bytes to result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.bundle import Bundle, load_bundle
from pipeline.classify import Network, classify
from pipeline.confidence import judge, tempered
from pipeline.decode import decode
from pipeline.explain import Explainer, Likeness, doubted
from pipeline.explain.pictures import draw_field
from pipeline.geometry import fit_field
from pipeline.labels import LABELS
from pipeline.latent_picture import MapPicture
from pipeline.neighbours import Neighbours
from pipeline.quality import measure_quality
from pipeline.quiet import load_keras
from pipeline.results import (
    AnalysisOptions,
    Box,
    Cell,
    Confidence,
    Geometry,
    ImageAnalysis,
    MapPosition,
    ModelRecord,
    Tile,
)
from pipeline.segment import segment
from pipeline.types import ClassScores, FieldGeometry, Rectangle, SmearImage, WhiteCell


@dataclass(frozen=True)
class Analysis:
    """The result for one image, its pictures (PNG) by name, and the embedding it was judged by.

    ``embedding``: float64 ``(dimensions,)``.
    """

    result: ImageAnalysis
    pictures: dict[str, bytes]
    embedding: np.ndarray


class Analyser:
    """A loaded model that judges images one after the other.

    ``threads`` explain an image together, which changes nothing but the time. Runs leave it at one:
    as many images are judged at once as there are cores.
    """

    def __init__(
        self, bundle: Bundle, network: Network, options: AnalysisOptions, *, threads: int = 1
    ) -> None:
        self._bundle = bundle
        self._network = network
        self._options = options
        self._threads = threads

    @cached_property
    def _explain(self) -> Explainer:
        # Taking the network apart is left to the first image that is explained.
        return Explainer(self._network, self._options, threads=self._threads)

    @cached_property
    def _map_picture(self) -> MapPicture | None:
        # All references are drawn once, however many images are laid over them.
        found = self._bundle.latent_map
        return None if found is None else MapPicture.of(found)

    @property
    def model(self) -> ModelRecord:
        """The model that judges."""
        return self._bundle.model

    def __call__(self, data: bytes) -> Analysis:
        """Judge the bytes of one image file.

        The result depends on the bytes, the bundle and the options alone. Raises BadInputError if
        the bytes are no image that can be judged.
        """
        record, references = self._bundle.record, self._bundle.references

        image = decode(data)
        cells = segment(image.pixels)
        geometry = fit_field(image, cells, record.preprocessing.tile_size)
        quality = measure_quality(geometry, cells, record.quality_limits)
        scores = tempered(classify(geometry, self._network), record.thresholds.temperature)
        neighbours = references.nearest(scores.embedding, record.thresholds.n_close)
        confidence = judge(scores, neighbours, quality, geometry, record.thresholds)
        position = self._position(neighbours)

        explanations = None
        pictures = {"field": draw_field(image)}
        if self._wants_explanation(confidence):
            names = [neighbour.id for neighbour in neighbours.nearest]
            slopes = references.similarity_gradients(names)
            similar = dict(zip(names, slopes, strict=True))
            explanations, drawn = self._explain(scores, geometry, similar, seed_of(image))
            if self._map_picture is not None and position is not None:
                drawn["latent_map"] = self._map_picture.of_image(position, neighbours)
                explanations = explanations.model_copy(update={"pictures": sorted(drawn)})
            pictures |= drawn
            confidence = doubted(confidence, explanations)

        result = ImageAnalysis(
            status="ok",
            sha256=image.sha256,
            synthetic=image.synthetic,
            label=scores.label,
            probabilities=dict(zip(LABELS, scores.probabilities.tolist(), strict=True)),
            confidence=confidence,
            cells=[_cell_record(cell) for cell in cells.cells],
            quality=quality,
            geometry=_geometry_record(image, geometry, scores),
            map_position=position,
            explanations=explanations,
        )
        return Analysis(result, pictures, scores.embedding)

    def likeness(self, embedding: np.ndarray, reference: bytes) -> Likeness:
        """What in a reference makes it similar to an image that was judged.

        ``embedding``: the image's, float64 ``(dimensions,)``. ``reference``: bytes of a file.
        """
        image = decode(reference)
        geometry = fit_field(
            image, segment(image.pixels), self._bundle.record.preprocessing.tile_size
        )
        tile = geometry.tiles[classify(geometry, self._network).decisive_tile]
        (slope,) = self._bundle.references.slopes_towards(embedding[None])
        return self._explain.likeness(tile, slope)

    def _position(self, neighbours: Neighbours) -> MapPosition | None:
        found = self._bundle.latent_map
        return None if found is None else found.place(neighbours, self._bundle.references)

    def _wants_explanation(self, confidence: Confidence) -> bool:
        if self._options.explain == "flagged":
            return confidence.flag == "low"
        return self._options.explain == "all"


def open_analyser(bundle: str, options: AnalysisOptions) -> Analyser:
    """Load the bundle in the directory ``bundle``; imports TensorFlow and takes seconds.

    Raises ConfigurationError if the bundle is unusable.
    """
    # One thread per network whatever the machine: sums then run in one order, and the number of
    # workers, not a thread pool inside each, decides how many cores are used.
    load_keras()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = load_bundle(bundle)
    return Analyser(loaded, loaded.load_network(), options)


def seed_of(image: SmearImage) -> int:
    """A seed that is the same for equal bytes everywhere; below 2^32 as NumPy wants."""
    return int(image.sha256[:8], 16)


def _geometry_record(image: SmearImage, geometry: FieldGeometry, scores: ClassScores) -> Geometry:
    tiles = [
        Tile(
            box=_box(tile.box),
            white_cells=tile.cell_count,
            probabilities=dict(zip(LABELS, row.tolist(), strict=True)),
        )
        for tile, row in zip(geometry.tiles, scores.tile_probabilities, strict=True)
    ]
    return Geometry(
        width=image.width,
        height=image.height,
        method=geometry.method,
        red_cell_diameter=geometry.red_cell_diameter,
        scale_known=geometry.scale_known,
        tiles=tiles,
    )


def _cell_record(cell: WhiteCell) -> Cell:
    return Cell(
        number=cell.number,
        box=_box(cell.box),
        outline=list(cell.outline),
        area=cell.area,
        nucleus_area=cell.nucleus_area,
        nucleus_to_cytoplasm_ratio=cell.nucleus_to_cytoplasm_ratio,
        roundness=cell.roundness,
        mean_colour=cell.mean_colour,
        touches_edge=cell.touches_edge,
    )


def _box(rectangle: Rectangle) -> Box:
    return Box(x=rectangle.x, y=rectangle.y, width=rectangle.width, height=rectangle.height)


__all__ = ["Analyser", "Analysis", "open_analyser", "seed_of"]
