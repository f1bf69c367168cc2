"""What happens to one manifest row, whichever engine works at it."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Protocol, cast

from pipeline.canonical import canonical_bytes
from pipeline.errors import (
    BadInputError,
    ConfigurationError,
    RetryableError,
    ScreenError,
    StoreUnavailableError,
)
from pipeline.results import (
    AnalysisOptions,
    ImageAnalysis,
    ImageError,
    ModelRecord,
    Record,
)
from worker import attempts, keys, logs, telemetry
from worker.archive import FileFaultError, is_passing, read_row_bytes
from worker.attempts import Standing
from worker.isolation import process_alone
from worker.manifest import read_row
from worker.pseudonyms import pseudonyms
from worker.records import ManifestRow, Outcome, RunRecord
from worker.results import error_of, picture_key, read_analysis
from worker.settings import Settings
from worker.store import Store

logger = logging.getLogger(__name__)

#: Pauses between tries to read a file from a disk or share that has a passing fault.
READ_PAUSES_SECONDS = (0.2, 1.0, 3.0)


class Analysis(Protocol):
    """What the analyser says of one image."""

    @property
    def result(self) -> ImageAnalysis:
        """The numbers."""
        ...

    @property
    def pictures(self) -> Mapping[str, bytes]:
        """PNG files by name."""
        ...


class Analyser(Protocol):
    """A loaded model (``pipeline.analyse.Analyser``, or a stand-in in tests)."""

    @property
    def model(self) -> ModelRecord:
        """Which model it is."""
        ...

    def __call__(self, data: bytes) -> Analysis:
        """Judge the bytes of an image. Raises BadInputError if that is impossible."""
        ...


class Seen(Record):
    """Which content a listed file had."""

    sha256: str


def open_analyser(run: RunRecord, settings: Settings) -> Analyser:
    """Load the model that the run asks for, unless this process has it already.

    Raises ConfigurationError where this machine has another one or none.
    """
    analyser = _load_analyser(settings.analyser, _find_bundle(run, settings), run.options)
    if analyser.model.bundle_digest != run.model.bundle_digest:
        raise ConfigurationError(
            f"run {run.run_id} was submitted for model {run.model.bundle_digest[:12]}, "
            f"this worker has {analyser.model.bundle_digest[:12]}; start it with the same bundle"
        )
    return analyser


@lru_cache(maxsize=2)
def _load_analyser(path: str, bundle: Path, options: AnalysisOptions) -> Analyser:
    module, _, name = path.partition(":")
    try:
        opener = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"the analyser {path!r} cannot be loaded ({error}); "
            "SCREEN_ANALYSER must name module:function"
        ) from error
    with telemetry.model_load():
        return cast(Callable[[str, AnalysisOptions], Analyser], opener)(str(bundle), options)


def process_row(
    store: Store,
    run: RunRecord,
    position: int,
    analyser: Analyser,
    *,
    settings: Settings,
    alone: bool = False,
) -> bool:
    """Bring one row to its outcome; False if that is left to others who are at it.

    Doing it twice, or in two places at once, has the effect of doing it once. ``alone``: this
    process is there for this row only. Raises RetryableError
    where archive or store cannot be used at the moment, TimedOutError and MemoryError where
    the image was too much: it may then be tried again.
    """
    telemetry.begin_image()
    if store.exists(keys.done(run.run_id, position)):
        return True
    row = read_row(store, run, position)
    if finish_without_reading(store, run, position, row):
        return True
    limit = settings.hard_limit_seconds
    state, reason = attempts.standing(store, run, position, hard_limit=limit)
    if state is Standing.BUSY:
        return False
    if state is Standing.GIVEN_UP:
        _finish(store, run, position, Outcome(status="failed", error=reason))
        return True
    if state is Standing.ALONE and not alone:
        return process_alone(store, run, position, settings=settings)
    started = time.time()
    with attempts.attempt(store, run, position, alone=alone):
        outcome = _outcome(store, run, row, analyser, settings)
        _finish(store, run, position, outcome)
    _log_row(store, run, position, started)
    return True


def finish_without_reading(store: Store, run: RunRecord, position: int, row: ManifestRow) -> bool:
    """Finish a row that must not be read, or whose content was judged before."""
    if row.refused is not None:
        _finish(store, run, position, Outcome(status="failed", error=row.refused))
        return True
    seen = store.read(keys.seen(pseudonyms(store).file(row, run)))
    if seen is None:
        return False
    outcome = _known(store, keys.result(Seen.model_validate_json(seen).sha256, run))
    if outcome is None:
        return False
    _finish(store, run, position, outcome)
    return True


def _outcome(
    store: Store, run: RunRecord, row: ManifestRow, analyser: Analyser, settings: Settings
) -> Outcome:
    """Read the file and judge its content, unless the same content was judged before."""
    try:
        with telemetry.stage("read"):
            data = _read_patiently(run, row, settings)
    except BadInputError as error:
        return Outcome(status="failed", error=_image_error(error))
    sha256 = hashlib.sha256(data).hexdigest()
    # Before the result, so that no result is ever without a way to it from the image.
    seen = keys.seen(pseudonyms(store).file(row, run))
    store.create(seen, canonical_bytes(Seen(sha256=sha256)))
    folder = keys.result(sha256, run)
    outcome = _known(store, folder)
    if outcome is None:
        try:
            with telemetry.stage("judge"):
                result, pictures = _judge(data, sha256, analyser)
        except (ScreenError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - a decoder or a network may raise anything
            return _fault(run, error)
        with telemetry.stage("save"):
            outcome = _save(store, folder, result, pictures)
    return outcome


def _read_patiently(run: RunRecord, row: ManifestRow, settings: Settings) -> bytes:
    """The file's bytes; a passing fault is waited out, one that stays makes the file unreadable."""
    for pause in (*READ_PAUSES_SECONDS, None):
        try:
            root = settings.place(run.root)
            return read_row_bytes(root, row, max_bytes=settings.max_file_bytes)
        except FileFaultError as error:
            if pause is None:
                raise BadInputError("unreadable", str(error)) from error
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _judge(
    data: bytes, sha256: str, analyser: Analyser
) -> tuple[ImageAnalysis, Mapping[str, bytes]]:
    try:
        analysis = analyser(data)
    except BadInputError as error:
        result = ImageAnalysis(status="failed", error=_image_error(error), sha256=sha256)
        return result, {}
    return analysis.result, analysis.pictures


def _fault(run: RunRecord, error: Exception) -> Outcome:
    """One image that trips over a fault in some library must not stop the others.

    Nothing is stored under its content: another version may judge it.
    """
    if isinstance(error, OSError) and is_passing(error):
        raise RetryableError(f"the analysis cannot go on at the moment: {error}") from error
    # The log has no more than this: the message may quote the file.
    logger.error("an image of run %s raised %s", run.run_id, type(error).__name__)
    message = f"the software failed on this image: {type(error).__name__}: {error}"
    return Outcome(status="failed", error=ImageError(reason="internal_error", message=message))


def _save(
    store: Store, folder: str, result: ImageAnalysis, pictures: Mapping[str, bytes]
) -> Outcome:
    """Store pictures, then the analysis: where there is an analysis, its pictures are there."""
    for name, picture in sorted(pictures.items()):
        store.create(picture_key(folder, name), picture)
    store.create(keys.analysis(folder), canonical_bytes(result))
    return Outcome(status=result.status, result=folder)


def _known(store: Store, folder: str) -> Outcome | None:
    """The outcome of content that was judged before."""
    analysis = read_analysis(store, folder)
    return None if analysis is None else Outcome(status=analysis.status, result=folder)


def _finish(store: Store, run: RunRecord, position: int, outcome: Outcome) -> None:
    if outcome.status == "failed":
        # Before the outcome, so that a listing of the hints misses no failure.
        store.create(keys.failed(run.run_id, position), canonical_bytes({}))
    with telemetry.stage("save"):
        first = store.create(keys.done(run.run_id, position), canonical_bytes(outcome))
    attempts.clear(store, run, position)
    reason = None if outcome.status == "ok" else error_of(store, outcome).reason
    telemetry.finished(run.run_id, position, outcome.status, reason, first=first)


def _log_row(store: Store, run: RunRecord, position: int, started: float) -> None:
    """Where and how long; nothing is computed from it, so that a full disk does not matter."""
    entry = {
        "host": platform.node(),
        "process": os.getpid(),
        "started": int(started),
        "seconds": round(time.time() - started, 3),
    }
    try:
        store.replace(keys.row_log(run.run_id, position), canonical_bytes(entry))
    except StoreUnavailableError as error:
        logger.warning("the side log cannot be written: %s", logs.cause(error))


def _image_error(error: BadInputError) -> ImageError:
    return ImageError(reason=error.reason, message=str(error))


def _find_bundle(run: RunRecord, settings: Settings) -> Path:
    """The bundle this worker was told to use, else the one of the submission, else the shipped."""
    from pipeline.bundle import find_bundle

    submitted = Path(run.bundle)
    return find_bundle(settings.bundle or (submitted if submitted.exists() else None))
