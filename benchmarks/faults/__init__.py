"""What a run must survive: each fault a scenario, small in tests and large in the benchmark.

    python -m benchmarks.faults --rows 1,2,3 --seeds 20

A scenario is a function of a ``Trial``: it disturbs one run and says what it claims of it. That no
image is lost or counted twice, and that the reports are those of an undisturbed run to the byte,
every trial claims.
"""

from benchmarks.faults.scenarios import SCENARIOS, Scenario
from benchmarks.faults.trial import Findings, Trial

__all__ = ["SCENARIOS", "Findings", "Scenario", "Trial"]
