"""Analysers without a network, for ``SCREEN_ANALYSER``; the bundle is a real record."""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path

from benchmarks.rig.stubs import PNG, Analysis, judged
from pipeline.bundle import BundleRecord, read_model_record
from pipeline.canonical import canonical_bytes
from pipeline.confidence import Thresholds
from pipeline.labels import LABELS
from pipeline.preprocess import Preprocessing
from pipeline.quality import QualityLimits
from pipeline.results import AnalysisOptions


class Judging:
    """Judges any bytes; notes each call in the bundle's folder, and takes as long as that says."""

    def __init__(self, bundle: str, options: AnalysisOptions) -> None:
        self._bundle = Path(bundle)
        self.model = read_model_record(bundle)

    def __call__(self, data: bytes) -> Analysis:
        digest = sha256(data).hexdigest()
        with (self._bundle / "computed").open("a") as file:
            file.write(f"{digest} {os.getpid()}\n")
        delay = self._bundle / "delay"
        time.sleep(float(delay.read_text()) if delay.exists() else 0)
        return Analysis(judged(digest), {"field": PNG})


class Decoding(Judging):
    """Judges what can be decoded."""

    def __call__(self, data: bytes) -> Analysis:
        from pipeline.decode import decode

        assert decode(data).pixels.size
        return super().__call__(data)


def write_bundle_record(directory: Path) -> Path:
    """A folder that passes for a model bundle as long as nobody loads the network."""
    record = BundleRecord(
        name="stub",
        labels=LABELS,
        preprocessing=Preprocessing(input_size=224),
        embedding_layer="embedding",
        feature_map_layer="features",
        thresholds=Thresholds(
            n_close=5,
            max_distance=1,
            min_agreement=0.8,
            min_probability=0.8,
            calibration_images=10,
            target_coverage=0.9,
            target_error=0.05,
            calibration_coverage=0.9,
            calibration_error=0.05,
        ),
        quality_limits=QualityLimits(
            min_focus=0, min_brightness=0, max_brightness=1, max_saturated=1
        ),
        tested="never",
        training={},
        files={},
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "bundle.json").write_bytes(canonical_bytes(record))
    return directory


class Tripping(Judging):
    """Trips over every image while the bundle's folder holds a file ``spoilt``."""

    def __call__(self, data: bytes) -> Analysis:
        if (self._bundle / "spoilt").exists():
            raise ZeroDivisionError
        return super().__call__(data)
