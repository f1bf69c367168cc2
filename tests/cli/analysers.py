"""Analysers without a network, for ``SCREEN_ANALYSER``; the bundle is a real record."""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path

from benchmarks.rig.stubs import PNG, Analysis, judged
from pipeline.bundle import read_model_record
from pipeline.canonical import canonical_bytes
from pipeline.results import AnalysisOptions
from tests.stub_records import stub_record


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
    record = stub_record()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "bundle.json").write_bytes(canonical_bytes(record))
    return directory


class Tripping(Judging):
    """Trips over every image while the bundle's folder holds a file ``spoilt``."""

    def __call__(self, data: bytes) -> Analysis:
        if (self._bundle / "spoilt").exists():
            raise ZeroDivisionError
        return super().__call__(data)
