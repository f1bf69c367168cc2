from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import BadInputError, ConfigurationError, RetryableError
from worker import archive
from worker.archive import FileFaultError, read_row_bytes
from worker.listing import source_of
from worker.records import ManifestRow


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "archive"
    made.mkdir()
    return made


def place(root: Path, name: str | bytes) -> Path:
    """Path of a file whose name may be any bytes."""
    return root / os.fsdecode(name)


def listed(root: Path, name: str | bytes) -> ManifestRow:
    """The row of a file as it is now."""
    found = place(root, name).stat()
    source, raw = source_of(os.fsencode(name))
    return ManifestRow(
        source=source,
        raw=raw,
        patient="P1",
        size=found.st_size,
        version=str(found.st_mtime_ns),
    )


def read(root: Path, row: ManifestRow, max_bytes: int = 10_000) -> bytes:
    return read_row_bytes(root.as_uri(), row, max_bytes=max_bytes)


def refusal(root: Path, row: ManifestRow, max_bytes: int = 10_000) -> str:
    with pytest.raises(BadInputError) as caught:
        read(root, row, max_bytes)
    assert str(root) not in str(caught.value)
    return caught.value.reason


def test_a_file_is_read(root: Path) -> None:
    (root / "P1").mkdir()
    (root / "P1" / "a.jpg").write_bytes(b"content")
    assert read(root, listed(root, "P1/a.jpg")) == b"content"


def test_an_empty_file_is_read(root: Path) -> None:
    (root / "a.jpg").touch()
    assert read(root, listed(root, "a.jpg")) == b""


NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: not {b"/", b"\0"} & {bytes([byte]) for byte in name} and name not in (b".", b"..")
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(NAMES)
def test_every_name_a_file_can_have_is_read(root: Path, name: bytes) -> None:
    place(root, name).write_bytes(name)
    assert read(root, listed(root, name)) == name
    place(root, name).unlink()


@pytest.mark.parametrize(
    "name", ["with space.jpg", "line\nbreak.jpg", "Ünïcödé 白血病.jpg", "100%25.jpg", "a\\b.jpg"]
)
def test_awkward_names_and_roots(tmp_path: Path, name: str) -> None:
    root = tmp_path / f"root {name}"
    root.mkdir()
    (root / name).write_bytes(b"content")
    assert read(root, listed(root, name)) == b"content"


def test_a_root_that_is_not_utf8(tmp_path: Path) -> None:
    root = place(tmp_path, b"r\xff")
    root.mkdir()
    (root / "a.jpg").write_bytes(b"content")
    row = listed(root, "a.jpg")
    uri = "file://" + quote_from_bytes(os.fsencode(root))
    assert read_row_bytes(uri, row, max_bytes=100) == b"content"


def test_a_path_longer_than_the_system_allows(root: Path) -> None:
    row = ManifestRow(source="x" * 300 + ".jpg", patient="P1", size=1, version="1")
    assert refusal(root, row) == "unreadable"
    deep = ManifestRow(source="/".join(["d" * 200] * 40), patient="P1", size=1, version="1")
    assert refusal(root, deep) in {"unreadable", "missing"}


# --- out of the root -------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.jpg"
    path.write_bytes(b"not of this archive")
    return path


def test_a_link_out_of_the_root_is_not_read(root: Path, secret: Path) -> None:
    (root / "a.jpg").symlink_to(secret)
    assert refusal(root, listed(root, "a.jpg")) == "outside_root"


def test_a_relative_link_out_of_the_root_is_not_read(root: Path, secret: Path) -> None:
    (root / "a.jpg").symlink_to(Path("..") / secret.name)
    assert refusal(root, listed(root, "a.jpg")) == "outside_root"


def test_a_folder_that_is_a_link_out_of_the_root_is_not_entered(root: Path, secret: Path) -> None:
    (root / "P1").symlink_to(secret.parent)
    assert refusal(root, listed(root, f"P1/{secret.name}")) == "outside_root"


@pytest.mark.parametrize("source", ["../secret.jpg", "P1/../../secret.jpg"])
def test_a_manifest_cannot_name_a_file_outside(root: Path, secret: Path, source: str) -> None:
    (root / "P1").mkdir()
    row = listed(root, source)
    assert refusal(root, row) == "outside_root"


def test_an_absolute_name_stays_below_the_root(root: Path, secret: Path) -> None:
    row = ManifestRow(source=str(secret), patient="P1", size=19, version="1")
    assert refusal(root, row) == "missing"


def test_a_folder_beside_the_root_with_a_longer_name_is_outside(root: Path) -> None:
    other = root.with_name("archive-other")
    other.mkdir()
    (other / "a.jpg").write_bytes(b"x")
    (root / "a.jpg").symlink_to(other / "a.jpg")
    assert refusal(root, listed(root, "a.jpg")) == "outside_root"


def test_a_link_inside_the_root_is_followed(root: Path) -> None:
    (root / "P1").mkdir()
    (root / "P1" / "a.jpg").write_bytes(b"content")
    (root / "b.jpg").symlink_to("P1/a.jpg")
    (root / "P2").symlink_to("P1")
    assert read(root, listed(root, "b.jpg")) == b"content"
    assert read(root, listed(root, "P2/a.jpg")) == b"content"


def test_a_root_that_is_itself_a_link_is_read(root: Path) -> None:
    (root / "a.jpg").write_bytes(b"content")
    link = root.with_name("link")
    link.symlink_to(root)
    assert read(link, listed(root, "a.jpg")) == b"content"


def test_a_folder_exchanged_for_a_link_while_it_is_opened_leads_nowhere(
    root: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race that checking a path before opening it cannot win."""
    (root / "P1").mkdir()
    (root / "P1" / secret.name).write_bytes(secret.read_bytes())
    os.utime(root / "P1" / secret.name, ns=(0, secret.stat().st_mtime_ns))
    row = listed(root, f"P1/{secret.name}")
    real = os.path.realpath

    def exchange(path: bytes, **more: bool) -> bytes:
        found = real(path, **more)
        if more.get("strict"):
            (root / "P1").rename(root / "was")
            (root / "P1").symlink_to(secret.parent)
        return found

    monkeypatch.setattr(os.path, "realpath", exchange)
    assert refusal(root, row) in {"missing", "unreadable"}


# --- not a file, not the file ----------------------------------------------------------------


def _listed_as(root: Path, name: str) -> ManifestRow:
    found = (root / name).stat()
    return ManifestRow(source=name, patient="P1", size=0, version=str(found.st_mtime_ns))


def test_a_pipe_does_not_block(root: Path) -> None:
    os.mkfifo(root / "a.jpg")
    reasons: list[str] = []
    row = _listed_as(root, "a.jpg")
    reader = threading.Thread(target=lambda: reasons.append(refusal(root, row)), daemon=True)
    reader.start()
    reader.join(5)
    assert reasons == ["not_a_file"]


def test_folders_and_sockets_are_no_files(root: Path) -> None:
    (root / "a.jpg").mkdir()
    assert refusal(root, _listed_as(root, "a.jpg")) == "not_a_file"
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # the path of a socket may have no more than 107 bytes
        try:
            server.bind("b.jpg")
        finally:
            os.chdir(here)
        assert refusal(root, _listed_as(root, "b.jpg")) == "not_a_file"


def test_a_file_that_vanished(root: Path) -> None:
    (root / "a.jpg").write_bytes(b"content")
    row = listed(root, "a.jpg")
    (root / "a.jpg").unlink()
    assert refusal(root, row) == "missing"


@pytest.mark.parametrize("content", [b"other length", b"CONTENT"])
def test_a_file_that_changed(root: Path, content: bytes) -> None:
    (root / "a.jpg").write_bytes(b"content")
    row = listed(root, "a.jpg")
    (root / "a.jpg").write_bytes(content)
    os.utime(root / "a.jpg", ns=(1, 1))
    assert refusal(root, row) == "changed"


def test_a_file_that_grows_while_it_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a.jpg").write_bytes(b"content")
    row = listed(root, "a.jpg")
    real = archive._check_version

    def grow(found: os.stat_result, checked: ManifestRow) -> None:
        real(found, checked)
        with (root / "a.jpg").open("ab") as file:
            file.write(b"!")

    monkeypatch.setattr(archive, "_check_version", grow)
    assert refusal(root, row) == "changed"


def test_a_file_that_is_too_large_is_not_read(root: Path) -> None:
    (root / "a.jpg").write_bytes(b"x" * 101)
    assert refusal(root, listed(root, "a.jpg"), max_bytes=100) == "too_many_bytes"
    assert read(root, listed(root, "a.jpg"), max_bytes=101) == b"x" * 101


def test_a_file_without_permission(
    open_folder: Path, as_ordinary_user: Callable[[Callable[[], None]], None]
) -> None:
    (open_folder / "a.jpg").write_bytes(b"content")
    (open_folder / "a.jpg").chmod(0)
    row = listed(open_folder, "a.jpg")

    def use() -> None:
        assert refusal(open_folder, row) == "unreadable"

    as_ordinary_user(use)


# --- faults that pass ------------------------------------------------------------------------


def test_an_archive_that_is_away_is_no_files_fault(root: Path) -> None:
    (root / "a.jpg").write_bytes(b"content")
    row = listed(root, "a.jpg")
    root.rename(root.with_name("elsewhere"))
    with pytest.raises(RetryableError, match="is the share mounted"):
        read(root, row)


def test_a_fault_of_the_disk_may_pass(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a.jpg").write_bytes(b"content")
    row = listed(root, "a.jpg")
    fail_reading(monkeypatch)
    with pytest.raises(FileFaultError, match="Input/output error"):
        read(root, row)


def fail_reading(monkeypatch: pytest.MonkeyPatch, times: int = 1000) -> None:
    """Let the disk fail so many times."""
    left = [times]
    real = os.fdopen

    def broken(descriptor: int, *arguments: object, **more: object) -> object:
        if left[0]:
            left[0] -= 1
            raise OSError(5, "Input/output error")
        return real(descriptor, *arguments, **more)

    monkeypatch.setattr(os, "fdopen", broken)


def test_only_file_systems_and_buckets_are_archives() -> None:
    row = ManifestRow(source="a.jpg", patient="P1", size=1, version="1")
    for root in ("s4://bucket", "http://host/a", "file://server/share", "/plain/path"):
        with pytest.raises(ConfigurationError, match="file:///"):
            read_row_bytes(root, row, max_bytes=1)
