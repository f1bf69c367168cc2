"""How many images a second are planned and handed out, with workers that take no time."""

from __future__ import annotations

import argparse
import base64
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import redis

from benchmarks.rig.redis_server import RedisServer, find_redis_server
from benchmarks.scale.synthetic import announced, finish, frozen
from pipeline.errors import ConfigurationError
from worker import keys
from worker.celery_app import queue_keys
from worker.engines.celery import CeleryEngine
from worker.planning import plan
from worker.reconcile import run_to_completion
from worker.settings import load_settings
from worker.store import open_store

IMAGES = 100_000


def measure_feeding(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Listing an archive, freezing its manifest, handing its rows out and seeing them finished."""
    images = arguments.images or IMAGES
    program = find_redis_server()
    if program is None:
        raise ConfigurationError("feeding is measured with a redis-server, and there is none")
    archive = folder / "archive"
    for number in range(images):
        if number % 1000 == 0:
            (archive / f"P{number // 1000:04}").mkdir(parents=True)
        (archive / f"P{number // 1000:04}" / f"{number % 1000:03}.jpg").touch()
    started = time.monotonic()
    listed = sum(1 for _ in plan(archive).rows())
    listing = time.monotonic() - started

    store = open_store(str(folder / "out"), create=True)
    started = time.monotonic()
    run = frozen(store, images)
    freezing = time.monotonic() - started

    server = RedisServer(program, folder)
    server.start()
    settings = load_settings(broker_url=server.url, failed_share=1)
    workers = multiprocessing.get_context("spawn").Process(
        target=finish_at_once, args=(server.port, str(store.path)), daemon=True
    )
    workers.start()
    try:
        started = time.monotonic()
        with announced(settings, 1), CeleryEngine(settings) as engine:
            state = run_to_completion(store, run, engine, settings=settings)
        feeding = time.monotonic() - started
    finally:
        workers.kill()
        server.kill()
    return {
        "images": images,
        "listed_per_second": round(listed / listing),
        "frozen_per_second": round(images / freezing),
        "fed_per_second": round(state.ok / feeding),
        "window": settings.window,
    }


def finish_at_once(port: int, store: str) -> None:
    """All workers in one: take every message, and write the outcomes of its rows."""
    client = redis.Redis(port=port)
    while True:
        found = client.brpop(queue_keys(), timeout=1)
        if found is None:
            continue
        body = json.loads(base64.b64decode(json.loads(found[1])["body"]))[1]
        first = body["shard"] * keys.SHARD_ROWS
        for row in body["rows"]:
            finish(Path(store), body["run_id"], first + row)
