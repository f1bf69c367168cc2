from __future__ import annotations

import os
import time

import pytest

from benchmarks.rig.laboratory import Laboratory
from pipeline.canonical import canonical_bytes
from worker import keys
from worker.lease import Lease, _Holder
from worker.machine import process_start, this_machine
from worker.records import RunRecord
from worker.store import Store

QUICK = 0.01


@pytest.fixture
def run(laboratory: Laboratory) -> RunRecord:
    laboratory.fill(1, 1)
    return laboratory.freeze()


@pytest.fixture
def opened(laboratory: Laboratory) -> Store:
    return laboratory.store


def held_by(store: Store, run: RunRecord, **changes: object) -> None:
    """A holder elsewhere that is heard of once."""
    holder = _Holder(machine="elsewhere", process=1, started="1", token="t", renewals=1)
    store.replace(keys.lease(run.run_id), canonical_bytes(holder.model_copy(update=changes)))


def test_one_has_it_and_the_next_gets_it(opened: Store, run: RunRecord) -> None:
    first, second = (Lease(opened, keys.lease(run.run_id), renew_seconds=QUICK) for _ in range(2))
    assert first.hold()
    assert not second.hold()
    first.release()
    time.sleep(2 * QUICK)
    assert second.hold()
    time.sleep(2 * QUICK)
    assert not first.hold()


def test_it_stays_with_who_renews_it(opened: Store, run: RunRecord) -> None:
    first, second = (Lease(opened, keys.lease(run.run_id), renew_seconds=QUICK) for _ in range(2))
    for _ in range(20):
        assert first.hold()
        assert not second.hold()
        time.sleep(QUICK)


def test_it_is_lost_by_who_stops_renewing_whatever_the_clocks_say(
    opened: Store, run: RunRecord
) -> None:
    held_by(opened, run)
    lease = Lease(opened, keys.lease(run.run_id), renew_seconds=QUICK)
    assert not lease.hold()
    time.sleep(QUICK * 3)
    assert not lease.hold()
    held_by(opened, run, renewals=2)
    time.sleep(QUICK * 4)
    assert not lease.hold()
    time.sleep(QUICK * 8)
    assert lease.hold()


def test_that_of_a_process_that_is_gone_is_free(opened: Store, run: RunRecord) -> None:
    held_by(opened, run, machine=this_machine(), process=2**22 - 1)
    assert Lease(opened, keys.lease(run.run_id), renew_seconds=QUICK).hold()
    parent = os.getppid()
    held_by(
        opened, run, machine=this_machine(), process=parent, started=process_start(parent) or ""
    )
    assert not Lease(opened, keys.lease(run.run_id), renew_seconds=QUICK).hold()


def test_half_a_lease_is_none(opened: Store, run: RunRecord) -> None:
    opened.replace(keys.lease(run.run_id), b'{"machine": "half')
    assert Lease(opened, keys.lease(run.run_id), renew_seconds=QUICK).hold()


def test_releasing_takes_nothing_from_another(opened: Store, run: RunRecord) -> None:
    lease = Lease(opened, keys.lease(run.run_id), renew_seconds=QUICK)
    assert lease.hold()
    held_by(opened, run)
    lease.release()
    assert opened.exists(keys.lease(run.run_id))
