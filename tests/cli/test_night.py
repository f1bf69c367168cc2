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
from pipeline.samples import write_samples
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

#: More for a process that loads the network on a busy machine.
NETWORK_LIMITS = {
    "SCREEN_SOFT_LIMIT_SECONDS": "60",
    "SCREEN_HARD_LIMIT_SECONDS": "90",
    "SCREEN_VISIBILITY_TIMEOUT_SECONDS": "450",
    "SCREEN_LEASE_SECONDS": "180",
}


class NetworkScreen(Screen):
    """The command with the shipped network and everything it says."""

    def environment(self) -> dict[str, str]:
        given = super().environment()
        del given["SCREEN_ANALYSER"], given["SCREEN_BUNDLE"]
        return given


class Night:
    """A bucket, its local copy, and the services at work."""

    def __init__(
        self, screen: Screen, bucket: str, server: RedisServer, limits: dict[str, str]
    ) -> None:
        self.screen, self.bucket, self.server = screen, bucket, server
        self.limits = limits
        self.out = f"s3://{bucket}/reports"

    def arrive(self, name: str, content: bytes) -> None:
        """An image comes into the bucket, and into the copy that is screened in the morning."""
        path = self.screen.slides / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        s3.client().put_object(Bucket=self.bucket, Key=f"in/{name}", Body=content)

    def close(self, patient: str) -> None:
        s3.client().put_object(Bucket=self.bucket, Key=f"in/{patient}/_complete", Body=b"")

    def start(self, *command: str) -> subprocess.Popen[str]:
        environment = {**self.limits, "SCREEN_BROKER_URL": self.server.url}
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
    screen: Screen, bucket: str, redis_server: RedisServer
) -> None:
    (screen.bundle / "delay").write_text("0.1")
    night = Night(screen, bucket, redis_server, LIMITS)
    go_through(night, [f"image {number}".encode() for number in range(PATIENTS * IMAGES + 2)])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_so_it_is_with_the_network(tmp_path: Path, bucket: str, redis_server: RedisServer) -> None:
    write_samples(tmp_path / "samples", patients=PATIENTS + 2, fields=IMAGES + 1)
    fields = sorted((tmp_path / "samples").glob("*/*.*"))
    screen = NetworkScreen(tmp_path / "night")
    night = Night(screen, bucket, redis_server, NETWORK_LIMITS)
    go_through(night, [field.read_bytes() for field in fields])


def go_through(night: Night, contents: list[bytes]) -> None:
    """Let the images come, one after another, and look at the reports in the morning."""
    screen, server, bucket = night.screen, night.server, night.bucket
    names = [f"P{patient:02}/{image}.jpg" for image in range(IMAGES) for patient in range(PATIENTS)]
    random.Random(2025).shuffle(names)
    late, replaced, *usual = contents
    assert len(usual) >= len(names)
    with ExitStack() as services:
        doomed = night.start("worker", "--processes", "1", "--log-level", "ERROR")
        services.enter_context(
            at_work(
                night.start("watch", f"s3://{bucket}/in", "--out", night.out, *WATCH),
                night.start("feed", "--out", night.out),
                night.start("worker", "--processes", "1", "--log-level", "ERROR"),
            )
        )
        for number, (name, content) in enumerate(zip(names, usual, strict=False)):
            night.arrive(name, content)
            if number == len(names) // 2:
                # Somebody pulls a plug, and then another.
                doomed.kill()
                doomed.communicate()
                server.kill()
                server.start()
        night.arrive("P03/1.jpg", replaced)
        for patient in range(PATIENTS):
            night.close(f"P{patient:02}")
        wait_until(
            lambda: all(night.images_of(f"P{one:02}") == IMAGES for one in range(PATIENTS)),
            400,
            "the reports of all patients",
        )
        night.arrive("P07/late.jpg", late)
        wait_until(lambda: night.images_of("P07") == IMAGES + 1, 200, "the late image")
    assert screen("submit", screen.slides).exit_code == 0
    here, there = local_reports(screen.out), published(bucket, "reports/")
    for patient in range(PATIENTS):
        report = f"patients/P{patient:02}/report.json"
        assert there[report] == here[report]
    assert there["summary.csv"] == here["summary.csv"]
    assert any(name.startswith("patients/P07/revisions/") for name in there)
