"""Reports that carry pseudonyms: nothing in them names anybody, and who has the store can tell."""

from __future__ import annotations

import json
import signal

from benchmarks.rig.laboratory import wait_until
from tests.cli.conftest import Screen
from worker.publish import DirectoryPublisher

NAMES = ("Ada", "Lovelace", "secret", "slides")


def published(screen: Screen) -> dict[str, bytes]:
    files = (path for path in screen.out.rglob("*") if path.is_file())
    found = {path.relative_to(screen.out).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if not name.startswith("store/")}


def named(screen: Screen) -> list[str]:
    """Published files in which a name stands."""
    found = published(screen).items()
    return [
        file for file, data in found if any(one.encode() in file.encode() + data for one in NAMES)
    ]


def test_reports_name_nobody_and_the_store_tells_who_it_is(screen: Screen) -> None:
    screen.add("Ada Lovelace/secret 1.jpg", "Ada Lovelace/secret 2.jpg", "B/b.jpg")
    (screen.slides / "Ada Lovelace" / "secret 3.jpg").symlink_to("/etc/passwd")
    screen.json("submit", screen.slides, "--pseudonymise", status=3)
    assert named(screen) == []
    before = published(screen)

    reports = [json.loads(data) for name, data in before.items() if name.endswith("report.json")]
    whose = {one["patient"]: screen.json("identify", one["patient"]) for one in reports}
    assert {one["patient"] for one in whose.values()} == {"Ada Lovelace", "B"}
    [ada] = [one for one in reports if len(one["images"]) == 3]
    sources = [screen.json("identify", image["source"])["source"] for image in ada["images"]]
    assert sorted(sources) == [f"Ada Lovelace/secret {number}.jpg" for number in (1, 2, 3)]
    assert "Patient Ada Lovelace, of file:" in screen("identify", ada["patient"]).stdout
    assert screen("show", "Ada Lovelace").stdout == screen("show", ada["patient"]).stdout
    assert screen.json("identify", "patient-" + "0" * 16, status=1)
    assert screen.json("identify", "image-" + "0" * 16, status=1)

    assert screen.json("status")["runs"][0]["pseudonymised"]
    screen("resume")
    screen("retry", "--failed")
    screen.json("submit", screen.slides, "--pseudonymise", status=3)
    assert published(screen) == before

    assert screen.json("erase", "Ada Lovelace", "--yes")["files"] > 2
    assert not [name for name in published(screen) if ada["patient"] in name]
    assert ada["patient"] not in (screen.out / "index.html").read_text()
    assert named(screen) == []


def test_names_and_pseudonyms_are_not_mixed(screen: Screen) -> None:
    screen.add("Ada/secret.jpg")
    screen.json("submit", screen.slides, "--no-wait")
    error = screen.json("submit", screen.slides, "--pseudonymise", status=1)["error"]
    assert "leave out --pseudonymise" in error["message"]


def test_what_is_watched_keeps_its_pseudonyms(screen: Screen) -> None:
    screen.add("Ada/secret.jpg")
    often = ("--every", "0.3", "--still", "0.2", "--quiet", "0.5")
    watcher = screen.start("watch", screen.slides, *often, "--pseudonymise")
    try:
        wait_until(lambda: any(screen.out.glob("store/runs/*")), 60, "a run")
        screen.add("Ada/secret 2.jpg")
        wait_until(lambda: len([*screen.out.glob("store/runs/*")]) == 2, 60, "a revision")
    finally:
        watcher.send_signal(signal.SIGTERM)
        said = watcher.communicate(timeout=30)
    assert not [name for name in NAMES if name in "".join(said)]
    feeder = screen.start("feed", "--until-done")
    feeder.communicate(timeout=60)
    assert feeder.returncode == 0
    assert DirectoryPublisher(screen.out).folders("patients")[0].startswith("patient-")
    assert named(screen) == []
