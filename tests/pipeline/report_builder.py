"""Hand-built results of images, for the tests of reports and for the example in docs/report.md.

``python -m tests.pipeline.report_builder`` writes the generated parts of the documentation anew.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.canonical import canonical_bytes
from pipeline.explain.maps import grey_png
from pipeline.labels import LABELS, Label
from pipeline.report import build_report, report_schema
from pipeline.results import (
    AnalysisOptions,
    Box,
    CamExplanation,
    Cell,
    Confidence,
    Explanations,
    Flag,
    Geometry,
    ImageError,
    ImageResult,
    LimeExplanation,
    MapPosition,
    ModelRecord,
    Neighbour,
    PatientReport,
    Quality,
    Region,
    SimilarityMap,
    Surrogate,
    Tile,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLE_START = "<!-- example: generated, see tests/pipeline/report_builder.py -->\n```json\n"
EXAMPLE_END = "```\n<!-- end of example -->\n"

MODEL = ModelRecord(
    name="all-net",
    bundle_digest="4f" * 32,
    tested="Held-out contiguous blocks of the training set: 512 of 570 fields right (89.8%).",
)
SOFTWARE = {"smear-screen": "0.1.0", "tensorflow": "2.19.0"}


def ok_image(
    source: str = "P-17/field 1.jpg",
    *,
    label: Label = "benign",
    flag: Flag = "high",
    white_cells: int = 12,
    sha256: str | None = None,
    reasons: Sequence[str] | None = None,
    synthetic: bool = False,
    explained: bool = True,
    tiles: int = 1,
    width: int = 640,
    height: int = 480,
) -> ImageResult:
    """A judged image; its bytes differ from those of every other source."""
    if reasons is None:
        reasons = [] if flag == "high" else ["far_from_references"]
    probabilities = dict.fromkeys(LABELS, 0.04) | {label: 0.88}
    cells = [_cell(number, width, height) for number in range(1, white_cells + 1)]
    return ImageResult(
        source=source,
        status="ok",
        sha256=sha256 or hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest(),
        synthetic=synthetic,
        label=label,
        probabilities=probabilities,
        confidence=_confidence(label, flag, reasons),
        cells=cells,
        quality=Quality(
            focus=2.31,
            cell_detail=1.42,
            brightness=0.71,
            contrast=0.52,
            saturated=0.003,
            reasons=[],
        ),
        geometry=Geometry(
            width=width,
            height=height,
            method="whole_field" if tiles == 1 else "tiled",
            red_cell_diameter=31.25,
            scale_known=True,
            tiles=[
                Tile(
                    box=Box(x=width // tiles * n, y=0, width=width // tiles, height=height),
                    white_cells=white_cells // tiles,
                    probabilities=probabilities,
                )
                for n in range(tiles)
            ],
        ),
        map_position=MapPosition(
            x=0.31, y=0.72, neighbours=[(0.2 + 0.05 * n, 0.7 + 0.01 * n) for n in range(5)]
        ),
        explanations=_explanations(label) if explained else None,
    )


def failed_image(
    source: str = "P-17/broken.jpg",
    *,
    reason: str = "truncated",
    message: str = "the file ends before the picture does",
    sha256: str | None = None,
) -> ImageResult:
    """An image that could not be judged."""
    error = ImageError(reason=reason, message=message)
    return ImageResult(source=source, status="failed", error=error, sha256=sha256)


def series(
    count: int, label: Label = "benign", flag: Flag = "high", *, name: str = "", cells: int = 12
) -> list[ImageResult]:
    """``count`` different judged images that look alike, unexplained."""
    prefix = name or f"{label}-{flag}"
    return [
        ok_image(f"{prefix}/{n:03}.jpg", label=label, flag=flag, white_cells=cells, explained=False)
        for n in range(count)
    ]


def report_on(images: Sequence[ImageResult], patient: str = "P-17") -> PatientReport:
    """The report of a patient with these images."""
    return build_report(patient, images, MODEL, AnalysisOptions(), SOFTWARE)


def example_report() -> PatientReport:
    """The report that docs/report.md shows: short, with a judged, a doubtful and a failed image."""
    images = [
        ok_image("P-17/field 1.jpg", label="pre_b", white_cells=1),
        ok_image(
            "P-17/field 2.jpg",
            label="early_b",
            flag="low",
            white_cells=1,
            explained=False,
            reasons=["neighbours_disagree", "network_and_neighbours_disagree"],
        ),
        failed_image("P-17/field 3.jpg"),
    ]
    return report_on(images)


def _cell(number: int, width: int, height: int) -> Cell:
    """An octagon on a grid of ten columns; every seventh cell is cut by the edge."""
    radius = min(width, height) / 24
    x = width * (0.5 + (number - 1) % 10) / 10
    y = height * (0.5 + (number - 1) // 10 % 10) / 10
    outline = [
        (
            round(x + radius * math.cos(n * math.pi / 4)),
            round(y + radius * math.sin(n * math.pi / 4)),
        )
        for n in range(8)
    ]
    area = math.pi * radius**2
    return Cell(
        number=number,
        box=Box(
            x=round(x - radius),
            y=round(y - radius),
            width=round(2 * radius),
            height=round(2 * radius),
        ),
        outline=outline,
        area=area,
        nucleus_area=area * 0.8,
        nucleus_to_cytoplasm_ratio=4.0 if number % 5 else None,
        roundness=0.93,
        mean_colour=(122, 84, 158),
        touches_edge=number % 7 == 0,
    )


def _confidence(label: Label, flag: Flag, reasons: Sequence[str]) -> Confidence:
    return Confidence(
        flag=flag,
        reasons=list(reasons),
        vote=label,
        agreement=0.8,
        distance=0.412345678,
        typicality=0.417,
        consensus=0.704,
        score=0.417 if flag == "high" else 0.0,
        neighbours=[
            Neighbour(id=f"{label}-{n:04}", label=label, distance=0.31 + 0.05 * n) for n in range(5)
        ],
    )


def _explanations(label: Label) -> Explanations:
    regions = [
        Region(
            number=n, weight=0.2 - 0.05 * n, area=0.03, box=Box(x=9 * n, y=4, width=30, height=28)
        )
        for n in range(2)
    ]
    return Explanations(
        tile=0,
        lime=LimeExplanation(
            label=label,
            samples=4000,
            seed=1234567890,
            top_regions=regions,
            weights=[0.2, 0.15, -0.02],
            intercept=0.1,
            fit=0.64,
            inside_white_cells=0.58,
            inside_nuclei=0.41,
            deletion=0.33,
            insertion=0.87,
            malignancy=Surrogate(
                top_regions=regions[:1], weights=[0.2, -0.01, -0.02], intercept=0.2, fit=0.6
            ),
            stability=0.9,
        ),
        grad_cam=CamExplanation(
            label=label, map=[[0.0, 0.5], [0.25, 1.0]], inside_white_cells=0.61
        ),
        score_cam=CamExplanation(
            label=label, map=[[0.0, 0.25], [0.5, 1.0]], inside_white_cells=0.66
        ),
        mr_ssim=0.82,
        similarity=[SimilarityMap(id=f"{label}-0000", map=grey_png(np.eye(2, dtype=np.uint8)))],
        pictures=[
            "grad_cam",
            "latent_map",
            "score_cam",
            "similarity",
            "tile",
            "top_regions",
            "weights",
        ],
    )


def example_text() -> str:
    """The example report as the documentation shows it: its canonical values, indented."""
    return json.dumps(json.loads(canonical_bytes(example_report())), indent=2) + "\n"


def schema_text() -> str:
    """The published schema, as ``screen schema report`` prints it."""
    return json.dumps(report_schema(), indent=2, sort_keys=True) + "\n"


def write_documents() -> None:
    """Write docs/schema/report.schema.json and the example in docs/report.md anew."""
    (DOCS / "schema" / "report.schema.json").write_text(schema_text(), encoding="utf-8")
    page = DOCS / "report.md"
    before, rest = page.read_text(encoding="utf-8").split(EXAMPLE_START)
    _, after = rest.split(EXAMPLE_END)
    page.write_text(before + EXAMPLE_START + example_text() + EXAMPLE_END + after, encoding="utf-8")


if __name__ == "__main__":
    write_documents()
