"""Images that are too much for a worker, and archives that mean harm."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmarks.faults.trial import Trial
from benchmarks.rig.laboratory import Laboratory
from worker import runs
from worker.results import error_of

#: What each kind of bad image is in its report.
_REASONS = {
    "crash": "crashed_worker",
    "hang": "timed_out",
    "greedy": "out_of_memory",
    "bomb": "too_many_pixels",
}

#: Times an image may be tried, and how much slower the others may be for it.
_EXECUTIONS = 5
_SLOWER = 1 / 0.8

#: A run must be so long that the slowest image does not decide how long it takes.
_MEASURED_IMAGES = 1000

#: An element and an attribute that no page has.
_ELEMENT, _ATTRIBUTE = "x-hostile", "onhostile"
_SECRET = b"image of somebody else entirely"


def poisonous_images(trial: Trial) -> None:
    """Images that crash, hang or exhaust a worker, or would fill its memory when decoded."""
    trial.undisturbed_settings = {"soft_limit_seconds": 4, "hard_limit_seconds": 4}
    bad = {}
    for number in range(trial.strikes):
        kind = list(_REASONS)[number % len(_REASONS)]
        name = f"P{number % trial.patients:02}/{kind}-{number}.jpg"
        content = _bomb(number) if kind == "bomb" else f"{kind} {number}".encode()
        trial.extra[name] = content
        bad[name] = (_REASONS[kind], hashlib.sha256(content).hexdigest())
        trial.strike()
    url = trial.redis().url
    trial.worker(url)
    usual = _seconds_of_others(trial, url) if trial.images >= _MEASURED_IMAGES else None
    feeder = trial.feeder(url)
    trial.finish(feeder)
    found = {
        one.row.source: error_of(trial.laboratory.store, one.outcome)
        for one in runs.outcomes(trial.laboratory.store, trial.run)
        if one.row.source in bad and one.outcome is not None
    }
    wrong = sum(getattr(found.get(name), "reason", None) != bad[name][0] for name in bad)
    trial.claim("bad images without their reason", wrong, 0)
    calls = trial.laboratory.computed()
    most = max(calls.count(digest) for _, digest in bad.values())
    trial.claim("executions of a bad image, at most", most, _EXECUTIONS)
    if usual is not None:
        others = _span(trial, {digest for _, digest in bad.values()})
        trial.claim("time of the others, against without them", others / usual, _SLOWER)


def _bomb(number: int) -> bytes:
    """A PNG of a few bytes that says it has ten thousand million pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes([number % 256]) * 100)
    chunks = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _seconds_of_others(trial: Trial, url: str) -> float:
    """How long the good images take without the bad ones."""
    assert trial.run
    archive = trial.laboratory.archive
    aside = trial.laboratory.folder / "aside"
    # Moved, not written anew: the run knows files by their times.
    for number, name in enumerate(trial.extra):
        (archive / name).rename(aside.with_suffix(f".{number}"))
    Laboratory(trial.laboratory.folder, "alone").screen(broker_url=url, **trial.limits)
    for number, name in enumerate(trial.extra):
        aside.with_suffix(f".{number}").rename(archive / name)
    seconds = _span(trial, set())
    trial.laboratory.forget_calls()
    return seconds


def _span(trial: Trial, without: set[str]) -> float:
    started = [call.started for call in trial.laboratory.calls() if call.digest not in without]
    return started[-1] - started[0]


def hostile_archive(trial: Trial) -> None:
    """Names, keys and metadata that mean harm, and links out of the archive."""
    outside = trial.laboratory.folder / "outside"
    outside.mkdir()
    secret = outside / "secret.jpg"
    secret.write_bytes(_SECRET)
    trial.extra |= _hostile_files()
    for name, target in [("P00/link.jpg", secret), ("P00/linked", outside)]:
        path = trial.laboratory.archive / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    trial.strikes = trial.struck = len(trial.extra) + 2
    url = trial.redis().url
    trial.worker(url, RIG_LOG_LEVEL="DEBUG")
    feeder = trial.feeder(url)
    before = _contents(trial)
    trial.finish(feeder)
    trial.claim("files of the archive or beside it that changed", _differing(trial, before), 0)
    read = trial.laboratory.computed().count(hashlib.sha256(_SECRET).hexdigest())
    trial.claim("files outside the archive that were read", read, 0)
    log = trial.log.read_bytes()
    named = [name for name in trial.extra if _identifying(name) in log]
    trial.claim("patients and files named in logs", len(named), 0)
    pages = trial.laboratory.out.rglob("*.html")
    trial.claim("marks of others that a browser would act on", sum(map(_active, pages)), 0)


def _hostile_files() -> dict[str, bytes]:
    element = f"<{_ELEMENT} {_ATTRIBUTE}=1>"
    patients = [
        f'Hostile "{element}',
        f"Hostile '{_ATTRIBUTE}='1",
        "Hostile ..",
        "Hostile %2e%2e%2f..",
        "Hostile $(touch owned); `id`",
        "Hostile {{7*7}} {% raw %}",
        "Hostile \u202egpj.exe",
        "Hostile line\nbreak\r\nSet-Cookie: a",
        "=HYPERLINK(Hostile)",
        "..Hostile",
    ]
    files = {f"{patient}/a.jpg": b"image " + patient.encode() for patient in patients}
    files[f"P00/{element}.png"] = _picture(element)
    files["P00/<svg onload=1>.svg.png"] = _picture(f"<svg><script {_ATTRIBUTE}=1></svg>")
    return files


def _picture(text: str) -> bytes:
    """A real picture whose metadata is this text, in every place it has."""
    picture = Image.new("RGB", (80, 80), (200, 160, 180))
    exif = Image.Exif()
    exif[0x010E] = exif[0x0131] = exif[0x013B] = text
    chunks = PngInfo()
    chunks.add_text("Title", text)
    chunks.add_itxt("XML:com.adobe.xmp", text)
    file = io.BytesIO()
    picture.save(file, "PNG", exif=exif, pnginfo=chunks)
    return file.getvalue()


def _identifying(name: str) -> bytes:
    """What of a name nobody else would write."""
    patient, _, file = name.partition("/")
    return (patient if "Hostile" in patient else file).encode()


def _contents(trial: Trial) -> dict[Path, bytes]:
    """Everything in the trial's folder that no run may touch."""
    laboratory = trial.laboratory
    mine = {laboratory.out, trial.undisturbed.out, laboratory.bundle, trial.log}
    mine.add(laboratory.folder / "redis")
    return {
        path: path.read_bytes() if path.is_file() else b""
        for top in laboratory.folder.iterdir()
        if top not in mine
        for path in [top, *top.rglob("*")]
    }


def _differing(trial: Trial, before: dict[Path, bytes]) -> int:
    return len(before.items() ^ _contents(trial).items())


class _Marks(HTMLParser):
    """Counts elements and attributes that names or metadata brought into a page."""

    found = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attributes}
        self.found += tag == _ELEMENT or _ATTRIBUTE in names or (tag == "svg" and "onload" in names)


def _active(page: Path) -> int:
    marks = _Marks()
    marks.feed(page.read_text(encoding="utf-8"))
    return marks.found
