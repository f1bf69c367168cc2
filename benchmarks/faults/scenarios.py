"""All faults, numbered as in docs/faults.md, with how large the benchmark makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.faults import brokers, clocks, images, kills, large, objects, storage
from benchmarks.faults.trial import BucketTrial, NetworkTrial, Trial


@dataclass(frozen=True)
class Scenario:
    """A fault, and what makes its trials as large as the benchmark wants them."""

    row: str
    fault: Callable[[Trial], None]
    strikes: int = 1
    delay: float = 0.05
    images: int = 2000
    patients: int = 60

    #: Which kind of trial it is of.
    open: type[Trial] = Trial

    @property
    def what(self) -> str:
        """The fault in words."""
        what = (self.fault.__doc__ or "").splitlines()[0].rstrip(".")
        return f"{what}; real network, explanations" if self.open is NetworkTrial else what


SCENARIOS = {
    scenario.row: scenario
    for scenario in [
        Scenario("1", kills.processes_killed, strikes=50),
        Scenario("1 local", kills.local_processes_killed, strikes=50),
        Scenario(
            "1 network",
            kills.processes_killed,
            strikes=5,
            delay=0.8,
            images=36,
            patients=12,
            open=NetworkTrial,
        ),
        Scenario("2", kills.groups_killed, strikes=50),
        Scenario("3", brokers.kept_broker_killed, strikes=10),
        Scenario("4", brokers.forgetful_broker, strikes=5),
        Scenario("5", brokers.truncated_file, strikes=5),
        Scenario("6", brokers.delivered_three_times),
        Scenario("7", brokers.network_cut),
        Scenario("8", kills.feeders_killed, strikes=100, delay=0.2),
        Scenario("9", storage.finaliser_killed, strikes=100, delay=0),
        Scenario("10 disk", storage.disk_full, strikes=3),
        Scenario("10 Redis", brokers.broker_full, strikes=3),
        Scenario("11", images.poisonous_images, strikes=20, delay=0.2),
        Scenario("12", clocks.clock_off),
        Scenario("13", objects.unreliable_objects, strikes=4, images=500, open=BucketTrial),
        Scenario("14", kills.rolling_restart, strikes=8, delay=0.2),
        Scenario("15", large.large_manifest, images=1_000_000, patients=30_000),
        Scenario("16", images.hostile_archive, images=200, patients=10),
    ]
}
