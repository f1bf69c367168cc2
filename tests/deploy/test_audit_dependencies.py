"""The report about known vulnerabilities says what it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import audit_dependencies
from tests.conftest import REPOSITORY

PACKAGES = [
    {"name": "good", "version": "1", "vulns": []},
    {"name": "bad", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]},
    {"name": "unknown", "skip_reason": "Dependency not found on PyPI"},
]


def test_what_could_not_be_asked_about_is_not_called_sound() -> None:
    lines = audit_dependencies.summary(PACKAGES).splitlines()
    assert lines[0].startswith("2 of 3 packages audited; 1 NOT AUDITED")
    assert lines[1:] == ["  bad 2: CVE-1, mended in 3"]


@pytest.mark.parametrize("says", ["echo '{}'", "echo no network >&2; exit 1", None])
def test_a_service_that_does_not_answer_is_said(tmp_path: Path, says: str | None) -> None:
    program = tmp_path / "pip-audit"
    if says is not None:
        program.write_text(f"#!/bin/sh\n{says}\n")
        program.chmod(0o755)
    assert "NOT AUDITED" in audit_dependencies.report(str(program), "requirements.lock")


def test_every_lock_file_is_audited() -> None:
    assert {path.name for path in REPOSITORY.glob("*.lock")} == set(audit_dependencies.LOCKS)
