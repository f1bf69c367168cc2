"""The public result types: what is stored for an image and reported for a patient.

Names here are the names in ``report.json``. They are kept and added to, never renamed;
``SCHEMA_VERSION`` rises when the meaning of a stored result changes, and older stores are then
refused instead of misread.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.labels import Label, ReferenceLabel
from pipeline.types import GeometryMethod

SCHEMA_VERSION = 1

Flag = Literal["high", "low"]
Call = Literal["benign", "early_b", "pre_b", "pro_b", "mixed", "not_assessable"]
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]

DISCLAIMER = (
    "Research use only. This is a screening aid, not a diagnosis and not a medical device. "
    "Subtypes of acute lymphoblastic leukaemia need immunophenotyping."
)


class Record(BaseModel):
    """Base of every stored type: immutable, and unknown fields are an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- one image ------------------------------------------------------------------------------


class Box(Record):
    """An axis-parallel rectangle in pixels of the original image; (0, 0) is the upper left."""

    x: int
    y: int
    width: int
    height: int


class Cell(Record):
    """One white cell. Lengths in pixels, areas in square pixels of the original image."""

    number: int = Field(description="1, 2, ... from top to bottom, left to right")
    box: Box
    outline: list[tuple[int, int]] = Field(description="polygon of (x, y) corners")
    area: float
    nucleus_area: float
    nucleus_to_cytoplasm_ratio: float | None = Field(
        description="nucleus area / cytoplasm area; null where no cytoplasm is visible"
    )
    roundness: Share = Field(description="4 pi area / perimeter^2 of the outline, at most 1")
    mean_colour: tuple[int, int, int] = Field(description="mean red, green, blue, 0 to 255")
    touches_edge: bool = Field(description="cut by the edge of the image")


class Tile(Record):
    """One network input: which part of the original it shows, and what the network said."""

    box: Box = Field(description="part of the original; may reach beyond it (padding)")
    white_cells: int = Field(description="cells whose centre lies in the tile")
    probabilities: dict[Label, Probability]


class Geometry(Record):
    """How the field became network input."""

    width: int
    height: int
    method: GeometryMethod
    red_cell_diameter: float | None = Field(description="pixels of the original; null if unknown")
    scale_known: bool = Field(description="false if cell size had to be guessed")
    tiles: list[Tile]


class Quality(Record):
    """Technical quality of the field, measured at the network's scale."""

    focus: float = Field(description="log10 of the variance of the Laplacian of the luminance")
    brightness: float = Field(description="median luminance, 0 to 1")
    contrast: float = Field(description="5th to 95th percentile of luminance, 0 to 1")
    saturated: Share = Field(description="share of pixels at 0 or 255 in every channel")
    cell_detail: float | None = Field(
        default=None,
        description="log10 of the median absolute Laplacian inside the white cells, with the stain "
        "taken out; null without white cells",
    )
    reasons: list[str] = Field(
        description="blurred, cells_blurred, dark, bright, blank, no_white_cell"
    )


class Neighbour(Record):
    """A reference image near the query in the embedding."""

    id: str
    label: ReferenceLabel = Field(description="malignant: leukaemia without a known subtype")
    distance: float


class MapPosition(Record):
    """Where an image lies in the latent map: t-SNE of all references, 0 to 1, y downwards."""

    x: Share
    y: Share
    neighbours: list[tuple[Share, Share]] = Field(
        description="x and y of the nearest references; the image is at their median"
    )


class Confidence(Record):
    """Whether the decision rests on something the model has seen."""

    flag: Flag
    reasons: list[str] = Field(
        description="empty if high; else codes: far_from_references, neighbours_disagree, "
        "network_and_neighbours_disagree, network_uncertain, little_visible, scale_unknown, "
        "background, and those of quality"
    )
    vote: ReferenceLabel = Field(
        description="label most neighbours support; ties go to the nearest; malignant: no subtype"
    )
    agreement: Share = Field(description="share of the neighbours that support the vote")
    distance: float = Field(description="mean distance to the neighbours")
    typicality: Share | None = Field(
        default=None,
        description="conformal p-value of the distance: share of calibration images at least as "
        "far, the smaller of all and of those with the same label; null from older bundles",
    )
    consensus: Share | None = Field(
        default=None,
        description="probability of the label times the share of neighbours that support it; null "
        "from older bundles",
    )
    score: Share | None = Field(
        default=None,
        description="how well the image fits what the model knows: the smaller of typicality and "
        "the p-value of consensus; 0 where any other reason speaks against it; null from older "
        "bundles",
    )
    neighbours: list[Neighbour]


class Region(Record):
    """One superpixel of a LIME explanation."""

    number: int
    weight: float = Field(description="positive: speaks for the explained label")
    area: Share = Field(description="share of the network input")
    box: Box = Field(description="in pixels of the network input")


class Surrogate(Record):
    """A linear model of one score over superpixels."""

    top_regions: list[Region] = Field(description="those that speak most for it, at most five")
    weights: list[float] = Field(description="weight of every superpixel, by its number")
    intercept: float
    fit: float = Field(description="weighted R^2 of the linear model")


class Relevance(Record):
    """Where an explanation points, and whether the network minds."""

    inside_white_cells: Share | None = Field(
        description="share of the relevance on white cells; null where there is none of either"
    )
    inside_nuclei: Share | None = None
    deletion: Share | None = Field(
        default=None,
        description="mean probability of the label while the most relevant superpixels are hidden "
        "first, one by one; low where they matter",
    )
    insertion: Share | None = Field(
        default=None,
        description="mean probability of the label while the most relevant superpixels are shown "
        "first, one by one; high where they suffice",
    )


class LimeExplanation(Surrogate, Relevance):
    """Local linear model over superpixels (Ribeiro et al. 2016)."""

    label: Label
    samples: int
    seed: int
    superpixels: str | None = Field(
        default=None,
        description="number of every pixel's superpixel: a grey PNG of 8 or 16 bits in base64",
    )
    malignancy: Surrogate | None = Field(
        default=None,
        description="the same for malignant against benign: the sum of the malignant classes",
    )
    stability: Share | None = Field(
        default=None,
        description="share of the top regions that two thousand-sample explanations with other "
        "seeds have in common, on average",
    )


class CamExplanation(Relevance):
    """A class activation map."""

    label: Label
    map: list[list[float]] = Field(description="rows of the map, 0 to 1, at feature-map resolution")


class SimilarityMap(Record):
    """What makes the image similar to a reference (Zhu, Yang, Chen 2021)."""

    id: str = Field(description="name of the reference")
    map: str = Field(
        description="grey PNG of 8 bits in base64 at feature-map resolution; 255 is the strongest"
    )


class Explanations(Record):
    """Why the network decided as it did, for one tile."""

    tile: int = Field(description="index into geometry.tiles of the tile that is explained")
    lime: LimeExplanation
    grad_cam: CamExplanation = Field(description="Selvaraju et al. 2017")
    score_cam: CamExplanation | None = Field(default=None, description="Wang et al. 2020")
    mr_ssim: float | None = Field(
        default=None,
        description="structural similarity of the two class activation maps, -1 to 1 "
        "(Di Giammarco et al. 2024)",
    )
    similarity: list[SimilarityMap] = Field(
        default=[], description="one for each of the nearest references"
    )
    pictures: list[str] = Field(description="names of the pictures that belong to the explanation")


class ImageError(Record):
    """Why an image could not be judged."""

    reason: str = Field(description="stable code, e.g. truncated, too_many_pixels, outside_root")
    message: str


class ImageAnalysis(Record):
    """What ``pipeline`` says about the bytes of one image; knows neither name nor patient."""

    schema_version: int = SCHEMA_VERSION
    status: Literal["ok", "failed"]
    error: ImageError | None = None
    sha256: str | None = Field(default=None, description="of the file's bytes; null if unread")
    synthetic: bool = Field(default=False, description="rendered by `screen samples`, not a smear")
    label: Label | None = None
    probabilities: dict[Label, Probability] | None = None
    confidence: Confidence | None = None
    cells: list[Cell] = []
    quality: Quality | None = None
    geometry: Geometry | None = None
    map_position: MapPosition | None = Field(
        default=None, description="null from bundles without a latent map"
    )
    explanations: Explanations | None = None


class ImageResult(ImageAnalysis):
    """One image of a patient: the analysis of its bytes plus where it lies in the archive."""

    source: str = Field(description="path below the archive's root, with / between its parts")


# --- one patient ----------------------------------------------------------------------------


class Interval(Record):
    """A two-sided 95 % interval."""

    low: float
    high: float


class Counts(Record):
    """What was examined."""

    images: int = Field(description="rows of the manifest; always ok + failed")
    ok: int
    failed: int
    copies: int = Field(default=0, description="ok images with the bytes of another; counted once")
    by_label: dict[Label, int] = Field(description="images per label, among ok")
    high: int = Field(description="ok images with a high confidence flag")
    low: int
    judged: int = Field(description="images the call rests on, without copies")
    judged_white_cells: int = Field(default=0, description="white cells in the judged images")
    white_cells: int = Field(description="white cells in the ok images, without copies")
    malignant_share: Share | None = Field(description="share of judged images that are malignant")
    malignant_share_interval: Interval | None = Field(description="Wilson 95 % interval")


class ModelRecord(Record):
    """Which model made the report."""

    name: str
    bundle_digest: str
    tested: str = Field(description="one sentence: on what the model was tested, with the figure")


#: How LIME cuts an image into regions, and what a region shows that is switched off: its mean
#: colour, or one colour for all.
Superpixels = Literal["quickshift", "slic"]
Hidden = Literal["mean", "black", "grey", "white"]


class AnalysisOptions(Record):
    """Choices that change a result; part of every result's key."""

    explain: Literal["all", "flagged", "none"] = "all"
    lime_samples: int = 4000
    lime_superpixels: Superpixels = "quickshift"
    lime_hidden: Hidden = "mean"


class PatientReport(Record):
    """``report.json``."""

    schema_version: int = SCHEMA_VERSION
    disclaimer: str = DISCLAIMER
    synthetic: bool = Field(description="at least one image was rendered by `screen samples`")
    patient: str
    call: Call
    flag: Flag
    reasons: list[str] = Field(description="why the flag is low, as codes; empty if high")
    statement: str = Field(description="the finding in words, with what was examined")
    counts: Counts
    model: ModelRecord
    options: AnalysisOptions
    software: dict[str, str] = Field(description="versions of what computed the numbers")
    images: list[ImageResult] = Field(description="sorted by source")
