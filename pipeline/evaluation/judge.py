"""Judging labelled images as the workers judge, resumable after any image.

Every judgement is a line of ``judged.jsonl``, written as soon as it is there: the result as the
result store would hold it (less the outlines of the cells) and the embedding. A line that an
interruption cut off is judged again.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from pipeline.analyse import Analyser
from pipeline.canonical import canonical_bytes, rounded
from pipeline.errors import BadInputError, ConfigurationError
from pipeline.evaluation.examples import Example
from pipeline.labels import LABELS, Label
from pipeline.results import Flag, ImageError, ImageResult

JUDGED_FILE = "judged.jsonl"
COLUMNS = (
    "path",
    "fold",
    "truth",
    "patient",
    "label",
    *(f"p_{label}" for label in LABELS),
    "flag",
    "reasons",
    "distance",
    "agreement",
    "white_cells",
)


@dataclass(frozen=True)
class Judgement:
    """What a model said of one example.

    ``probabilities``: float64 ``(4,)``. A classifier without a flag or an embedding has None there,
    and only a network's judgement has a ``result``.
    """

    example: Example
    label: Label
    probabilities: np.ndarray
    flag: Flag | None = None
    embedding: np.ndarray | None = None
    result: ImageResult | None = None


@dataclass(frozen=True)
class Failure:
    """An example that could not be judged, and why."""

    example: Example
    result: ImageResult


def judge_examples(
    analyser: Analyser,
    examples: Sequence[Example],
    root: Path,
    folder: Path,
    on_image: Callable[[int], None] = lambda done: None,
) -> tuple[list[Judgement], list[Failure]]:
    """Judge what ``folder`` has no judgement of yet, and return all in the order of ``examples``.

    Raises ConfigurationError if the judgements in ``folder`` are another model's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / JUDGED_FILE
    known = _read(file, analyser.model.bundle_digest)
    judgements, failures = [], []
    with file.open("ab") as lines:
        if file.stat().st_size == 0:
            lines.write(canonical_bytes({"bundle_digest": analyser.model.bundle_digest}))
        for number, example in enumerate(examples, start=1):
            data = (root / example.path).read_bytes()
            key = (example.path, hashlib.sha256(data).hexdigest())
            if key not in known:
                line = canonical_bytes(_judge(analyser, example, data, key[1]))
                lines.write(line)
                lines.flush()
                known[key] = json.loads(line)
            one = _judgement(example, known[key], file)
            if isinstance(one, Failure):
                failures.append(one)
            else:
                judgements.append(one)
            on_image(number)
    return judgements, failures


def _judge(analyser: Analyser, example: Example, data: bytes, sha256: str) -> dict[str, Any]:
    embedding = ""
    try:
        analysis = analyser(data)
        cells = [cell.model_copy(update={"outline": []}) for cell in analysis.result.cells]
        content = {**dict(analysis.result), "cells": cells}
        result = ImageResult(source=example.path, **content)
        vector = analysis.embedding.astype("<f4")
        embedding = base64.b64encode(vector.tobytes()).decode("ascii")
    except BadInputError as error:
        # Recorded and shown as a run does; the figures say how many there were.
        failed = ImageError(reason=error.reason, message=str(error))
        result = ImageResult(source=example.path, status="failed", error=failed, sha256=sha256)
    return {
        "path": example.path,
        "sha256": sha256,
        "result": result.model_dump(mode="json"),
        "embedding": embedding,
    }


def _read(file: Path, bundle_digest: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The complete lines of a file; what an interruption cut off is dropped from it."""
    if not file.exists():
        return {}
    content = file.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    if len(complete) < len(content):
        file.write_bytes(complete)
    try:
        lines = [json.loads(line) for line in complete.splitlines()]
        if lines and lines[0]["bundle_digest"] != bundle_digest:
            raise ConfigurationError(
                f"{file} holds the judgements of another model (bundle "
                f"{lines[0]['bundle_digest'][:12]}, now {bundle_digest[:12]}); name another --out"
            )
        return {(line["path"], line["sha256"]): line for line in lines[1:]}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{file} is damaged: {error}; delete it, or name another --out"
        ) from error


def _judgement(example: Example, line: dict[str, Any], file: Path) -> Judgement | Failure:
    try:
        result = ImageResult.model_validate(line["result"])
    except ValidationError as error:
        raise ConfigurationError(
            f"{file} was written by another version of the software: delete it, or name another "
            f"--out ({error.error_count()} fields do not fit)"
        ) from error
    if result.label is None or result.probabilities is None or result.confidence is None:
        return Failure(example, result)
    return Judgement(
        example,
        result.label,
        np.array([result.probabilities[label] for label in LABELS]),
        result.confidence.flag,
        np.frombuffer(base64.b64decode(line["embedding"]), dtype="<f4"),
        result,
    )


def write_table(
    path: Path, judgements: Sequence[Judgement], failures: Sequence[Failure] = ()
) -> None:
    """Write one row per image, sorted by fold and path, for whoever wants to count for himself."""
    rows = [_row(one) for one in judgements] + [_failed_row(one) for one in failures]
    rows.sort(key=lambda row: (row["fold"], row["path"]))
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, fieldnames=COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _about(example: Example) -> dict[str, Any]:
    return {
        "path": example.path,
        "fold": example.fold,
        "truth": example.truth,
        "patient": example.patient or "",
    }


def _row(one: Judgement) -> dict[str, Any]:
    row = {**_about(one.example), "label": one.label, "flag": one.flag or ""}
    row |= {
        f"p_{label}": rounded(float(value))
        for label, value in zip(LABELS, one.probabilities, strict=True)
    }
    if one.result is not None and one.result.confidence is not None:
        confidence = one.result.confidence
        row |= {
            "reasons": " ".join(confidence.reasons),
            "distance": confidence.distance,
            "agreement": confidence.agreement,
            "white_cells": len(one.result.cells),
        }
    return row


def _failed_row(one: Failure) -> dict[str, Any]:
    reason = one.result.error.reason if one.result.error else ""
    return {**_about(one.example), "flag": "failed", "reasons": reason}
