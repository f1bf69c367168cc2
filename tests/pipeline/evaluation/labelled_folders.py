"""Small labelled folders, and a model that needs no network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.rig.stubs import judged
from pipeline.bundle import Bundle, BundleRecord, default_bundle, write_bundle
from pipeline.decode import decode
from pipeline.labels import LABELS
from pipeline.neighbours import References
from pipeline.results import ImageAnalysis, ModelRecord

#: Ground of the smears of each class: what a classifier on colours tells apart.
GROUNDS = {
    "benign": (230, 225, 235),
    "early": (215, 230, 240),
    "pre": (240, 240, 215),
    "pro": (235, 210, 215),
}


def draw_smear(seed: int, ground: tuple[int, int, int], size: int = 96) -> np.ndarray:
    """Dots on a ground, uint8 RGB; another seed puts them elsewhere."""
    rng = np.random.default_rng(seed)
    pixels = np.full((size, size, 3), ground, np.uint8)
    for _ in range(25):
        x, y, radius = (int(value) for value in rng.integers((0, 0, 3), (size, size, 9)))
        colour = tuple(int(value) for value in rng.integers(60, 180, 3))
        cv2.circle(pixels, (x, y), radius, colour, -1)
    noise = rng.integers(-4, 5, pixels.shape)
    return np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8)


def write_image(path: Path, pixels: np.ndarray, quality: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [] if quality is None else [cv2.IMWRITE_JPEG_QUALITY, quality]
    assert cv2.imwrite(str(path), pixels[..., ::-1], options)


def write_folder(root: Path, per_class: int = 20) -> None:
    for number, (folder, ground) in enumerate(GROUNDS.items()):
        for image in range(per_class):
            pixels = draw_smear(1000 * number + image, ground)
            write_image(root / folder / f"{image:03d}.png", pixels)


@dataclass(frozen=True)
class Analysis:
    result: ImageAnalysis
    pictures: dict[str, bytes]
    embedding: np.ndarray


class GroundAnalyser:
    """Names the class by the ground, errs on every ninth content, and counts its calls."""

    def __init__(self, model: ModelRecord) -> None:
        self.model = model
        self.calls = 0

    def __call__(self, data: bytes) -> Analysis:
        self.calls += 1
        digest = sha256(data).hexdigest()
        median = np.median(decode(data).pixels.reshape(-1, 3), axis=0)
        distances = np.array([np.abs(median - ground).sum() for ground in GROUNDS.values()])
        wrong = int(digest[:8], 16) % 9 == 0
        label = LABELS[(int(distances.argmin()) + wrong) % 4]
        flag = "low" if wrong or int(digest[8:12], 16) % 5 == 0 else "high"
        found = judged(digest)
        assert found.confidence is not None
        confidence = found.confidence.model_copy(
            update={
                "flag": flag,
                "reasons": [] if flag == "high" else ["network_uncertain"],
                "distance": float(distances.min()) / 100,
            }
        )
        result = found.model_copy(
            update={
                "label": label,
                "probabilities": dict.fromkeys(LABELS, 0.1) | {label: 0.7},
                "confidence": confidence,
            }
        )
        return Analysis(result, {}, np.append(median, float(int(digest[:2], 16))))


class _NoNetwork:
    def save(self, path: Path) -> None:
        path.write_bytes(b"no network")


def write_stub_bundle(directory: Path, ids: list[str], training: dict[str, Any]) -> Bundle:
    """A bundle whose record and references are real, and whose network is none."""
    shipped = json.loads((default_bundle() / "bundle.json").read_text())
    record = BundleRecord.model_validate(
        {
            **shipped,
            "name": "grounds",
            "training": {"recipe": "grounds", "history": [], **training},
            "files": {},
        }
    )
    references = References(
        np.eye(len(ids), 2, dtype=np.float32), np.zeros(len(ids), dtype=np.int8), tuple(ids)
    )
    return write_bundle(directory, _NoNetwork(), references, "# Card\n", record)
