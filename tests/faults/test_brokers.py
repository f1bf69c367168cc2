"""A Redis that is killed, forgets, repeats itself, cannot be reached, or is full."""

from __future__ import annotations

from functools import partial

from benchmarks.faults import brokers
from tests.faults.conftest import Survives


def test_a_broker_killed_and_started_again_is_used_again(survives: Survives) -> None:
    survives(brokers.kept_broker_killed, strikes=2)


def test_a_broker_that_forgot_everything_costs_seconds(survives: Survives) -> None:
    """Killed without a file, and flushed."""
    survives(brokers.forgetful_broker, strikes=2)


def test_a_broker_that_lost_its_latest_writes_loses_no_image(survives: Survives) -> None:
    survives(brokers.truncated_file, images=80)


def test_messages_delivered_three_times_are_worked_at_three_times_at_most(
    survives: Survives,
) -> None:
    survives(brokers.delivered_three_times)


def test_a_network_cut_without_a_word_is_noticed(survives: Survives) -> None:
    """Longer than a look at the connection takes; afterwards it is forgotten by the network."""
    survives(partial(brokers.network_cut, seconds=10), images=60)


def test_a_broker_at_its_memory_limit_pauses_the_run(survives: Survives) -> None:
    survives(brokers.broker_full, images=80)
