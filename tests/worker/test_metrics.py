from __future__ import annotations

import re
import time
import urllib.error
import urllib.request

import pytest

from benchmarks.rig.laboratory import REPOSITORY, Laboratory
from benchmarks.rig.redis_server import RedisServer
from pipeline.errors import ConfigurationError
from worker import telemetry
from worker.celery_app import QUEUE
from worker.engines.celery import CeleryEngine
from worker.exposition import serving
from worker.health import Heartbeat
from worker.metrics import Metrics
from worker.presence import Presence, QueueState, message_age
from worker.telemetry import FaultTold, HandedTold, ImageTold, ModelTold, TurnTold

RUN = "0" * 20


def told(outcome: str = "ok", reason: str | None = None, *, first: bool = True) -> ImageTold:
    return ImageTold(
        run_id=RUN,
        position=1,
        outcome=outcome,  # type: ignore[arg-type]
        reason=reason,
        first=first,
        seconds={"read": 0.02, "judge": 1.5, "save": 0.004},
        process=1,
    )


def test_images_are_counted_by_outcome_and_time_by_stage() -> None:
    metrics = Metrics()
    for one in (
        told(),
        told(),
        told("failed", "truncated"),
        told("failed", "timed_out"),
        told(first=False),
    ):
        metrics.tell(one)
    value = metrics.registry.get_sample_value
    assert value("screen_images_total", {"outcome": "ok", "reason": ""}) == 2
    assert value("screen_images_total", {"outcome": "failed", "reason": "truncated"}) == 1
    assert value("screen_images_given_up_total", {"reason": "timed_out"}) == 1
    assert value("screen_images_given_up_total", {"reason": "crashed_worker"}) == 0
    assert value("screen_images_repeated_total") == 1
    assert value("screen_image_stage_seconds_count", {"stage": "judge"}) == 5
    assert value("screen_image_stage_seconds_sum", {"stage": "judge"}) == 7.5


def test_faults_models_and_what_the_feeder_does_are_counted() -> None:
    metrics = Metrics()
    for one in (
        FaultTold(cause="store"),
        FaultTold(cause="memory"),
        ModelTold(seconds=12),
        HandedTold(images=64, again=False),
        HandedTold(images=3, again=True),
        TurnTold(run_id=RUN, outstanding=300),
        TurnTold(run_id="1" * 20, outstanding=100),
        TurnTold(run_id=RUN, outstanding=100),
        TurnTold(run_id=None, outstanding=0),
    ):
        metrics.tell(one)
    metrics.message_taken(time.time() - 7)
    metrics.message_taken(None)
    value = metrics.registry.get_sample_value
    assert value("screen_store_errors_total") == 1
    assert value("screen_retries_total", {"cause": "memory"}) == 1
    assert value("screen_model_load_seconds_sum") == 12
    assert value("screen_images_handed_out_total") == 64
    assert value("screen_images_handed_out_again_total") == 3
    assert value("screen_images_outstanding") == 200
    assert value("screen_queue_wait_seconds_count") == 1
    assert 7 <= (value("screen_queue_wait_seconds_sum") or 0) < 60


def test_the_queue_is_left_out_while_redis_is_away(beat: Heartbeat) -> None:
    metrics = Metrics()
    answers = [QueueState(7, 2, 30.0), None]
    metrics.watch(lambda: beat, lambda: answers.pop(0))
    found = {name: metrics.registry.get_sample_value(name) for name in ("screen_queue_messages",)}
    assert found == {"screen_queue_messages": 7}
    assert metrics.registry.get_sample_value("screen_queue_age_seconds") is None


def test_both_pages_are_served_and_nothing_else(beat: Heartbeat) -> None:
    metrics = Metrics()
    metrics.watch(lambda: beat, lambda: None)
    metrics.tell(told())
    port = free_port()
    beats = [beat]
    with serving("127.0.0.1", port, metrics.registry, lambda: beats[0]):
        text = fetch(port, "/metrics")[1]
        assert 'screen_images_total{outcome="ok",reason=""} 1.0' in text
        assert "screen_processes_busy 3.0" in text
        assert "screen_healthy 1.0" in text
        assert fetch(port, "/healthz")[0] == 200
        beats[0] = beat.model_copy(update={"state": "deaf"})
        status, body = fetch(port, "/healthz")
        assert (status, Heartbeat.model_validate_json(body).state) == (503, "deaf")
        assert fetch(port, "/../etc/passwd")[0] == 404
        with (
            pytest.raises(ConfigurationError, match="SCREEN_METRICS_PORT"),
            serving("127.0.0.1", port, metrics.registry, lambda: beat),
        ):
            pass
    with pytest.raises(urllib.error.URLError):
        fetch(port, "/metrics")


def test_the_age_of_the_queue_is_that_of_its_oldest_message(
    laboratory: Laboratory, redis_server: RedisServer
) -> None:
    laboratory.fill(1, 3)
    run = laboratory.freeze()
    settings = laboratory.settings(broker_url=redis_server.url)
    presence = Presence(settings)
    assert presence.queue() == QueueState(0, 0, 0.0)
    with CeleryEngine(settings) as engine:
        engine.hand_out(laboratory.store, run, [0, 1])
        time.sleep(1.1)
        engine.hand_out(laboratory.store, run, [2])
    queue = presence.queue()
    assert queue is not None
    assert (queue.waiting, queue.taken) == (3, 0)
    assert 1.1 <= queue.age_seconds < 30
    # What is not ours does not end the looking.
    redis_server.client.flushdb()
    redis_server.client.lpush(QUEUE, b"rubbish", b'{"headers": 1}')
    assert presence.queue() == QueueState(2, 0, 0.0)
    redis_server.kill()
    assert presence.queue() is None
    assert presence.heartbeats() is None
    presence.close()


@pytest.mark.parametrize(
    "said", [b"[" * 100_000, b"1" + b"0" * 400, b"-1e999", b"NaN", b'"1"', b"true"]
)
def test_no_message_ends_the_looking(said: bytes) -> None:
    assert message_age(said) == 0.0
    assert message_age(b'{"headers": {"screen_handed_out": ' + said + b"}}") == 0.0


def test_a_heartbeat_that_nobody_can_have_sent_is_passed_over(
    laboratory: Laboratory, redis_server: RedisServer, beat: Heartbeat
) -> None:
    presence = Presence(laboratory.settings(broker_url=redis_server.url))
    presence.renew(beat)
    said = beat.model_dump_json()
    for number, seconds in enumerate(("NaN", "Infinity", "1e999", "[]")):
        other = re.sub('"idle_seconds":[^,]+', f'"idle_seconds":{seconds}', said)
        assert other != said
        redis_server.client.set(f"screen-worker:{number}", other)
    assert presence.heartbeats() == [beat]
    presence.close()


def test_feeders_tell_what_they_hand_out(laboratory: Laboratory) -> None:
    laboratory.fill(1, 4)
    metrics = Metrics()
    with telemetry.listening(metrics.tell):
        laboratory.screen()
    value = metrics.registry.get_sample_value
    assert value("screen_images_handed_out_total") == 4
    assert value("screen_images_total", {"outcome": "ok", "reason": ""}) == 4
    assert 1 <= (value("screen_model_load_seconds_count") or 0) <= 2


def test_every_metric_is_documented_and_no_other(beat: Heartbeat) -> None:
    metrics = Metrics()
    metrics.watch(lambda: beat, lambda: QueueState(1, 1, 1.0))
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
    }
    page = (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(screen_[a-z_]+)", page, re.MULTILINE)) == names


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
