"""The published JSON Schema of ``report.json``."""

from __future__ import annotations

from typing import Any

from pipeline.results import SCHEMA_VERSION, PatientReport

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: What an image must carry, by its status; the types alone would allow neither or both.
_OF_STATUS = {
    "ok": {
        name: {"not": {"type": "null"}}
        for name in ("sha256", "label", "probabilities", "confidence", "quality", "geometry")
    }
    | {"error": {"type": "null"}},
    "failed": {"error": {"not": {"type": "null"}}, "cells": {"maxItems": 0}}
    | {
        name: {"type": "null"}
        for name in ("label", "probabilities", "confidence", "quality", "geometry", "explanations")
    },
}


def report_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) that every ``report.json`` of this schema version satisfies."""
    schema = PatientReport.model_json_schema(mode="serialization")
    schema["$defs"]["ImageResult"]["allOf"] = [
        {
            "if": {"properties": {"status": {"const": status}}},
            "then": {"properties": properties},
        }
        for status, properties in _OF_STATUS.items()
    ]
    schema["properties"]["schema_version"]["const"] = SCHEMA_VERSION
    return {
        "$schema": DIALECT,
        "$id": f"urn:smear-screen:report:{SCHEMA_VERSION}",
        **schema,
    }
