"""A bundle's record as tests need one: complete, and about nothing."""

from __future__ import annotations

from pipeline.bundle import BundleRecord
from pipeline.confidence import Thresholds
from pipeline.labels import LABELS
from pipeline.preprocess import Preprocessing
from pipeline.quality import QualityLimits


def stub_record(training: dict[str, object] | None = None) -> BundleRecord:
    """A record without files."""
    return BundleRecord(
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
        training=training or {},
        files={},
    )
