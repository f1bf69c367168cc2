"""A night in a laboratory, as one test: images trickle into a bucket, and things die."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks.rig.laboratory import wait_until
from benchmarks.rig.redis_server import RedisServer
from tests.cli.conftest import Screen
from tests.cli.test_buckets import local_reports, published
from worker import s3
from worker.place import Place

PATIENTS, IMAGES = 12, 3

#: Waits that fit a night of a minute.
WATCH = ("--every", "0.5", "--still", "0.5", "--quiet", "2")
LIMITS = {
    "SCREEN_SOFT_LIMIT_SECONDS": "20",
    "SCREEN_HARD_LIMIT_SECONDS": "30",
    "SCREEN_VISIBILITY_TIMEOUT_SECONDS": "150",
    "SCREEN_LEASE_SECONDS": "60",
}


class Night:
    """A bucket, its local copy, and the services at work."""

    def __init__(self, screen: Screen, bucket: str, server: RedisServer) -> None:
        self.screen, self.bucket, self.server = screen, bucket, server
        self.out = f"s3://{bucket}/reports"

    def arrive(self, name: str, content: str) -> None:
        """An image comes into the bucket, and into the copy that is screened in the morning."""
        path = self.screen.slides / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        s3.client().put_object(Bucket=self.bucket, Key=f"in/{name}", Body=content.encode())

    def close(self, patient: str) -> None:
        s3.client().put_object(Bucket=self.bucket, Key=f"in/{patient}/_complete", Body=b"")

    def start(self, *command: str) -> subprocess.Popen[str]:
        environment = {**LIMITS, "SCREEN_BROKER_URL": self.server.url}
        return self.screen.start(*command, env=environment)

    def images_of(self, patient: str) -> int:
        """Images in the patient's report; none if there is no report yet."""
        place = Place(self.bucket, "reports/")
        data = s3.read(place, f"reports/patients/{patient}/report.json") or b""
        return data.count(b'"sha256":"')


@contextmanager
def at_work(*started: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        for one in started:
            one.send_signal(signal.SIGTERM)
        for one in started:
            one.communicate(timeout=60)


@pytest.mark.timeout(400)
def test_in_the_morning_every_report_is_there(
    screen: Screen, bucket: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    night = Night(screen, bucket, redis_server)
    (screen.bundle / "delay").write_text("0.1")
    names = [f"P{patient:02}/{image}.jpg" for image in range(IMAGES) for patient in range(PATIENTS)]
    random.Random(2025).shuffle(names)
    with ExitStack() as services:
        doomed = night.start("worker", "--processes", "1", "--log-level", "ERROR")
        services.enter_context(
            at_work(
                night.start("watch", f"s3://{bucket}/in", "--out", night.out, *WATCH),
                night.start("feed", "--out", night.out),
                night.start("worker", "--processes", "1", "--log-level", "ERROR"),
            )
        )
        for number, name in enumerate(names):
            night.arrive(name, f"image {name}")
            if number == len(names) // 2:
                # Somebody pulls a plug, and then another.
                doomed.kill()
                doomed.communicate()
                redis_server.kill()
                redis_server.start()
        night.arrive("P03/1.jpg", "image replaced")
        for patient in range(PATIENTS):
            night.close(f"P{patient:02}")
        wait_until(
            lambda: all(night.images_of(f"P{one:02}") == IMAGES for one in range(PATIENTS)),
            240,
            "the reports of all patients",
        )
        night.arrive("P07/late.jpg", "image late")
        wait_until(lambda: night.images_of("P07") == IMAGES + 1, 120, "the late image")
    screen("submit", screen.slides)
    here, there = local_reports(screen.out), published(bucket, "reports/")
    for patient in range(PATIENTS):
        report = f"patients/P{patient:02}/report.json"
        assert there[report] == here[report]
    assert there["summary.csv"] == here["summary.csv"]
    assert any(name.startswith("patients/P07/revisions/") for name in there)
