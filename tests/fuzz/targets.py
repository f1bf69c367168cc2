"""What strangers hand in, as functions of bytes that raise only where the software is wrong.

Each target says what must hold whatever the bytes are; ``SEEDS`` are inputs from which to start.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from celery.exceptions import Reject
from PIL import Image
from pydantic import ValidationError

from pipeline.decode import DecodeLimits, decode
from pipeline.errors import BadInputError, ConfigurationError
from pipeline.report import patient_directory
from pipeline.report.names import visible
from tests.pipeline.image_files import TRUNCATED, deep, deep_png, field, pages, saved
from worker import tasks, watch
from worker.health import Heartbeat
from worker.listing import source_of
from worker.patients import PatientTable
from worker.place import Place
from worker.presence import handed_out, message_age
from worker.pseudonyms import Pseudonyms
from worker.records import ManifestRow
from worker.settings import Settings, load_settings
from worker.store import check_key

_SMALL = DecodeLimits(max_pixels=200_000)


def decoder(data: bytes) -> None:
    """A file becomes pixels within the limits, or is refused with a reason."""
    with suppress(BadInputError):
        image = decode(data, _SMALL)
        assert image.width * image.height <= _SMALL.max_pixels
        assert image.pixels.shape == (image.height, image.width, 3)


def manifest(data: bytes) -> None:
    """Tables and rows of a manifest are read, or refused in words for a person."""
    with TemporaryDirectory() as folder:
        table = Path(folder, "table.csv")
        table.write_bytes(data)
        with suppress(ConfigurationError):
            read = PatientTable(table)
            for file in read.unused():
                patient = read(file)
                assert patient and patient == patient.strip()
    with suppress(ConfigurationError):
        assert all(isinstance(name, str) for name in watch.names_expected(data))
    with suppress(ValidationError):
        row = ManifestRow.model_validate_json(data)
        assert ManifestRow.model_validate_json(row.model_dump_json()) == row
    if data and b"\0" not in data:
        source, raw = source_of(data)
        assert source.encode() and (raw is None) == (source.encode() == data)


def message(data: bytes) -> None:
    """What a broker says is worked at, returned or dropped."""
    assert message_age(data) >= 0.0
    with suppress(ValidationError):
        beat = Heartbeat.model_validate_json(data)
        assert round(beat.idle_seconds) is not None
        assert visible(beat.host).isprintable()
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(content, dict):
        assert handed_out(content) is None or handed_out(content) == handed_out(content)
        with suppress(Reject):
            tasks.process(**content)


def key(data: bytes) -> None:
    """A name never becomes a path that leads elsewhere, nor a key that names anybody."""
    text = data.decode("utf-8", "surrogateescape")
    name = data.decode("utf-8", "replace")
    directory = patient_directory(name)
    assert directory.isascii() and "/" not in directory and directory not in {"", ".", ".."}
    check_key(f"patients/{Pseudonyms(b'key').patient(name)}.json")
    with suppress(ValueError):
        check_key(text)
        assert ".." not in text.split("/") and not text.startswith("/") and text.isascii()
    for given in (text, f"s3://bucket/in/{name}", f"file:///in/{name}"):
        if _ALLOWED.allows(given):
            _assert_inside(given)


def _assert_inside(uri: str) -> None:
    if uri.startswith("s3://"):
        place = Place.of(uri)
        assert place.bucket == "bucket" and place.prefix.startswith("in/")
        assert not {".", ".."} & set(place.prefix.split("/"))
    else:
        assert uri.startswith("file:")


_ALLOWED: Settings = load_settings(allowed_roots="/in, s3://bucket/in")

TARGETS: dict[str, Callable[[bytes], None]] = {
    "decoder": decoder,
    "manifest": manifest,
    "message": message,
    "key": key,
}

_MESSAGE = {"store": "file:///in/out", "run_id": "0" * 20, "shard": 0, "rows": [0, 1]}

_BEAT = {
    "machine": "host boot 1",
    "process": 1,
    "started": "1",
    "role": "worker",
    "host": "host",
    "state": "idle",
    "processes": 2,
    "busy": 0,
    "waiting": 0,
    "idle_seconds": 1.5,
    "clock": 10.0,
}

SEEDS: dict[str, list[bytes]] = {
    "decoder": [
        *TRUNCATED.values(),
        saved(Image.fromarray(field()).convert("1"), "TIFF", compression="group4"),
        saved(field(), "TIFF", compression="tiff_lzw"),
        deep_png(deep(16), colour=2),
        pages(0, 1),
    ],
    "manifest": [
        b"file,patient\na.jpg,P-1\nb/c.jpg,P-2\n",
        b'sep=;\n"file";patient\r\n"a ""b"".jpg";P\r\n',
        "\ufefffile\tpatient\n\u00fc.jpg\tZo\u00eb\n".encode("utf-16"),
        b"file\n1.jpg\ndeep/2.jpg\n",
        b'{"source":"P/a.jpg","patient":"P","size":1,"version":"1"}',
        b"caf\xe9\\.jpg",
    ],
    "message": [
        json.dumps(_MESSAGE).encode(),
        json.dumps({**_MESSAGE, "store": "s3://bucket/in/%2e%2e/x", "rows": [-1]}).encode(),
        json.dumps({"headers": {"screen_handed_out": 1.5}, "screen_handed_out": 1e400}).encode(),
        json.dumps(_BEAT).encode(),
        b'{"headers": {"screen_handed_out": 1' + b"0" * 400 + b"}}",
        b"[" * 5000,
    ],
    "key": [b"P-17", b"../../etc/passwd", b"%2e%2e/%2e%2e/x", b"runs/0.json", "白血病".encode()],
}
