"""The judgements of an audit on disk, so that an interrupted one goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from pipeline.canonical import canonical_bytes
from pipeline.errors import ConfigurationError
from pipeline.evaluation.audit_figures import Judgement


class Log:
    """The judgements so far. Those of other audits in the file are passed over.

    ``key``: digest of all that a judgement depends on beside image and change.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.key = key
        self._path = path
        self._known: dict[tuple[str, str, str], Judgement] = {}
        if path.exists():
            self._read()

    def find(self, sha256: str, image: str, change: str) -> Judgement | None:
        """The judgement of these bytes, if there is one."""
        return self._known.get((sha256, image, change))

    def add(self, judgement: Judgement) -> None:
        """Remember, on disk first."""
        with self._path.open("ab") as lines:
            lines.write(canonical_bytes(judgement))
        self._keep(judgement)

    def _keep(self, judgement: Judgement) -> None:
        self._known[judgement.sha256, judgement.image, judgement.change] = judgement

    def _read(self) -> None:
        content = self._path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) < len(content):
            # An interruption cut the last line off; it is judged again.
            self._path.write_bytes(complete)
        for line in complete.splitlines():
            try:
                found = json.loads(line)
                if found.get("audit") == self.key:
                    self._keep(Judgement.model_validate(found))
            except (ValueError, AttributeError, ValidationError) as error:
                raise ConfigurationError(
                    f"{self._path} is damaged: {error}; delete it, or name another --out"
                ) from error
