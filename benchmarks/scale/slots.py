"""Real images: a plain loop against the engines, and one process against two."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks.rig.redis_server import RedisServer, find_redis_server
from pipeline.bundle import default_bundle, read_model_record
from pipeline.errors import ConfigurationError
from pipeline.results import AnalysisOptions
from worker.compute import COMPUTE_ENVIRONMENT
from worker.engines import Engine, open_engine
from worker.manifest import freeze
from worker.planning import plan
from worker.reconcile import run_to_completion
from worker.settings import Settings, load_settings
from worker.store import open_store

IMAGES, WARM_UP = 120, 8

#: What somebody would write who has no use for runs, stores and reports.
LOOP = """
import sys, time
from pathlib import Path
from pipeline.analyse import open_analyser
from pipeline.bundle import default_bundle
from pipeline.results import AnalysisOptions
options = AnalysisOptions.model_validate({"explain": sys.argv[1]})
analyse = open_analyser(str(default_bundle()), options)
paths = [Path(line) for line in sys.stdin.read().splitlines()]
for path in paths[:4]:
    analyse(path.read_bytes())
print("ready", flush=True)
sys.stdin = open("/dev/fd/3")
sys.stdin.readline()
started = time.monotonic()
for path in paths:
    analyse(path.read_bytes())
print(time.monotonic() - started, flush=True)
"""


def measure_slots(
    folder: Path, arguments: argparse.Namespace, explain: Literal["all", "none"]
) -> dict[str, Any]:
    """Seconds without start-up, medians of rounds in which each way has its turn."""
    if arguments.data is None:
        raise ConfigurationError("the slots are measured on real images: name --data")
    images = _archive(arguments.data, folder / "archive", arguments.images or IMAGES)
    program = find_redis_server()
    if program is None:
        raise ConfigurationError("Celery is measured with a redis-server, and there is none")
    server = RedisServer(program, folder)
    server.start()
    taken: dict[str, list[float]] = {}
    options = AnalysisOptions(explain=explain)
    engine = partial(_engine, folder / "archive", options)
    celery = partial(_celery, folder / "archive", options)
    try:
        for number in range(arguments.rounds):
            here = folder / f"round-{number}"
            measured = {
                "loop": _loops([images], explain),
                "local_1": engine(here / "local-1", processes=1),
            }
            # Before and after: a machine that becomes slower meanwhile is nobody's fault.
            before = _loops([images[::2], images[1::2]], explain)
            measured["celery_2"] = celery(here / "celery-2", server)
            measured["local_2"] = engine(here / "local-2", processes=2)
            after = _loops([images[::2], images[1::2]], explain)
            measured["two_loops"] = (before + after) / 2
            for name, seconds in measured.items():
                taken.setdefault(name, []).append(seconds)
    finally:
        server.kill()
    medians = {name: statistics.median(found) for name, found in taken.items()}
    return {
        "images": len(images),
        "rounds": arguments.rounds,
        **{f"{name}_seconds": round(value, 1) for name, value in medians.items()},
        "celery_2_to_two_loops": _ratio(taken, "celery_2", "two_loops"),
        "local_2_to_two_loops": _ratio(taken, "local_2", "two_loops"),
        "local_1_to_local_2": _ratio(taken, "local_1", "local_2"),
        "loop_to_two_loops": _ratio(taken, "loop", "two_loops"),
        "celery_2_to_local_2": _ratio(taken, "celery_2", "local_2"),
    }


def _ratio(taken: dict[str, list[float]], first: str, second: str) -> float:
    """Median of the ratios within each round."""
    pairs = zip(taken[first], taken[second], strict=True)
    return round(statistics.median(one / other for one, other in pairs), 3)


def _archive(data: Path, archive: Path, images: int) -> list[Path]:
    """So many images, spread over the classes."""
    found = sorted(data.glob("taleqani/*/*.jpg"))
    chosen = found[:: max(1, len(found) // images)][:images]
    for path in chosen:
        target = archive / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return sorted(archive.glob("*/*.jpg"))


def _loops(parts: list[list[Path]], explain: str) -> float:
    """Plain loops side by side, all of them started at once after their models are loaded."""
    started = []
    for part in parts:
        read, write = os.pipe()
        process = subprocess.Popen(
            [
                "/bin/sh",
                "-c",
                f'exec 3<&{read}; exec "$0" -c "$1" "$2"',
                sys.executable,
                LOOP,
                explain,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **COMPUTE_ENVIRONMENT},
            pass_fds=[read],
        )
        os.close(read)
        assert process.stdin is not None
        process.stdin.write("\n".join(str(path) for path in part))
        process.stdin.close()
        started.append((process, write))
    for process, _ in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for _, write in started:
        os.write(write, b"\n")
        os.close(write)
    found = []
    for process, _ in started:
        assert process.stdout is not None
        found.append(float(process.stdout.readline()))
        process.wait()
    return max(found)


def _engine(archive: Path, options: AnalysisOptions, out: Path, **settings: object) -> float:
    """A run by an engine whose processes have their model loaded."""
    chosen = load_settings(**settings)
    with open_engine(chosen) as engine:
        # As many rows at least as there are processes: each of them loads the model.
        warm = out.with_name(f"{out.name}-warm")
        _run(archive, options, warm, engine, chosen, limit=WARM_UP)
        return _run(archive, options, out, engine, chosen)


def _run(
    archive: Path,
    options: AnalysisOptions,
    out: Path,
    engine: Engine,
    settings: Settings,
    limit: int | None = None,
) -> float:
    found = plan(archive)
    rows = list(found.rows())
    bundle = default_bundle()
    store = open_store(str(out), create=True)
    run = freeze(
        store,
        rows[:limit],
        root=found.root.as_uri(),
        bundle=str(bundle),
        model=read_model_record(bundle),
        options=options,
        ignored=0,
    )
    started = time.monotonic()
    state = run_to_completion(store, run, engine, settings=settings)
    assert state.ok == run.images
    return time.monotonic() - started


def _celery(archive: Path, options: AnalysisOptions, out: Path, server: RedisServer) -> float:
    with _worker(server):
        return _engine(archive, options, out, broker_url=server.url)


@contextmanager
def _worker(server: RedisServer) -> Iterator[None]:
    """``screen worker`` with two processes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "worker", "--processes", "2", "--log-level", "ERROR"],
        env={**os.environ, "SCREEN_BROKER_URL": server.url},
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()
