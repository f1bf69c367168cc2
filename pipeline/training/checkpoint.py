"""Checkpoints: all that a training needs to go on as if it had not stopped, in one file."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Checkpoint:
    """Where a training writes its state.

    ``settings`` are what the training must have been started with; another one's checkpoint is
    refused instead of continued.
    """

    directory: Path
    settings: dict[str, Any]

    def save(self, network: keras.Model, optimiser: Any, records: list[dict[str, float]]) -> None:
        """Write network, random state, optimiser and records; the last file stays until then."""
        arrays = _numbered("network", state_of(network))
        arrays |= _numbered("optimiser", optimiser.variables)
        words = json.dumps({"settings": self.settings, "records": records})
        _write(self.directory / "checkpoint.npz", {**arrays, "words": np.array(words)})

    def restore(self, network: keras.Model, optimiser: Any) -> list[dict[str, float]]:
        """Put the last state back and return its records; no records where there is none.

        Raises ConfigurationError if the file is damaged or another training's.
        """
        path = self.directory / "checkpoint.npz"
        if not path.exists():
            return []
        with _read(path) as stored:
            words = json.loads(str(stored["words"]))
            if words["settings"] != json.loads(json.dumps(self.settings)):
                raise ConfigurationError(
                    f"{path} belongs to a training with other options ({words['settings']}); name "
                    "another --work-dir, or delete this one to start anew"
                )
            _assign(stored, "network", state_of(network))
            _assign(stored, "optimiser", optimiser.variables)
        records: list[dict[str, float]] = words["records"]
        return records

    def save_best(self, network: keras.Model) -> None:
        """Write the weights of the best epoch so far."""
        _write(self.directory / "best.npz", _numbered("network", state_of(network)))

    def restore_best(self, network: keras.Model) -> None:
        """Put the weights of the best epoch into the network."""
        with _read(self.directory / "best.npz") as stored:
            _assign(stored, "network", state_of(network))


def state_of(network: keras.Model) -> list[Any]:
    """Weights and the states of random number generators: all variables but those of metrics."""
    metrics = {id(variable) for variable in network.metrics_variables}
    optimiser = {id(variable) for variable in getattr(network.optimizer, "variables", [])}
    return [v for v in network.variables if id(v) not in metrics | optimiser]


def _numbered(kind: str, variables: Iterable[Any]) -> dict[str, np.ndarray]:
    return {f"{kind}-{i}": np.asarray(v.numpy()) for i, v in enumerate(variables)}


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"new-{path.name}")
    with temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _read(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error}); delete it to start the training anew"
        ) from error


def _assign(stored: Any, kind: str, variables: list[Any]) -> None:
    names = [name for name in stored.files if name.startswith(f"{kind}-")]
    if len(names) != len(variables):
        raise ConfigurationError(
            f"the checkpoint has {len(names)} variables of the {kind}, this software "
            f"{len(variables)}: it was made by another version; delete it to start anew"
        )
    for number, variable in enumerate(variables):
        variable.assign(stored[f"{kind}-{number}"])
