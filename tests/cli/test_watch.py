"""``screen watch`` as a service, on a folder and on a bucket whose events reach a queue."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from benchmarks.rig.laboratory import wait_until
from tests.cli.conftest import Screen
from worker import s3
from worker.place import Place

OFTEN = ("--every", "0.3", "--still", "0.5", "--quiet", "1")


@contextmanager
def services(screen: Screen, source: str | Path, out: str | Path, *more: str) -> Iterator[None]:
    """A watcher and a feeder, stopped as an administrator stops them."""
    started = [
        screen.start("watch", source, "--out", out, *(more or OFTEN)),
        screen.start("feed", "--out", out),
    ]
    try:
        yield
    except BaseException as error:
        error.add_note("\n".join(_stopped(started)))
        raise
    said = _stopped(started)
    assert [service.returncode for service in started] == [0, 0], said
    assert "P1" not in "".join(said)


def _stopped(services: list[subprocess.Popen[str]]) -> list[str]:
    """What each of them said."""
    for service in services:
        service.send_signal(signal.SIGTERM)
    return [service.communicate(timeout=30)[1] for service in services]


def test_what_arrives_in_a_folder_is_reported(screen: Screen) -> None:
    screen.add("P1/a.jpg")
    report = screen.out / "patients" / "P1" / "report.json"
    with services(screen, screen.slides, screen.out):
        wait_until(report.exists, 60, "the first report")
        screen.add("P1/b.jpg", "P2/c.jpg")
        wait_until(lambda: b"b.jpg" in report.read_bytes(), 60, "the second image")
        wait_until((screen.out / "patients" / "P2" / "report.json").exists, 60, "the other patient")
    earlier = screen.out / "patients" / "P1" / "revisions" / "001" / "report.json"
    assert len(json.loads(earlier.read_bytes())["images"]) == 1
    assert screen.computed() == 3
    assert "P2" in (screen.out / "index.html").read_text()


def test_a_second_watcher_takes_over(screen: Screen) -> None:
    first = screen.start("watch", screen.slides, *OFTEN)
    lease = screen.out / "store" / "lease"
    wait_until(lambda: lease.exists() and any(lease.iterdir()), 60, "the first watcher")
    second = screen.start("watch", screen.slides, *OFTEN)
    try:
        first.kill()
        first.wait()
        screen.add("P1/a.jpg")
        wait_until(lambda: bool(screen.json("runs")["runs"]), 60, "the run")
    finally:
        second.send_signal(signal.SIGTERM)
        second.communicate(timeout=30)
    assert second.returncode == 0


def test_what_arrives_in_a_bucket_is_reported_there(screen: Screen, bucket: str) -> None:
    s3.client().put_object(Bucket=bucket, Key="in/P1/a.jpg", Body=b"image a")
    s3.client().put_object(Bucket=bucket, Key="in/P1/_complete", Body=b"")
    place = Place(bucket, "out/")
    move = ("--when-reported", "move", "--move-to", f"s3://{bucket}/done")
    with services(screen, f"s3://{bucket}/in", f"s3://{bucket}/out", *OFTEN, *move):
        wait_until(
            lambda: s3.read(place, "out/patients/P1/report.json") is not None, 60, "the report"
        )
        wait_until(lambda: s3.read(place, "in/P1/a.jpg") is None, 60, "the move")
    assert s3.read(place, "done/P1/a.jpg") == b"image a"
    assert s3.read(place, "out/index.html") is not None


def test_a_notification_makes_it_look_at_once(screen: Screen, bucket: str) -> None:
    queue = boto3.session.Session().client("sqs")
    url = queue.create_queue(QueueName=f"events-{uuid4().hex[:8]}")["QueueUrl"]
    seldom = ("--every", "3600", "--still", "0", "--quiet", "0", "--queue", url)
    place = Place(bucket, "out/")
    with services(screen, f"s3://{bucket}/in", f"s3://{bucket}/out", *seldom):
        wait_until(lambda: any(s3.keys_below(bucket, "out/store/lease/")), 60, "the first look")
        s3.client().put_object(Bucket=bucket, Key="in/P1/a.jpg", Body=b"image a")
        # What it says is not believed: rubbish and doubles do no harm.
        for body in ("rubbish", json.dumps({"Records": []}), "rubbish"):
            queue.send_message(QueueUrl=url, MessageBody=body)
        wait_until(
            lambda: s3.read(place, "out/patients/P1/report.json") is not None, 90, "the report"
        )
    waiting = queue.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert waiting["ApproximateNumberOfMessages"] == "0"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--move-to", "done"], "for --when-reported move"),
        (["--when-reported", "move", "--move-to", "done", "--patients", "p.csv"], "--patients"),
        (["--when-reported", "tag"], "files have no tags"),
    ],
)
def test_what_makes_no_sense_is_refused(screen: Screen, options: list[str], says: str) -> None:
    screen.add("P1/a.jpg")
    result = screen("watch", screen.slides, *options)
    assert result.exit_code != 0
    assert says in result.stderr
