"""Two hundred workers: does the feeder keep all of them busy?"""

from __future__ import annotations

import argparse
import base64
import json
import threading
import time
from pathlib import Path
from typing import Any

import redis

from benchmarks.rig.redis_server import RedisServer, find_redis_server
from benchmarks.scale.synthetic import announced, finish, frozen
from pipeline.errors import ConfigurationError
from worker import keys
from worker.celery_app import UNACKED_KEY, queue_keys
from worker.engines.celery import CeleryEngine
from worker.reconcile import run_to_completion
from worker.settings import load_settings
from worker.store import open_store

WORKERS, SECONDS_AN_IMAGE, IMAGES = 200, 0.4, 40_000


def measure_workers(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Images done in a minute and a half, against as many as two hundred workers can do."""
    images = arguments.images or IMAGES
    program = find_redis_server()
    if program is None:
        raise ConfigurationError("this is measured with a redis-server, and there is none")
    store = open_store(str(folder / "out"), create=True)
    run = frozen(store, images)
    server = RedisServer(program, folder)
    server.start()
    settings = load_settings(broker_url=server.url, window=8 * WORKERS)
    stop = threading.Event()
    workers = [
        threading.Thread(target=_work, args=(server.port, store.path, stop)) for _ in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    try:
        started = time.monotonic()
        with announced(settings, WORKERS), CeleryEngine(settings) as engine:
            state = run_to_completion(store, run, engine, settings=settings)
        seconds = time.monotonic() - started
    finally:
        stop.set()
        for worker in workers:
            worker.join()
        server.kill()
    ideal = images * SECONDS_AN_IMAGE / WORKERS
    return {
        "workers": WORKERS,
        "images": state.ok,
        "seconds": round(seconds, 1),
        "ideal_seconds": round(ideal, 1),
        "share_of_ideal": round(ideal / seconds, 3),
    }


def _work(port: int, store: Path, stop: threading.Event) -> None:
    """A worker that sleeps through each image."""
    client = redis.Redis(port=port)
    while not stop.is_set():
        found = client.brpop(queue_keys(), timeout=1)
        if found is None:
            continue
        message = json.loads(found[1])
        # As kombu notes what was taken, which the feeder counts.
        tag = message["properties"]["delivery_tag"]
        client.hset(UNACKED_KEY, tag, found[1])
        body = json.loads(base64.b64decode(message["body"]))[1]
        for row in body["rows"]:
            time.sleep(SECONDS_AN_IMAGE)
            finish(store, body["run_id"], body["shard"] * keys.SHARD_ROWS + row)
        client.hdel(UNACKED_KEY, tag)
