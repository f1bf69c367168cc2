"""What an audit found out image by image, on disk: an interrupted one goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from pipeline.canonical import canonical_bytes
from pipeline.errors import ConfigurationError
from pipeline.evaluation.audit_explanations import ExplainedImage
from pipeline.evaluation.audit_figures import Judgement

Entry = TypeVar("Entry", Judgement, ExplainedImage)


class Log(Generic[Entry]):
    """The entries so far. Those of other audits in the file are passed over.

    ``key``: digest of all that an entry depends on beside image and change.
    """

    def __init__(self, path: Path, key: str, entry: type[Entry]) -> None:
        self.key = key
        self._path = path
        self._entry: type[Entry] = entry
        self._known: dict[tuple[str, str, str], Entry] = {}
        if path.exists():
            self._read()

    def find(self, sha256: str, image: str, change: str) -> Entry | None:
        """The entry of these bytes, if there is one."""
        return self._known.get((sha256, image, change))

    def add(self, entry: Entry) -> None:
        """Remember, on disk first."""
        with self._path.open("ab") as lines:
            lines.write(canonical_bytes(entry))
        self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        self._known[entry.sha256, entry.image, entry.change] = entry

    def _read(self) -> None:
        content = self._path.read_bytes()
        complete = content[: content.rfind(b"\n") + 1]
        if len(complete) < len(content):
            # An interruption cut the last line off; its image is looked at again.
            self._path.write_bytes(complete)
        for line in complete.splitlines():
            try:
                found = json.loads(line)
                if found.get("audit") == self.key:
                    self._keep(self._entry.model_validate(found))
            except (ValueError, AttributeError, ValidationError) as error:
                raise ConfigurationError(
                    f"{self._path} is damaged: {error}; delete it, or name another --out"
                ) from error
