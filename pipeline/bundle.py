"""Model bundles: a network with everything its decisions depend on, under one digest.

A bundle is a directory::

    bundle.json      classes, preprocessing, thresholds, training and test record, file digests
    network.keras    the network
    references.npz   embeddings, labels and ids of the reference images (no pictures)
    calibration.npz  what the model said of the images the thresholds come from (no pictures);
                     not needed to judge, and missing from older bundles
    latent_map.npz   a plane on which the references lie, to be drawn; missing from older bundles
    MODEL_CARD.md    the same for people; not part of the digest

The digest covers ``bundle.json``, which holds the SHA-256 of the other files, so a bundle
whose digest is known is known completely. Nothing in this module imports TensorFlow before
``load_network`` is called.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from pipeline.canonical import canonical_bytes, digest
from pipeline.confidence import Thresholds
from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS, Label
from pipeline.latent_map import LatentMap
from pipeline.neighbours import References
from pipeline.preprocess import Preprocessing
from pipeline.quality import QualityLimits
from pipeline.results import ModelRecord, Record

if TYPE_CHECKING:
    from pipeline.calibration_part import CalibrationPart
    from pipeline.classify import Network

BUNDLE_SCHEMA = 1
RECORD_FILE = "bundle.json"
NETWORK_FILE = "network.keras"
REFERENCES_FILE = "references.npz"
CALIBRATION_FILE = "calibration.npz"
MAP_FILE = "latent_map.npz"
CARD_FILE = "MODEL_CARD.md"

_SHIPPED = Path(__file__).parent / "bundles"
DEFAULT_BUNDLE_NAME = "white-cells"


class BundleRecord(Record):
    """``bundle.json``."""

    bundle_schema: int = BUNDLE_SCHEMA
    name: str
    labels: tuple[Label, ...]
    preprocessing: Preprocessing
    embedding_layer: str
    feature_map_layer: str
    thresholds: Thresholds
    quality_limits: QualityLimits
    tested: str
    training: dict[str, Any]
    files: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory, without the network itself."""

    directory: Path
    record: BundleRecord
    references: References
    latent_map: LatentMap | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over everything a decision depends on."""
        return digest(self.record)

    @property
    def model(self) -> ModelRecord:
        """What reports say about the model."""
        return _model_record(self.record)

    def load_calibration(self) -> CalibrationPart:
        """The images the thresholds come from; raises ConfigurationError if the bundle has none."""
        from pipeline.calibration_part import CalibrationPart

        if CALIBRATION_FILE not in self.record.files:
            raise ConfigurationError(
                f"the model bundle {self.directory} is of an older kind without calibration images:"
                " give `screen references calibrate` the images it was trained on, with --data"
            )
        return CalibrationPart.load(self.directory / CALIBRATION_FILE)

    def load_network(self) -> Network:
        """Load the network; imports TensorFlow."""
        from pipeline.classify import Network

        return Network.load(
            self.directory / NETWORK_FILE,
            preprocessing=self.record.preprocessing,
            embedding_layer=self.record.embedding_layer,
            feature_map_layer=self.record.feature_map_layer,
        )


def default_bundle() -> Path:
    """Directory of the bundle that is shipped with the software."""
    return _SHIPPED / DEFAULT_BUNDLE_NAME


def find_bundle(given: Path | None) -> Path:
    """The directory of a bundle: ``given``, also as the name of a shipped one, or the default's."""
    if given is None:
        return default_bundle()
    shipped = _SHIPPED / given.name
    named = given == Path(given.name) and not given.exists() and shipped.is_dir()
    return shipped if named else given


def read_model_record(directory: str | Path) -> ModelRecord:
    """Name, digest and test result of a bundle, from ``bundle.json`` alone.

    Raises ConfigurationError if it is missing or not a bundle of this software.
    """
    return _model_record(_read_record(Path(directory)))


def read_latent_map(directory: str | Path) -> bytes | None:
    """The file of a bundle's map of references, for whoever has no use for the rest; None without.

    Raises ConfigurationError if it is not the one that the bundle was made with.
    """
    directory = Path(directory)
    record = _read_record(directory)
    return _checked(directory, MAP_FILE, record) if MAP_FILE in record.files else None


def load_bundle(directory: str | Path) -> Bundle:
    """Read a bundle and check its files against their digests.

    Raises ConfigurationError if a file is missing or is not the one that was tested.
    """
    directory = Path(directory)
    record = _read_record(directory)
    for name in record.files:
        _checked(directory, name, record)
    references = References.load(directory / REFERENCES_FILE)
    latent_map = LatentMap.load(directory / MAP_FILE) if MAP_FILE in record.files else None
    if latent_map is not None and not np.array_equal(latent_map.labels, references.labels):
        raise ConfigurationError(f"{directory / MAP_FILE} is not a map of the bundle's references")
    return Bundle(directory, record, references, latent_map)


def write_bundle(
    directory: Path,
    model: Any,
    references: References,
    card: str,
    record: BundleRecord,
    calibration: CalibrationPart | None = None,
    latent_map: LatentMap | None = None,
) -> Bundle:
    """Write a bundle of a Keras ``model``; the file digests of ``record`` are filled in.

    Without ``calibration`` its thresholds can be used, but not computed anew; without
    ``latent_map`` no picture shows where an image lies among the references.

    ``bundle.json`` is written last, so that an interrupted call leaves no valid bundle.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / RECORD_FILE).unlink(missing_ok=True)
    model.save(directory / NETWORK_FILE)
    references.save(directory / REFERENCES_FILE)
    names = [NETWORK_FILE, REFERENCES_FILE]
    for name, part in ((CALIBRATION_FILE, calibration), (MAP_FILE, latent_map)):
        (directory / name).unlink(missing_ok=True)
        if part is not None:
            part.save(directory / name)
            names.append(name)
    (directory / CARD_FILE).write_text(card, encoding="utf-8")
    files = {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names}
    written = record.model_copy(update={"files": files})
    (directory / RECORD_FILE).write_bytes(canonical_bytes(written))
    return load_bundle(directory)


def _read_record(directory: Path) -> BundleRecord:
    path = directory / RECORD_FILE
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"{directory} is not a model bundle: {path.name} cannot be read ({error.strerror}); "
            "name a bundle made by `screen train`, or leave the option out for the shipped one"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is damaged: {error}") from error
    found = content.get("bundle_schema") if isinstance(content, dict) else None
    if found != BUNDLE_SCHEMA:
        raise ConfigurationError(
            f"{path} has bundle schema {found}, this software reads {BUNDLE_SCHEMA}: "
            "use the version of the software it was made with, or train it again"
        )
    try:
        record = BundleRecord.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(f"{path} is not a valid bundle record: {error}") from error
    if record.labels != LABELS:
        raise ConfigurationError(f"{path} has the classes {record.labels}, expected {LABELS}")
    return record


def _checked(directory: Path, name: str, record: BundleRecord) -> bytes:
    """A file of a bundle, if it has the digest it was tested with."""
    try:
        content = (directory / name).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"the model bundle {directory} has no readable {name}: {error.strerror}; "
            "install the software again or name another bundle"
        ) from error
    actual, expected = hashlib.sha256(content).hexdigest(), record.files[name]
    if actual != expected:
        raise ConfigurationError(
            f"{directory / name} is not the file this bundle was tested with "
            f"(SHA-256 {actual[:12]}, expected {expected[:12]}); install it again"
        )
    return content


def _model_record(record: BundleRecord) -> ModelRecord:
    return ModelRecord(name=record.name, bundle_digest=digest(record), tested=record.tested)
