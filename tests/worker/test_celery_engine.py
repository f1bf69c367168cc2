"""The sending side: which messages a run becomes, in what order, and when the broker is full."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import redis

from benchmarks.rig.laboratory import Laboratory
from benchmarks.rig.redis_server import RedisServer
from pipeline.errors import RetryableError
from tests.worker.celery_rig import engine_on
from worker.celery_app import QUEUE, create_app, queue_keys
from worker.engines.celery import MESSAGE_BYTES, MESSAGE_ROWS
from worker.health import Heartbeat
from worker.presence import Presence
from worker.settings import load_settings


def test_messages_are_json_and_name_nobody(
    laboratory: Laboratory, redis_server: RedisServer
) -> None:
    laboratory.add("Smith, John/field 7.jpg", "image 1")
    run = laboratory.freeze()
    with engine_on(redis_server, laboratory) as engine:
        engine.hand_out(laboratory.store, run, [0])
    (raw,) = redis_server.client.lrange(queue_keys()[1], 0, -1)
    message = json.loads(raw)
    assert message["content-type"] == "application/json"
    assert b"Smith" not in raw
    assert b"field 7" not in raw
    body = json.loads(base64.b64decode(message["body"]))
    assert body[1] == {
        "store": laboratory.store.uri,
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
    laboratory: Laboratory, redis_server: RedisServer
) -> None:
    laboratory.fill(1, 10)
    laboratory.add("P01/large.jpg", b"image " + bytes(MESSAGE_BYTES))
    laboratory.add("P02/small.jpg", "image s")
    run, store = laboratory.freeze(), laboratory.store
    with engine_on(redis_server, laboratory) as engine:
        engine.hand_out(store, run, range(12), more=load_settings().window)
        assert sent(redis_server) == [[*range(MESSAGE_ROWS)], [8, 9], [10], [11]]
        redis_server.client.flushall()
        engine.hand_out(store, run, range(3))
        assert sent(redis_server) == [[0], [1], [2]]


@pytest.mark.parametrize(("window", "most"), [(2048, MESSAGE_ROWS), (32, 4)])
def test_messages_hold_less_towards_the_end_so_that_all_processes_share_it(
    laboratory: Laboratory, redis_server: RedisServer, beat: Heartbeat, window: int, most: int
) -> None:
    processes, images = 2, 100
    laboratory.fill(1, images)
    run, store = laboratory.freeze(), laboratory.store
    settings = laboratory.settings(broker_url=redis_server.url)
    with closing(Presence(settings)) as presence:
        presence.renew(beat.model_copy(update={"role": "worker", "processes": processes}))
        # A feeder takes no images.
        presence.renew(beat.model_copy(update={"role": "feeder", "processes": 99}))
    with engine_on(redis_server, laboratory, window=window) as engine:
        engine.hand_out(store, run, range(60), more=images - 60)
        engine.hand_out(store, run, range(60, images))
    messages = sent(redis_server)
    assert [row for rows in messages for row in rows] == [*range(images)]
    sizes = [len(rows) for rows in messages]
    assert sizes[0] == most
    assert sizes[-processes:] == [1] * processes
    for rows in messages:
        # With every message that holds several, each process has three more to come.
        assert len(rows) == 1 or (images - rows[0]) // len(rows) >= 4 * processes


def test_a_broker_at_its_memory_limit_pauses_the_run(
    laboratory: Laboratory, redis_with: Callable[..., RedisServer]
) -> None:
    server = redis_with("--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
    laboratory.fill(1, 1)
    with engine_on(server, laboratory) as engine:
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
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    laboratory.fill(1, 64)
    run = laboratory.freeze()
    with engine_on(redis_server, laboratory) as engine:
        engine.hand_out(laboratory.store, run, [0])
        sent = count_sends(monkeypatch)
        engine.hand_out(laboratory.store, run, range(64))
        trips = len(sent)
    assert sum(redis_server.client.llen(key) for key in queue_keys()) == 65
    assert 0 < trips < 16


def test_what_the_application_is_configured_with(redis_server: RedisServer) -> None:
    app = create_app(load_settings(broker_url=redis_server.url))
    assert app.conf.task_default_queue == QUEUE
    assert app.conf.accept_content == ["json"]
    assert not app.conf.worker_enable_remote_control
    assert app.conf.broker_transport_options["visibility_timeout"] == 900
