"""What ``screen doctor`` looks at: each check gives a verdict, what it saw, and the mend."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pipeline.errors import ConfigurationError, ScreenError
from worker.place import Place

if TYPE_CHECKING:
    from worker.settings import Settings

Verdict = Literal["PASS", "WARN", "FAIL"]

#: Python versions for which every dependency is locked and tested.
PYTHON_VERSIONS = ((3, 11), (3, 13))

#: A process that has loaded TensorFlow and a bundle, and explains an image.
PROCESS_BYTES = 1_200_000_000

#: Below this the store may fill up within a night: a result with its pictures takes up to 1 MB.
LOW_SPACE_BYTES = 5_000_000_000
NO_SPACE_BYTES = 200_000_000

TENSORFLOW_SECONDS = 180

_LOCK_LINE = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?P<rest>.*)$")


class Check(NamedTuple):
    """One verdict. ``mend`` says what to do unless it is PASS."""

    name: str
    verdict: Verdict
    seen: str
    mend: str = ""


def check_python() -> Check:
    """The interpreter."""
    seen = f"{sys.version.split()[0]} at {sys.executable}"
    lowest, highest = PYTHON_VERSIONS
    if lowest <= sys.version_info[:2] <= highest:
        return Check("python", "PASS", seen)
    text = f"install Python {lowest[0]}.{lowest[1]} to {highest[0]}.{highest[1]}"
    return Check("python", "FAIL", seen, text)


def check_versions(lock: Path | None = None) -> Check:
    """Installed packages against the lock file of the checkout, where there is one."""
    lock = lock or Path(__file__).resolve().parent.parent / "requirements.lock"
    if not lock.is_file():
        return Check(
            "versions",
            "WARN",
            "no requirements.lock beside the software, so the versions cannot be compared",
            "results are the same to the byte only on the locked versions: install those "
            "(pip install -r requirements.lock) where several machines work together",
        )
    wanted = _locked(lock)
    missing, other = [], []
    for name, (versions, optional) in sorted(wanted.items()):
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            if not optional:
                missing.append(name)
            continue
        if installed not in versions:
            other.append(f"{name} {installed} instead of {' or '.join(sorted(versions))}")
    mend = f"{sys.executable} -m pip install --require-hashes -r {lock}"
    if missing:
        return Check("versions", "FAIL", f"not installed: {', '.join(missing)}", mend)
    if other:
        return Check("versions", "WARN", f"not as locked: {', '.join(other)}", mend)
    return Check("versions", "PASS", f"{len(wanted)} packages as locked")


def check_tensorflow() -> Check:
    """Whether TensorFlow can be imported; in another process, which it may kill."""
    started = time.monotonic()
    command = [sys.executable, "-c", "import tensorflow as tf; print(tf.__version__)"]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TENSORFLOW_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check(
            "tensorflow",
            "FAIL",
            f"importing it took more than {TENSORFLOW_SECONDS} s",
            "look at the load of this machine and the disk that Python is installed on",
        )
    if done.returncode == 0:
        seconds = time.monotonic() - started
        return Check("tensorflow", "PASS", f"{done.stdout.strip()}, imported in {seconds:.1f} s")
    if done.returncode < 0:
        seen = f"importing it ended with signal {-done.returncode}"
        mend = "the processor may be too old for it: it needs AVX"
    else:
        seen = (done.stderr.strip().splitlines() or ["it cannot be imported"])[-1]
        mend = f"{sys.executable} -m pip install --force-reinstall tensorflow"
    return Check("tensorflow", "FAIL", seen, mend)


def check_bundle(settings: Settings) -> Check:
    """Whether the model is there and is the one that was tested."""
    from pipeline.bundle import find_bundle, load_bundle

    directory = find_bundle(settings.bundle)
    try:
        bundle = load_bundle(directory)
    except ScreenError as error:
        return Check("bundle", "FAIL", str(error), "name another with SCREEN_BUNDLE or --bundle")
    return Check("bundle", "PASS", f"{bundle.model.name}, {bundle.digest[:12]}, in {directory}")


def check_store(out: Path | Place) -> Iterator[Check]:
    """Whether reports and results can be written, and how."""
    from worker.store import open_store

    if isinstance(out, Place):
        yield _bucket(out)
        return
    if (out / "store").exists():
        try:
            open_store(str(out))
        except ScreenError as error:
            yield Check("store", "FAIL", str(error), "name another folder with --out")
            return
        yield Check("store", "PASS", f"{out / 'store'} is of this version")
    else:
        yield Check("store", "PASS", f"{out} has no results yet; `screen submit` makes it")
    existing = next(
        folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists()
    )
    yield _writable(existing)
    yield _space(existing)


def _bucket(place: Place) -> Check:
    """Whether the bucket can be written, and whether it refuses to write twice."""
    from worker.s3 import has_conditional_puts

    try:
        conditional = has_conditional_puts(place)
    except ScreenError as error:
        mend = "look at AWS_ENDPOINT_URL_S3, AWS_REGION, the credentials and their policy"
        return Check("store", "FAIL", str(error), mend)
    if conditional:
        return Check("store", "PASS", f"{place} is writable and has conditional puts")
    return Check(
        "store",
        "PASS",
        f"{place} is writable, without conditional puts: of two results of an image, which are the "
        "same, the later stays",
    )


def _writable(folder: Path) -> Check:
    try:
        with tempfile.TemporaryDirectory(prefix=".screen-doctor-", dir=folder) as temporary:
            first, second = Path(temporary, "a"), Path(temporary, "b")
            first.write_bytes(b"x")
            try:
                second.hardlink_to(first)
            except OSError as error:
                return Check(
                    "writing",
                    "PASS",
                    f"{folder} is writable, without hard links ({error.strerror}): claims are used "
                    "instead, which is slower",
                )
    except OSError as error:
        return Check(
            "writing",
            "FAIL",
            f"{folder}: {error.strerror}",
            "give this user permission to write there, or name another folder with --out",
        )
    return Check("writing", "PASS", f"{folder} is writable and has hard links")


def _space(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    seen = f"{free / 1e9:.1f} GB free in {folder}"
    if free < NO_SPACE_BYTES:
        return Check("space", "FAIL", seen, "make room, or name another folder with --out")
    if free < LOW_SPACE_BYTES:
        mend = "enough for a few thousand images with explanations; make room for more"
        return Check("space", "WARN", seen, mend)
    return Check("space", "PASS", seen)


def check_broker(settings: Settings) -> Check:
    """Whether the broker answers and keeps what it takes."""
    if settings.broker_url is None:
        seen = "none is configured: the processes of this machine do the work"
        return Check("broker", "PASS", seen)
    from worker import broker

    try:
        found = broker.check_broker(settings)
    except ConfigurationError as error:
        return Check("broker", "FAIL", str(error), "start or mend it as said")
    seen = f"Redis {found.version} at {broker.shown(settings)}"
    if found.policy is None:
        mend = "make sure that maxmemory-policy is noeviction"
        return Check("broker", "WARN", f"{seen}; maxmemory-policy UNKNOWN: it hides it", mend)
    seen += f", maxmemory-policy {found.policy}"
    if not found.append_only:
        known = "UNKNOWN whether it has" if found.append_only is None else "it has no"
        mend = "nothing is lost without one, but time if Redis dies: set `appendonly yes`"
        return Check("broker", "WARN", f"{seen}; {known} append-only file", mend)
    return Check("broker", "PASS", f"{seen}, append-only file")


def check_roots(settings: Settings) -> Check:
    """Whether a worker is told where it may go, so that a message cannot lead it elsewhere."""
    if settings.allowed_roots is not None:
        return Check("roots", "PASS", f"workers may go to {settings.allowed_roots}")
    if settings.broker_url is None:
        return Check("roots", "PASS", "no broker leads a worker anywhere")
    mend = "set SCREEN_ALLOWED_ROOTS to the folders or buckets of archive and reports"
    return Check("roots", "WARN", "workers go wherever a message says", mend)


def check_machine(settings: Settings) -> Check:
    """Whether so many processes fit into the memory."""
    processors = len(os.sched_getaffinity(0))
    available = available_memory()
    needed = settings.processes * PROCESS_BYTES
    seen = (
        f"{processors} processors, {available / 1e9:.1f} GB of memory free, "
        f"{settings.processes} processes"
    )
    if needed > available:
        fitting = max(1, available // PROCESS_BYTES)
        return Check(
            "machine",
            "WARN",
            seen,
            f"they may need {needed / 1e9:.1f} GB: set SCREEN_PROCESSES={fitting}",
        )
    if settings.processes > processors:
        mend = f"more processes than processors gain nothing: set SCREEN_PROCESSES={processors}"
        return Check("machine", "WARN", seen, mend)
    return Check("machine", "PASS", seen)


def available_memory(
    meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")
) -> int:
    """Bytes this process may still get: what the machine has left, and its container allows."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text("ascii"))
    available = int(found[1]) * 1024 if found else 0
    try:
        limit = (cgroup / "memory.max").read_text("ascii").strip()
        used = int((cgroup / "memory.current").read_text("ascii"))
    except FileNotFoundError:
        return available  # not in a container with a limit
    return available if limit == "max" else min(available, int(limit) - used)


def check_settings(environment: dict[str, str]) -> tuple[Settings | None, Check]:
    """Whether the settings are valid, and none is misspelt."""
    from worker.settings import Settings, load_settings

    known = {f"SCREEN_{name.upper()}" for name in Settings.model_fields} | {
        "SCREEN_OUT",
        "SCREEN_FEED",
        "SCREEN_TEST_DATA",
    }
    try:
        settings = load_settings()
    except ConfigurationError as error:
        return None, Check("settings", "FAIL", str(error), "mend the variable that is named")
    unknown = sorted(
        name for name in environment if name.startswith("SCREEN_") and name.upper() not in known
    )
    if unknown:
        mend = f"nothing reads them; the settings are: {', '.join(sorted(known))}"
        return settings, Check("settings", "WARN", f"unknown: {', '.join(unknown)}", mend)
    return settings, Check("settings", "PASS", "valid")


def origins(settings: Settings, environment: dict[str, str]) -> dict[str, dict[str, str]]:
    """Value of each setting and where it came from; passwords are not shown."""
    given = {name.upper() for name in environment}
    shown = {}
    for name in type(settings).model_fields:
        variable = f"SCREEN_{name.upper()}"
        value = getattr(settings, name)
        if name == "broker_url" and value is not None:
            from worker.broker import shown as without_password

            value = without_password(settings)
        origin = "environment" if variable in given else "default"
        shown[variable] = {"value": "" if value is None else str(value), "from": origin}
    return shown


def _locked(lock: Path) -> dict[str, tuple[set[str], bool]]:
    """Versions of each locked package, and whether it is only for some platforms."""
    wanted: dict[str, tuple[set[str], bool]] = {}
    for line in lock.read_text("utf-8").splitlines():
        match = _LOCK_LINE.match(line)
        if match:
            versions, optional = wanted.get(match["name"], (set(), False))
            wanted[match["name"]] = (
                versions | {match["version"]},
                optional or ";" in match["rest"],
            )
    return wanted
