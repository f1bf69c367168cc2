"""What a run of a million images needs of memory, and how long its resumption takes."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.rig.redis_server import RedisServer, find_redis_server
from benchmarks.scale.synthetic import OUTCOME, frozen
from pipeline.errors import ConfigurationError
from worker import keys
from worker.feed import feed
from worker.manifest import positions
from worker.runs import load_run, missing_positions, progress, shard_state
from worker.settings import load_settings
from worker.store import open_store

IMAGES = 1_000_000

#: The feeder fills its window and looks around for so long.
_FEEDING_SECONDS = 30.0


def measure_million(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Freeze, feed and resume, each in a process of its own."""
    images = arguments.images or IMAGES
    program = find_redis_server()
    if program is None:
        raise ConfigurationError("this is measured with a redis-server, and there is none")
    out = str(folder / "out")
    submitting = _apart(_submit, out, images)
    server = RedisServer(program, folder)
    server.start()
    try:
        before = server.client.info("memory")["used_memory"]
        feeding = _apart(_feed, out, server.url)
        broker = server.client.info("memory")["used_memory"] - before
    finally:
        server.kill()
    _finish_all_but_one(out)
    # The pages of the folders shall come from the disk, where this user may say so.
    os.sync()
    resuming = _apart(_resume, out)
    return {
        "images": images,
        "submit_seconds": submitting["seconds"],
        "submit_megabytes": submitting["megabytes"],
        "feeder_megabytes": feeding["megabytes"],
        "redis_megabytes": round(broker / 1e6, 1),
        "resume_seconds": resuming["seconds"],
        "resume_missing": resuming["missing"],
        "resume_megabytes": resuming["megabytes"],
    }


def _submit(out: str, images: int) -> dict[str, Any]:
    frozen(open_store(out, create=True), images)
    return {}


def _feed(out: str, broker: str) -> dict[str, Any]:
    """What `screen feed` does, until its window has long been full."""
    stop = threading.Event()
    threading.Timer(_FEEDING_SECONDS, stop.set).start()
    feed([Path(out)], load_settings(broker_url=broker), stop=stop)
    return {}


def _resume(out: str) -> dict[str, Any]:
    """What is looked at before a resumed run hands out its first image."""
    store = open_store(out)
    run = load_run(store)
    state = progress(store, run)
    missing = [
        position
        for shard in range(run.shards)
        for position in missing_positions(run, shard, shard_state(store, run, shard).done)
    ]
    assert state.remaining == len(missing)
    return {"missing": len(missing)}


def _finish_all_but_one(out: str) -> None:
    store = open_store(out)
    run = load_run(store)
    for shard in range(run.shards):
        folder = store.path / keys.done_shard(run.run_id, shard)
        folder.mkdir(parents=True, exist_ok=True)
        for position in positions(run, shard):
            if position:
                (store.path / keys.done(run.run_id, position)).write_bytes(OUTCOME)


def _apart(function: Any, *arguments: Any) -> dict[str, Any]:
    """Call it in a process of its own; what it returns, with its seconds and largest memory."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measured, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    found: dict[str, Any] = ours.recv()
    process.join()
    return found


def _measured(connection: Connection, function: Any, arguments: tuple[Any, ...]) -> None:
    started = time.monotonic()
    found = function(*arguments)
    seconds = round(time.monotonic() - started, 1)
    megabytes = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    connection.send({**found, "seconds": seconds, "megabytes": megabytes})
