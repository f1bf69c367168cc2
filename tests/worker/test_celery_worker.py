"""Celery workers as processes: what they do with runs, and when they are told to stop."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from benchmarks.rig.laboratory import Laboratory, wait_until
from benchmarks.rig.redis_server import RedisServer
from tests.worker.celery_rig import engine_on, limits, waiting, working
from worker import connection_watch, runs
from worker.celery_app import QUEUE, UNACKED_KEY, create_app
from worker.records import RunRecord
from worker.settings import load_settings
from worker.store import open_store
from worker.tasks import PROCESS


def test_two_workers_give_the_bytes_of_local_processes(
    laboratory: Laboratory, redis_server: RedisServer
) -> None:
    laboratory.fill(3, 12)
    laboratory.add("P00/copy.jpg", "image 1 1")
    laboratory.add("P00/bad.jpg", "bad 1")
    laboratory.add("P01/trips.jpg", "raise 1")
    laboratory.add("P02/line\nbreak é.jpg", "image name")
    (laboratory.archive / "P02" / "out.jpg").symlink_to("/etc/passwd")
    on_celery = Laboratory(laboratory.folder, "celery")
    with working(redis_server, 2):
        progress = on_celery.screen(broker_url=redis_server.url, **limits())
    assert (progress.ok, progress.failed) == (38, 3)
    laboratory.screen()
    assert on_celery.reports() == laboratory.reports()


def test_rubbish_on_the_queue_is_dropped(laboratory: Laboratory, redis_server: RedisServer) -> None:
    app = create_app(load_settings(broker_url=redis_server.url))
    for content in ({}, {"store": "../x", "run_id": "'; --", "shard": -1, "rows": []}):
        app.send_task(PROCESS, kwargs=content, queue=QUEUE)
    app.close()
    laboratory.fill(1, 3)
    with working(redis_server, 1):
        assert laboratory.screen(broker_url=redis_server.url, **limits()).ok == 3
    assert waiting(redis_server) == 0


def test_a_worker_told_to_stop_finishes_its_image(
    laboratory: Laboratory, redis_server: RedisServer
) -> None:
    laboratory.fill(1, 5)
    laboratory.slow_down(1)
    run = laboratory.freeze()
    with working(redis_server, 1) as (worker,), engine_on(redis_server, laboratory) as engine:
        engine.hand_out(laboratory.store, run, range(run.images))
        wait_until(lambda: bool(laboratory.computed()), 60, "work")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        assert list(laboratory.store.list("attempts/")) == []
        done = runs.progress(laboratory.store, run).ok
        assert done == len(laboratory.computed())
        assert waiting(redis_server) == run.images - done


@contextmanager
def given_and_not_begun(
    laboratory: Laboratory, server: RedisServer, run: RunRecord
) -> Iterator[None]:
    """Its only process is stopped, with the message of the second row in the pipe to it."""
    with engine_on(server, laboratory) as engine:
        engine.hand_out(laboratory.store, run, [0])
        wait_until(lambda: bool(laboratory.calls()), 60, "work")
        wait_until(lambda: waiting(server) == 0, 20, "nothing to do")
        (call,) = laboratory.calls()
        os.kill(call.process, signal.SIGSTOP)
        engine.hand_out(laboratory.store, run, [1])
    wait_until(lambda: bool(server.client.hlen(UNACKED_KEY)), 20, "taken")
    time.sleep(0.5)
    yield
    time.sleep(0.5)
    os.kill(call.process, signal.SIGCONT)


def test_a_worker_told_to_stop_waits_for_what_its_process_was_given_and_has_not_begun(
    laboratory: Laboratory, redis_server: RedisServer
) -> None:
    laboratory.fill(1, 2)
    run = laboratory.freeze()
    with working(redis_server, 1) as (worker,):
        with given_and_not_begun(laboratory, redis_server, run):
            worker.send_signal(signal.SIGTERM)
        # Well before it gives up and hands back what its process has done.
        assert worker.wait(15) == 0
        assert runs.progress(laboratory.store, run).ok == 2
        assert waiting(redis_server) == 0


def test_what_a_process_was_given_has_its_time_limit_though_the_connection_is_lost(
    laboratory: Laboratory, redis_server: RedisServer
) -> None:
    laboratory.fill(1, 2)
    run = laboratory.freeze()
    with working(redis_server, 1):
        with given_and_not_begun(laboratory, redis_server, run):
            laboratory.slow_down(60)
            redis_server.kill()
            # With all its processes at work, a worker reads nothing, and notices when it looks.
            time.sleep(connection_watch._SECONDS + 1)
            redis_server.start()
        wait_until(lambda: len(laboratory.calls()) == 2, 20, "its beginning")
        # The process is free for the next after 4 s; without its limit after 60.
        with engine_on(redis_server, laboratory) as engine:
            engine.hand_out(laboratory.store, run, [1])
        wait_until(lambda: len(laboratory.calls()) == 3, 30, "its interruption")


def test_a_worker_told_to_stop_hands_back_an_image_that_takes_too_long(
    laboratory: Laboratory, redis_server: RedisServer
) -> None:
    laboratory.fill(1, 3)
    laboratory.slow_down(60)
    run = laboratory.freeze()
    patient = {"SCREEN_SOFT_LIMIT_SECONDS": "120", "SCREEN_HARD_LIMIT_SECONDS": "180"}
    generous = {"SCREEN_VISIBILITY_TIMEOUT_SECONDS": "900", "SCREEN_LEASE_SECONDS": "400"}
    limits = {**patient, **generous, "SCREEN_SHUTDOWN_SECONDS": "2"}
    with (
        working(redis_server, 1, **limits) as (worker,),
        engine_on(redis_server, laboratory) as engine,
    ):
        engine.hand_out(laboratory.store, run, range(3))
        wait_until(lambda: bool(laboratory.computed()), 60, "work")
        started = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)
        assert 2 <= time.monotonic() - started < 7
        assert waiting(redis_server) == 3
    laboratory.slow_down(0)
    with working(redis_server, 1):
        assert laboratory.screen(run, broker_url=redis_server.url).ok == 3


def test_a_worker_may_see_archive_and_store_under_another_path(
    laboratory: Laboratory, redis_server: RedisServer, tmp_path: Path
) -> None:
    laboratory.fill(1, 3)
    run = laboratory.freeze()
    there = tmp_path / "there"
    folders = (laboratory.archive, laboratory.out)
    pairs = [f"{folder}={there / folder.name}" for folder in folders]
    with (
        working(redis_server, 1, SCREEN_PATH_MAP=",".join(pairs)),
        engine_on(redis_server, laboratory) as engine,
    ):
        engine.hand_out(laboratory.store, run, range(3))
        there.mkdir()
        for folder in folders:
            shutil.copytree(folder, there / folder.name)
        # A run is known by what it was submitted as, and nothing is done at the old place.
        elsewhere = open_store(str(there / laboratory.out.name))
        wait_until(lambda: runs.progress(elsewhere, run).finished, 60, "the run, elsewhere")
    assert runs.progress(laboratory.store, run).remaining == 3


def test_a_message_that_leads_elsewhere_is_dropped(
    laboratory: Laboratory, redis_server: RedisServer
) -> None:
    laboratory.fill(1, 2)
    run = laboratory.freeze()
    elsewhere = {"SCREEN_ALLOWED_ROOTS": str(laboratory.folder / "other")}
    with (
        working(redis_server, 1, **elsewhere),
        engine_on(redis_server, laboratory) as engine,
    ):
        engine.hand_out(laboratory.store, run, range(2))
        wait_until(lambda: waiting(redis_server) == 0, 60, "the messages")
    assert laboratory.computed() == []


def test_an_urgent_run_overtakes(laboratory: Laboratory, redis_server: RedisServer) -> None:
    laboratory.fill(1, 3)
    archive = laboratory.freeze()
    laboratory.add("Q/1.jpg", "image urgent")
    urgent, store = laboratory.freeze(), laboratory.store
    runs.set_priority(store, urgent, "high")
    with engine_on(redis_server, laboratory) as engine:
        engine.hand_out(store, archive, range(3))
        engine.hand_out(store, urgent, [3])
        with working(redis_server, 1):
            wait_until(lambda: waiting(redis_server) == 0, 60, "work")
    contents = [sha256(f"image {one}".encode()).hexdigest() for one in ("urgent", "0 0")]
    assert laboratory.computed()[:2] == contents


def test_one_that_kills_its_worker_takes_no_companion_with_it(
    laboratory: Laboratory, redis_server: RedisServer
) -> None:
    for number in range(24):
        what = "crash" if number == 2 else "image"
        laboratory.add(f"P/{number:02}.jpg", f"{what} {number}")
    run = laboratory.freeze()
    with working(redis_server, 1):
        progress = laboratory.screen(run, broker_url=redis_server.url, window=8, **limits())
    assert (progress.ok, progress.failed) == (23, 1)
    crash = sha256(b"crash 2").hexdigest()
    assert set(laboratory.twice()) == {crash}
    assert laboratory.twice()[crash] <= 5


def test_of_a_cancelled_run_nothing_more_is_started(
    laboratory: Laboratory, redis_server: RedisServer
) -> None:
    laboratory.fill(1, 5)
    run = laboratory.freeze()
    runs.cancel(laboratory.store, run)
    with engine_on(redis_server, laboratory) as engine, working(redis_server, 1):
        engine.hand_out(laboratory.store, run, range(5))
        wait_until(lambda: waiting(redis_server) == 0, 60, "the messages")
    assert laboratory.computed() == []
