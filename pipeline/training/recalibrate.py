"""Thresholds of a trained bundle anew from the images it was trained with, tested again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.analyse import Analyser
from pipeline.bundle import Bundle, write_bundle
from pipeline.errors import ConfigurationError
from pipeline.latent_map import LatentMap
from pipeline.references import UnchangedNetwork, additions_of, card_of, refuse_occupied
from pipeline.results import AnalysisOptions
from pipeline.threads import one_thread
from pipeline.thresholds import TARGET_ERROR, TARGET_MISSED
from pipeline.training.calibration import measure_calibration_part
from pipeline.training.card import keep_explanations, model_card, tested_sentence
from pipeline.training.data import Split, hold_out, infer_folds, read_folds
from pipeline.training.evaluate import figures_of_test_part


@dataclass(frozen=True)
class Parts:
    """How the images were divided when the bundle was trained; see ``screen train``."""

    data: Path
    splits: Path | None = None
    fold_column: str = "block_fold"
    test_fold: int = 0
    calibration_groups: int = 2


@one_thread()
def recalibrate_with_images(
    bundle: Bundle,
    out: Path,
    parts: Parts,
    *,
    target_error: float = TARGET_ERROR,
    target_missed: float = TARGET_MISSED,
    say: Callable[[str], None] = lambda message: None,
) -> Bundle:
    """Write ``bundle`` anew with thresholds from its calibration part, and test it anew.

    For bundles made before calibration images were kept in them. Raises ConfigurationError if the
    images are not divided as they were for the training.
    """
    refuse_occupied(out, bundle)
    if additions_of(bundle.record):
        raise ConfigurationError(
            "references were added to this bundle: recalibrate it without --data, or recalibrate "
            "the bundle it was made from and add them again"
        )
    split = _divide(bundle, parts)
    network = bundle.load_network()
    say(f"measuring {len(split.calibration)} calibration images")
    part = measure_calibration_part(split.calibration, network)
    thresholds = part.thresholds(
        bundle.references, target_error=target_error, target_missed=target_missed
    )
    limits = part.quality_limits(network.preprocessing.exposed)
    record = bundle.record.model_copy(update={"thresholds": thresholds, "quality_limits": limits})
    say(f"testing on {len(split.test)} images")
    changed = Bundle(out, record, bundle.references)
    analyser = Analyser(changed, network, AnalysisOptions(explain="none"))
    training = {
        **record.training,
        "test": figures_of_test_part(analyser, split),
    }
    tested = tested_sentence(record.name, training)
    record = record.model_copy(update={"training": training, "tested": tested})
    return write_bundle(
        out,
        UnchangedNetwork(bundle),
        bundle.references,
        keep_explanations(model_card(record), card_of(bundle)),
        record,
        part,
        bundle.latent_map or LatentMap.fit(bundle.references),
    )


def _divide(bundle: Bundle, parts: Parts) -> Split:
    if parts.splits is None:
        images = infer_folds(parts.data)
    else:
        images = read_folds(parts.data, parts.splits, parts.fold_column)
    seed = int(bundle.record.training.get("seed", 2025))
    split = hold_out(images, parts.test_fold, parts.calibration_groups, seed)
    ids = {image.path.relative_to(parts.data).as_posix() for image in split.train}
    if ids != set(bundle.references.ids):
        raise ConfigurationError(
            f"{parts.data} is not divided as when {bundle.directory} was trained: its training "
            "part is not the bundle's references; give the same --splits, --fold-column, "
            "--test-fold and --calibration-groups"
        )
    return split
