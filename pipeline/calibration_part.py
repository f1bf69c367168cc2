"""The calibration part of a bundle: what the model said of labelled images kept out of training.

Kept in the bundle so that thresholds can be computed anew, when a laboratory adds images of its own
or wants another error, without the images they were first computed from.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.classify import Network, classify
from pipeline.confidence import N_CLOSE, Thresholds, visible_share
from pipeline.decode import decode
from pipeline.errors import ConfigurationError
from pipeline.geometry import fit_field
from pipeline.labels import LABELS, REFERENCE_LABELS, ReferenceLabel
from pipeline.neighbours import References
from pipeline.quality import Part, QualityLimits, QualityNumbers, quality_limits, quality_numbers
from pipeline.segment import segment
from pipeline.thresholds import TARGET_ERROR, TARGET_MISSED, CalibrationCase, calibrate
from pipeline.types import ClassScores

#: Columns of ``CalibrationPart.qualities``.
QUALITY_FIELDS = tuple(QualityNumbers.model_fields)

TRAINING_SET = "training set"


@dataclass(frozen=True)
class MeasuredImage:
    """A labelled image as the model sees it; ``probabilities`` before any temperature.

    ``sha256``: of the file's bytes.
    """

    sha256: str
    embedding: np.ndarray
    probabilities: np.ndarray
    quality: QualityNumbers
    visible: float
    scale_known: bool


def measure_image(path: Path, network: Network) -> MeasuredImage:
    """Take a labelled image through the pipeline up to the network.

    Raises BadInputError if it cannot be judged.
    """
    data = path.read_bytes()
    field = decode(data)
    cells = segment(field.pixels)
    geometry = fit_field(field, cells, network.preprocessing.tile_size)
    scores = classify(geometry, network)
    return MeasuredImage(
        sha256=hashlib.sha256(data).hexdigest(),
        embedding=scores.embedding,
        probabilities=scores.probabilities,
        quality=quality_numbers(geometry, cells),
        visible=visible_share(geometry),
        scale_known=geometry.scale_known,
    )


@dataclass(frozen=True)
class CalibrationPart:
    """One row per image.

    ``embeddings``: float32 ``(images, dimensions)``. ``probabilities``: float64 ``(images,
    classes)``, before any temperature. ``qualities``: float64 ``(images, len(QUALITY_FIELDS))``.
    ``labels``: int8, index into REFERENCE_LABELS. ``visible``: float64, 0 to 1. ``scale_known``:
    bool. ``patients``: int32, the patient's number within the set, -1 where it is not known.
    ``sources``: the set each image is from.
    """

    embeddings: np.ndarray
    probabilities: np.ndarray
    qualities: np.ndarray
    labels: np.ndarray
    visible: np.ndarray
    scale_known: np.ndarray
    patients: np.ndarray
    sources: tuple[str, ...]

    def __post_init__(self) -> None:
        arrays = (self.embeddings, self.probabilities, self.qualities, self.visible)
        columns = (*arrays, self.labels, self.scale_known, self.patients, self.sources)
        lengths = {len(array) for array in columns}
        if len(lengths) != 1 or not all(np.isfinite(array).all() for array in arrays):
            raise ConfigurationError(
                "the calibration part is incomplete or holds NaN: make the bundle again"
            )
        if self.qualities.shape[1:] != (len(QUALITY_FIELDS),):
            raise ConfigurationError(
                "the calibration part is of another version, which measured other qualities: "
                "measure it again with `screen references calibrate --data`"
            )

    @classmethod
    def of(
        cls,
        images: Sequence[MeasuredImage],
        labels: Sequence[ReferenceLabel],
        source: str = TRAINING_SET,
        patients: Sequence[int] | None = None,
    ) -> CalibrationPart:
        """Gather measured images; raises ConfigurationError if there are none."""
        if not images:
            raise ConfigurationError(
                "thresholds need calibration images and there are none; keep more images for them"
            )
        qualities = [[getattr(m.quality, name) for name in QUALITY_FIELDS] for m in images]
        return cls(
            embeddings=np.stack([m.embedding for m in images]).astype(np.float32),
            probabilities=np.stack([m.probabilities for m in images]).astype(np.float64),
            qualities=np.array(qualities, dtype=np.float64),
            labels=np.array([REFERENCE_LABELS.index(label) for label in labels], dtype=np.int8),
            visible=np.array([m.visible for m in images], dtype=np.float64),
            scale_known=np.array([m.scale_known for m in images], dtype=bool),
            patients=np.array(patients or [_UNKNOWN] * len(images), dtype=np.int32),
            sources=(source,) * len(images),
        )

    def joined(self, other: CalibrationPart) -> CalibrationPart:
        """This part and another."""
        if self.embeddings.shape[1] != other.embeddings.shape[1]:
            raise ConfigurationError("the calibration parts come from different networks")
        arrays = {
            name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _ARRAYS
        }
        return CalibrationPart(**arrays, sources=self.sources + other.sources)

    def thresholds(
        self,
        references: References,
        *,
        target_error: float = TARGET_ERROR,
        target_missed: float = TARGET_MISSED,
    ) -> Thresholds:
        """Thresholds of the confidence flag.

        Raises ConfigurationError if there are too few images for the errors asked for.
        """
        return calibrate(
            self.cases(references), target_error=target_error, target_missed=target_missed
        )

    def quality_limits(self, exposed: Part) -> QualityLimits:
        """Limits of technical quality, which few images are enough for.

        ``exposed``: the part of the field that the network is shown.
        """
        return quality_limits(
            [
                QualityNumbers(**dict(zip(QUALITY_FIELDS, row.tolist(), strict=True)))
                for row in self.qualities
            ],
            exposed,
        )

    def cases(self, references: References) -> list[CalibrationCase]:
        """What the model with these references says of each image."""
        neighbours = references.nearest_of_all(self.embeddings, N_CLOSE)
        return [
            CalibrationCase(
                truth=REFERENCE_LABELS[self.labels[row]],
                scores=_scores(self.probabilities[row], self.embeddings[row]),
                neighbours=near,
                visible=float(self.visible[row]),
                scale_known=bool(self.scale_known[row]),
                source=self.sources[row],
                patient=int(self.patients[row]) if self.patients[row] != _UNKNOWN else None,
            )
            for row, near in enumerate(neighbours)
        ]

    def save(self, path: Path) -> None:
        """Write as ``.npz`` without pickled objects."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez_compressed(path, **arrays, sources=np.array(self.sources))

    @classmethod
    def load(cls, path: Path) -> CalibrationPart:
        """Read what ``save`` wrote; raises ConfigurationError if it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in _ARRAYS if name in stored}
                # Older bundles know no patients.
                arrays.setdefault("patients", np.full(len(stored["labels"]), _UNKNOWN, np.int32))
                return cls(**arrays, sources=tuple(str(name) for name in stored["sources"]))
        except (OSError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ConfigurationError(f"{path} holds no calibration part: {error}") from error


_ARRAYS = (
    "embeddings",
    "probabilities",
    "qualities",
    "labels",
    "visible",
    "scale_known",
    "patients",
)

#: Stands for a patient who is not known.
_UNKNOWN = -1


def _scores(probabilities: np.ndarray, embedding: np.ndarray) -> ClassScores:
    return ClassScores(
        label=LABELS[int(probabilities.argmax())],
        probabilities=probabilities,
        embedding=embedding,
        tile_probabilities=probabilities[None],
        decisive_tile=0,
    )
