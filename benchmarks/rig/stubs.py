"""An analyser that needs no network: what it says follows from the bytes, and it keeps count.

The first word of the content decides what happens: ``image`` is judged, ``bad`` is refused,
``crash`` kills the process, ``hang`` takes for ever, ``raise`` trips, ``greedy`` runs out of
memory, ``later`` meets a fault that may pass. What is none of these words is decoded as a picture,
and refused if that fails.
The bundle is a folder with the files ``digest`` (of the model), ``delay`` (seconds an image takes),
and ``computed``, to which every call appends content, process and time. With a file ``network``,
the path of a real bundle, the real pipeline is called instead.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pipeline.errors import BadInputError, RetryableError
from pipeline.labels import LABELS
from pipeline.results import (
    AnalysisOptions,
    Box,
    Cell,
    Confidence,
    Geometry,
    ImageAnalysis,
    MapPosition,
    ModelRecord,
    Neighbour,
    Quality,
    Tile,
)

#: The smallest PNG there is, followed by what tells pictures apart.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a4944415478da6360000000020001e221bc330000000049454e44ae426082"
)


#: File of a bundle that names a real one.
NETWORK = "network"

#: Beginnings of the picture files the stub decodes.
_PICTURES = (b"\x89PNG", b"\xff\xd8", b"BM", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Analysis:
    """What the pipeline says of one image."""

    result: ImageAnalysis
    pictures: dict[str, bytes]


class StubAnalyser:
    """Stands in for ``pipeline.analyse.Analyser``."""

    def __init__(self, bundle: Path, options: AnalysisOptions) -> None:
        self._bundle = bundle
        self.model = model_of(bundle)

    def __call__(self, data: bytes) -> Analysis:
        """Judge the bytes of an image by its first word."""
        digest = _note_call(self._bundle, data)
        time.sleep(float((self._bundle / "delay").read_text()))
        if data.startswith(_PICTURES):
            from pipeline.decode import decode

            decode(data)
            return Analysis(judged(digest), {"field": PNG + digest.encode()})
        match data.split(b" ")[0]:
            case b"image":
                return Analysis(judged(digest), {"field": PNG + digest.encode()})
            case b"bad":
                raise BadInputError("truncated", "the data ends too early")
            case b"crash":
                os.kill(os.getpid(), signal.SIGKILL)
            case b"hang":
                time.sleep(3600)
            case b"greedy":
                raise MemoryError
            case b"later":
                raise RetryableError("not now")
        raise ValueError("an unexpected shape")


def open_analyser(bundle: str, options: AnalysisOptions) -> StubAnalyser | CountedNetwork:
    """What the setting ``analyser`` names."""
    network = Path(bundle) / NETWORK
    return (CountedNetwork if network.exists() else StubAnalyser)(Path(bundle), options)


class CountedNetwork:
    """The real pipeline, with its calls written down as the stub's are."""

    def __init__(self, bundle: Path, options: AnalysisOptions) -> None:
        from pipeline.analyse import open_analyser as open_network

        self._bundle = bundle
        self._network = open_network((bundle / NETWORK).read_text(), options)
        self.model = self._network.model

    def __call__(self, data: bytes):
        """Judge the bytes of an image."""
        _note_call(self._bundle, data)
        return self._network(data)


def _note_call(bundle: Path, data: bytes) -> str:
    """Write down that a content is being judged; its digest."""
    digest = sha256(data).hexdigest()
    with (bundle / "computed").open("a") as file:
        file.write(f"{digest} {os.getpid()} {time.monotonic():.3f}\n")
    return digest


def model_of(bundle: Path) -> ModelRecord:
    """The model record of a stub bundle, or of the network it stands for."""
    if (bundle / NETWORK).exists():
        from pipeline.bundle import read_model_record

        return read_model_record(Path((bundle / NETWORK).read_text()))
    digest = (bundle / "digest").read_text()
    return ModelRecord(name="stub", bundle_digest=digest, tested="never")


def judged(digest: str) -> ImageAnalysis:
    """A complete analysis whose numbers follow from the digest."""
    number = int(digest[:8], 16)
    label = LABELS[number % len(LABELS)]
    rest = (1 - 0.7) / 3
    probabilities = {name: 0.7 if name == label else rest for name in LABELS}
    box = Box(x=0, y=0, width=224, height=224)
    cell = Cell(
        number=1,
        box=Box(x=10, y=20, width=30, height=30),
        outline=[(10, 20), (40, 20), (40, 50)],
        area=450.0 + number % 97 / 7,
        nucleus_area=300.0,
        nucleus_to_cytoplasm_ratio=2.0,
        roundness=0.8,
        mean_colour=(120, 80, 160),
        touches_edge=False,
    )
    return ImageAnalysis(
        status="ok",
        sha256=digest,
        label=label,
        probabilities=probabilities,
        confidence=Confidence(
            flag="high",
            reasons=[],
            vote=label,
            agreement=1.0,
            distance=number % 1000 / 3000,
            neighbours=[Neighbour(id=f"{label}/1.jpg", label=label, distance=0.1)],
        ),
        map_position=MapPosition(x=number % 97 / 96, y=number % 89 / 88, neighbours=[(0.1, 0.2)]),
        cells=[cell],
        quality=Quality(focus=2.0, brightness=0.6, contrast=0.5, saturated=0.0, reasons=[]),
        geometry=Geometry(
            width=224,
            height=224,
            method="as_is",
            red_cell_diameter=None,
            scale_known=True,
            tiles=[Tile(box=box, white_cells=1, probabilities=probabilities)],
        ),
    )
