"""The compose file as compose reads it."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.conftest import REPOSITORY

DOCKER = REPOSITORY / "docker"

#: What an administrator fills in.
FILLED_IN = {"SCREEN_REDIS_PASSWORD": "0123abcd", "FLOWER_PASSWORD": "4567"}


def example(*, whole: bool = False) -> dict[str, str]:
    """Variables of .env.example; ``whole``: also those that are commented out."""
    text = (DOCKER / ".env.example").read_text("utf-8")
    start = "(?:# )?" if whole else ""
    return dict(re.findall(rf"^{start}([A-Z][A-Z0-9_]*)=(.*)$", text, re.MULTILINE))


def interpolated(text: str, given: dict[str, str]) -> str:
    """As compose does: ``${NAME:-default}`` and ``${NAME:?what is missing}``."""

    def value(match: re.Match[str]) -> str:
        name, kind, word = match.groups()
        found = given.get(name) or (word if kind == ":-" else None)
        assert found, f"{name} {word}"
        return found

    return re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", value, text)


def load(given: dict[str, str]) -> Any:
    """The whole file, with the variables of .env.example and those that are given."""
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    return yaml.safe_load(interpolated(text, example() | FILLED_IN | given))
