"""Archives, stub bundles and runs, and the processes that work at them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from benchmarks.rig.stubs import NETWORK, model_of
from pipeline.results import AnalysisOptions
from worker import s3
from worker.complete import complete
from worker.manifest import freeze
from worker.place import Place
from worker.planning import plan
from worker.records import Progress, RunRecord
from worker.settings import Settings, load_settings
from worker.store import Store, open_store

REPOSITORY = Path(__file__).resolve().parents[2]


class Call(NamedTuple):
    """A call of the analyser: content, process number, and ``time.monotonic()`` at its start."""

    digest: str
    process: int
    started: float


#: File of a laboratory's folder that names the bucket of its archive and reports.
BUCKET = "bucket"


@dataclass(frozen=True)
class Laboratory:
    """An archive, a stub bundle and an output folder below one folder."""

    folder: Path
    out_name: str = "out"

    @property
    def archive(self) -> Path:
        """What is screened."""
        return self.folder / "archive"

    @property
    def bundle(self) -> Path:
        """The stub model: digest, delay and the record of its calls."""
        return self.folder / "bundle"

    @property
    def out(self) -> Path:
        """Reports, and the store below them."""
        return self.folder / self.out_name

    @property
    def store(self) -> Store:
        """The result store, made when it is first asked for."""
        return open_store(str(self.out), create=True)

    def add(self, source: str, content: str | bytes) -> Path:
        """Put a file into the archive."""
        path = self.archive / source
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def fill(self, patients: int, images: int) -> None:
        """An archive of different images."""
        for patient in range(patients):
            for image in range(images):
                self.add(f"P{patient:02}/{image:03}.jpg", f"image {patient} {image}")

    @property
    def has_network(self) -> bool:
        """Whether the real pipeline judges its images."""
        return (self.bundle / NETWORK).exists()

    def slow_down(self, seconds: float) -> None:
        """Let every image take so long from now on."""
        (self.bundle / "delay").write_text(str(seconds))

    def settings(self, **more: object) -> Settings:
        """Settings that use the stub and look around often."""
        given = {
            "analyser": "benchmarks.rig.stubs:open_analyser",
            "processes": 2,
            "reconcile_seconds": 0.5,
            **more,
        }
        return load_settings(**given)

    def freeze(self, options: AnalysisOptions | None = None) -> RunRecord:
        """Submit the archive as it is now."""
        found = plan(self.archive)
        return freeze(
            self.store,
            found.rows(),
            root=found.root.as_uri(),
            bundle=str(self.bundle),
            model=model_of(self.bundle),
            options=options or AnalysisOptions(explain="all" if self.has_network else "none"),
            ignored=found.ignored,
        )

    def screen(self, run: RunRecord | None = None, **settings: object) -> Progress:
        """Submit, work to the end, write reports."""
        run = run or self.freeze()
        return complete(self.store, run, self.out, settings=self.settings(**settings)).state

    def computed(self) -> list[str]:
        """Digests of the contents the analyser was called with."""
        return [call.digest for call in self.calls()]

    def calls(self) -> list[Call]:
        """Every call of the analyser, in order."""
        file = self.bundle / "computed"
        lines = file.read_text().splitlines() if file.exists() else []
        return [
            Call(digest, int(process), float(started))
            for digest, process, started in map(str.split, lines)
        ]

    def forget_calls(self) -> None:
        """Count calls from nought."""
        (self.bundle / "computed").unlink(missing_ok=True)

    def reports(self) -> dict[str, bytes]:
        """Everything a reader gets: names and bytes."""
        return {
            str(path.relative_to(self.out)): path.read_bytes()
            for path in sorted(self.out.rglob("*"))
            if path.is_file() and "store" not in path.relative_to(self.out).parts
        }

    def twice(self) -> Counter[str]:
        """Contents that were computed more than once."""
        return Counter({key: count for key, count in Counter(self.computed()).items() if count > 1})


class BucketLaboratory(Laboratory):
    """The same with archive and reports in a bucket; the stub bundle stays in a folder."""

    @property
    def archive(self) -> Place:
        """What is screened."""
        return Place(self._bucket, "archive/")

    @property
    def out(self) -> Place:
        """Reports, and the store below them."""
        return Place(self._bucket, f"{self.out_name}/")

    def add(self, source: str, content: str | bytes) -> None:
        """Put an object into the archive."""
        data = content.encode() if isinstance(content, str) else content
        s3.client().put_object(Bucket=self._bucket, Key=f"{self.archive.prefix}{source}", Body=data)

    def reports(self) -> dict[str, bytes]:
        """Everything a reader gets: names and bytes."""
        start = self.out.prefix
        return {
            key.removeprefix(start): s3.read(self.out, key)
            for key in s3.keys_below(self._bucket, start)
            if not key.startswith(f"{start}store/")
        }

    @property
    def _bucket(self) -> str:
        return (self.folder / BUCKET).read_text()


def open_laboratory(folder: Path, out_name: str = "out") -> Laboratory:
    """One that was made, with its archive in a folder or in a bucket."""
    kind = BucketLaboratory if (folder / BUCKET).exists() else Laboratory
    return kind(folder, out_name)


def make_laboratory(folder: Path, out_name: str = "out") -> Laboratory:
    """An empty archive and a stub bundle that takes no time."""
    made = Laboratory(folder, out_name)
    made.archive.mkdir(parents=True, exist_ok=True)
    made.bundle.mkdir(exist_ok=True)
    (made.bundle / "digest").write_text("d" * 64)
    made.slow_down(0)
    return made


def wait_until(condition: Callable[[], bool], seconds: float = 30, what: str = "") -> None:
    """Wait for something that has to happen."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"did not happen within {seconds} s: {what}")
        time.sleep(0.02)


def python(
    code: str, *arguments: str, output: IO[bytes] | None = None, **environment: str
) -> subprocess.Popen[bytes]:
    """Another Python process with this repository's packages, in a process group of its own."""
    given = (environment.pop("PYTHONPATH", ""), str(REPOSITORY), os.environ.get("PYTHONPATH", ""))
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, given)), **environment},
        cwd=REPOSITORY,
        start_new_session=True,
        stdout=output,
        stderr=output,
    )


#: Does what ``screen submit`` does, as a process that can be killed.
SUBMIT = """
import sys
from pathlib import Path
from benchmarks.rig.laboratory import open_laboratory
open_laboratory(Path(sys.argv[1]), sys.argv[2]).screen(
    **dict(pair.split("=") for pair in sys.argv[3:]))
"""

#: Does what ``screen worker`` does.
WORK = """
import os
import sys
from worker.celery_app import run_worker
from worker.settings import load_settings
if __name__ == "__main__":
    sys.exit(run_worker(load_settings(), log_level=os.environ.get("RIG_LOG_LEVEL", "WARNING")))
"""


def submit_process(
    laboratory: Laboratory,
    *settings: str,
    output: IO[bytes] | None = None,
    **environment: str,
) -> subprocess.Popen[bytes]:
    """``screen submit`` as a process of its own."""
    arguments = (str(laboratory.folder), laboratory.out_name, *settings)
    return python(SUBMIT, *arguments, output=output, **environment)
