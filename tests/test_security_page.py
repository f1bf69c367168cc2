"""docs/security.md names code and tests that exist."""

from __future__ import annotations

import re

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "security.md").read_text("utf-8")


def test_every_test_it_rests_on_exists() -> None:
    named = re.findall(r"`([a-z0-9_/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 40
    gone = [
        f"{file}::{name}"
        for file, name in named
        if f"\ndef {name}(" not in (REPOSITORY / "tests" / file).read_text("utf-8")
    ]
    assert not gone


def test_every_file_it_names_exists() -> None:
    named = set(re.findall(r"`([a-z0-9_/]+\.(?:py|acl|lock))`", PAGE))
    tops = (REPOSITORY, REPOSITORY / "tests")
    assert not [name for name in named if not any((top / name).is_file() for top in tops)]
