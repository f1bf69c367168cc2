"""Short forms of the benchmark's faults: the same scenarios, with few images and few strikes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.faults.trial import Findings, NotPossibleError, Trial

Survives = Callable[..., Findings]


@pytest.fixture
def survives(tmp_path: Path) -> Survives:
    """Disturb a small run, and see that everything holds that is claimed of it."""

    def check(fault: Callable[[Trial], None], kind: type[Trial] = Trial, **size: float) -> Findings:
        size = {"images": 48, "patients": 4, "delay": 0.1, **size}
        with kind(tmp_path, **size) as trial:
            try:
                fault(trial)
            except NotPossibleError as error:
                pytest.skip(str(error))
            finally:
                # Shown where the test fails.
                sys.stdout.write(trial.log.read_text(errors="replace")[-5000:])
            found = trial.findings()
        assert found.broken == []
        return found

    return check
