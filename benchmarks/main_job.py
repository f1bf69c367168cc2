"""The main job on real images: a held-out fold as an archive of patients, screened, checked, timed.

    python -m benchmarks.main_job --data DATA --work DIR [--fold 0] [--explain none] [--out FILE]

``DATA`` holds ``taleqani/<class>/*.jpg`` and ``splits/taleqani.csv``. The images of the fold become
20 patients (five of each class, runs of consecutive images). The archive is then screened

* by the local engine, undisturbed: reports are validated, accuracy and time per image are taken;
* again: nothing may be computed;
* by the local engine, killed with ``kill -9`` in the middle, then again;
* by Celery on a real Redis with two workers (left out with ``--no-celery``);

and the bytes of every ``report.json`` and of ``summary.csv`` are compared with the first run's.
Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema

from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS, MALIGNANT_LABELS, Label
from pipeline.report import report_schema
from pipeline.statistics import wilson_interval
from pipeline.training.data import LabelledImage, read_folds
from worker.runs import load_run, progress
from worker.store import open_store

PATIENTS_PER_CLASS = 5
SCREEN = [sys.executable, "-m", "cli.main"]


def build_archive(images: list[LabelledImage], archive: Path) -> dict[str, Label]:
    """Copy ``images`` into patient folders; returns the class of each patient."""
    truth: dict[str, Label] = {}
    for label in LABELS:
        of_class = [image for image in images if image.label == label]
        for part in range(PATIENTS_PER_CLASS):
            # Numbers are dealt out across the classes so that a name tells nothing.
            patient = f"P-{part * len(LABELS) + LABELS.index(label) + 1:02d}"
            truth[patient] = label
            (archive / patient).mkdir(parents=True)
            start, end = (len(of_class) * step // PATIENTS_PER_CLASS for step in (part, part + 1))
            for image in of_class[start:end]:
                shutil.copy2(image.path, archive / patient / image.path.name)
    return truth


def submit(
    archive: Path, out: Path, options: list[str], **environment: str
) -> subprocess.Popen[bytes]:
    """Start ``screen submit`` in a process group of its own."""
    command = [*SCREEN, "submit", str(archive), "--out", str(out), *options]
    log = out.with_suffix(".log").open("ab")
    return subprocess.Popen(
        command,
        stdout=log,
        stderr=log,
        env={**os.environ, **environment},
        start_new_session=True,
    )


def outcomes(out: Path) -> int:
    """Rows of the run in ``out`` that are finished."""
    try:
        store = open_store(str(out))
        return sum(progress(store, load_run(store)).model_dump()[name] for name in ("ok", "failed"))
    except ConfigurationError:
        return 0  # nothing is frozen yet


def analyses(out: Path) -> dict[str, int]:
    """Every stored analysis and when it was written."""
    found = out.glob("store/results/**/analysis.json")
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in found}


def report_digest(out: Path) -> str:
    """One digest over the bytes of all reports and of the summary."""
    total = hashlib.sha256()
    for path in sorted([*out.glob("patients/*/report.json"), out / "summary.csv"]):
        total.update(str(path.relative_to(out)).encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


@contextmanager
def celery_workers(out: Path, count: int) -> Iterator[str]:
    """A Redis of its own and ``count`` workers of one process each; yields the broker URL."""
    from benchmarks.rig.redis_server import RedisServer, find_redis_server

    program = find_redis_server()
    if program is None:
        raise SystemExit("no redis-server on this machine; --no-celery leaves that step out")
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(program, Path(folder))
        redis.start()
        log = out.with_suffix(".worker.log").open("ab")
        workers = [
            subprocess.Popen(
                [*SCREEN, "worker", "--processes", "1"],
                env={**os.environ, "SCREEN_BROKER_URL": redis.url},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            for _ in range(count)
        ]
        try:
            yield redis.url
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(timeout=60)
            redis.kill()


def check_reports(out: Path, truth: dict[str, Label]) -> dict[str, Any]:
    """Validate every report and compare its images and its call with the truth."""
    validator = jsonschema.Draft202012Validator(report_schema())
    images: list[tuple[Label, dict[str, Any]]] = []
    calls: dict[str, list[str]] = defaultdict(list)
    for path in sorted(out.glob("patients/*/report.json")):
        report = json.loads(path.read_bytes())
        validator.validate(report)
        label = truth[report["patient"]]
        calls[label].append(f"{report['call']} ({report['flag']})")
        images += [(label, image) for image in report["images"]]
    judged = [(label, image) for label, image in images if image["status"] == "ok"]
    high = [pair for pair in judged if pair[1]["confidence"]["flag"] == "high"]
    return {
        "patients": sum(map(len, calls.values())),
        "images": len(images),
        "failed": len(images) - len(judged),
        "accuracy": _share([image["label"] == label for label, image in judged]),
        "high": _share([image["confidence"]["flag"] == "high" for _, image in judged]),
        "wrong_among_high": _share([image["label"] != label for label, image in high]),
        "missed_malignant": _share(
            [
                image["label"] not in MALIGNANT_LABELS
                for label, image in judged
                if label in MALIGNANT_LABELS
            ]
        ),
        "calls": {label: sorted(found) for label, found in calls.items()},
        "white_cells_per_image": statistics.median(len(image["cells"]) for _, image in judged),
    }


def _share(hits: list[bool]) -> dict[str, Any]:
    return {
        "hits": sum(hits),
        "of": len(hits),
        "share": sum(hits) / len(hits) if hits else None,
        "interval": wilson_interval(sum(hits), len(hits)),
    }


def kill_in_the_middle(archive: Path, out: Path, options: list[str], after: int) -> int:
    """Start, ``kill -9`` everything once ``after`` images are done; returns how many were."""
    process = submit(archive, out, options)
    while outcomes(out) < after:
        if process.poll() is not None:
            raise SystemExit(f"finished before it could be killed; see {out.with_suffix('.log')}")
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return outcomes(out)


def main() -> None:
    """Run the steps and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--limit", type=int, help="images per class, for a quick look")
    parser.add_argument("--explain", default="none")
    parser.add_argument("--bundle")
    parser.add_argument("--no-celery", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    work: Path = arguments.work.resolve()
    work.mkdir(parents=True)
    listed = read_folds(arguments.data / "taleqani", arguments.data / "splits" / "taleqani.csv")
    fold = [image for image in listed if image.fold == arguments.fold]
    if arguments.limit:
        fold = [
            image
            for label in LABELS
            for image in [item for item in fold if item.label == label][: arguments.limit]
        ]
    truth = build_archive(fold, work / "archive")
    archive = work / "archive"
    options = ["--explain", arguments.explain]
    options += ["--bundle", arguments.bundle] if arguments.bundle else []

    def timed(out: Path, extra: list[str], **environment: str) -> tuple[float, int]:
        begin = time.perf_counter()
        status = submit(archive, out, options + extra, **environment).wait()
        return time.perf_counter() - begin, status

    first = work / "undisturbed"
    seconds, status = timed(first, [])
    expected = report_digest(first)
    written = analyses(first)
    result: dict[str, Any] = {
        "fold": arguments.fold,
        "explain": arguments.explain,
        "processes": os.cpu_count(),
        "undisturbed": {
            "exit": status,
            "seconds": seconds,
            "seconds_per_image": seconds / len(fold),
            "digest": expected,
            **check_reports(first, truth),
        },
    }

    seconds, status = timed(first, [])
    result["again"] = {
        "exit": status,
        "seconds": seconds,
        "computed": sum(written.get(path) != at for path, at in analyses(first).items()),
        "identical": report_digest(first) == expected,
    }

    killed = work / "killed"
    done = kill_in_the_middle(archive, killed, options, len(fold) // 2)
    _, status = timed(killed, [])
    result["killed"] = {
        "exit": status,
        "done_when_killed": done,
        "identical": report_digest(killed) == expected,
    }

    if not arguments.no_celery:
        distributed = work / "celery"
        with celery_workers(distributed, 2) as broker:
            seconds, status = timed(distributed, [], SCREEN_BROKER_URL=broker)
        result["celery"] = {
            "exit": status,
            "seconds": seconds,
            "identical": report_digest(distributed) == expected,
        }

    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
