"""Archives for tests of listing and planning."""

from __future__ import annotations

from pathlib import Path

from worker.planning import Plan


def archive(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def listed(planned: Plan) -> dict[str, str]:
    """Patient by source."""
    return {row.source: row.patient for row in planned.rows()}


def refused(planned: Plan) -> dict[str, str]:
    """Reason by source."""
    return {row.source: row.refused.reason for row in planned.rows() if row.refused}
