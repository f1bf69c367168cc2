"""``audit.json``: verdicts, the figures they rest on, and where these come from."""

from __future__ import annotations

from pipeline.evaluation.audit_explanations import ExplanationFigures
from pipeline.evaluation.audit_figures import ChangeFigures, TwinFigures, Verdict
from pipeline.labels import Label
from pipeline.results import DISCLAIMER, ModelRecord, Record

AUDIT_SCHEMA = 1


class AuditReport(Record):
    """``audit.json``."""

    audit_schema: int = AUDIT_SCHEMA
    disclaimer: str = DISCLAIMER
    model: ModelRecord
    images: dict[Label, int]
    part: str
    notes: list[str]
    unreadable: list[str]
    seed: int
    command: list[str]
    software: dict[str, str]
    verdicts: list[Verdict]
    changes: list[ChangeFigures]
    twins: TwinFigures | None
    explanations: ExplanationFigures | None = None
