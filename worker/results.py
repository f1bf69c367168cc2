"""Stored results of images: the analysis, its pictures, and why there is none."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from pipeline.results import ImageAnalysis, ImageError
from worker import keys
from worker.records import Outcome
from worker.store import Store

logger = logging.getLogger(__name__)


def read_analysis(store: Store, folder: str) -> ImageAnalysis | None:
    """The stored analysis of a result; None if there is none or it was damaged.

    A damaged one (a disk that lied about fsync before power failed) is removed, to be made anew.
    """
    data = store.read(keys.analysis(folder))
    if data is None:
        return None
    try:
        return ImageAnalysis.model_validate_json(data)
    except ValidationError:
        logger.error("a damaged analysis is removed and made anew: %s", folder)
        store.delete(keys.analysis(folder))
        return None


def picture_key(folder: str, name: str) -> str:
    """Where a picture of a result lies."""
    return f"{folder}{name}" if name.endswith(".png") else f"{folder}{name}.png"


def error_of(store: Store, outcome: Outcome) -> ImageError:
    """Why an image failed, from its outcome or its stored result."""
    if outcome.error is not None:
        return outcome.error
    analysis = read_analysis(store, outcome.result) if outcome.result else None
    if analysis is None or analysis.error is None:
        return ImageError(
            reason="result_missing", message="the stored result is gone; `screen retry --failed`"
        )
    return analysis.error
