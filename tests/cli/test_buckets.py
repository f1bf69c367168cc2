"""An archive in a bucket, screened into a bucket, is screened as its local copy is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.checks import check_store
from tests.cli.conftest import Screen
from tests.conftest import AnyBucket
from worker import s3
from worker.place import Place


def upload(screen: Screen, bucket: str, prefix: str) -> None:
    for path in screen.slides.rglob("*"):
        if path.is_file():
            key = f"{prefix}{path.relative_to(screen.slides).as_posix()}"
            s3.client().put_object(Bucket=bucket, Key=key, Body=path.read_bytes())


def published(bucket: str, prefix: str) -> dict[str, bytes]:
    """What people read: names and bytes."""
    place = Place(bucket, prefix)
    return {
        key.removeprefix(prefix): s3.read(place, key) or b""
        for key in s3.keys_below(bucket, prefix)
        if not key.startswith(f"{prefix}store/")
    }


def local_reports(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and "store" not in path.relative_to(out).parts
    }


def test_reports_are_those_of_the_local_copy(screen: Screen, any_bucket: AnyBucket) -> None:
    bucket = any_bucket.name
    screen.add("P 1/a b.jpg", "P 1/ü.png", "P2/c.tif", "P2/notes.txt", "P2/d.svs", ".hidden/e.jpg")
    upload(screen, bucket, "incoming/")
    s3.client().put_object(Bucket=bucket, Key="incoming/empty/", Body=b"")
    out = f"s3://{bucket}/reports"
    result = screen("submit", f"s3://{bucket}/incoming", "--out", out)
    assert result.exit_code == 3, result.output
    assert "2 patients, 4 images (3 judged, 1 failed); 2 other files ignored" in result.stdout
    assert f"Reports: {out}/index.html" in result.stdout
    screen("submit", screen.slides)
    here, there = local_reports(screen.out), published(bucket, "reports/")
    # The pages of the run itself name the archive.
    run_pages = {"index.html"}
    assert {name: there[name] for name in there.keys() - run_pages} == {
        name: here[name] for name in here.keys() - run_pages
    }
    again = screen.json("submit", f"s3://{bucket}/incoming", "--out", out, status=3)
    assert again["finished_now"] == 0


def test_the_doctor_says_what_the_server_can(any_bucket: AnyBucket) -> None:
    out = Place(any_bucket.name, "reports/")
    [check] = check_store(out)
    assert check.verdict == "PASS"
    assert check.seen.startswith(f"{out} is writable")
    assert ("without conditional puts" in check.seen) != any_bucket.conditional


def test_every_command_works_on_a_bucket(screen: Screen, bucket: str) -> None:
    screen.add("P1/a.jpg")
    upload(screen, bucket, "")
    out = f"s3://{bucket}/reports"
    run_id = screen.json("submit", f"s3://{bucket}", "--out", out)["run_id"]
    assert screen.json("status", "--out", out)["runs"][0]["finished"]
    assert json.loads(screen("show", "P1", "--out", out, "--json").stdout)["patient"] == "P1"
    unknown = screen("show", "P7", "--out", out)
    assert unknown.exit_code == 1
    assert "'P1'" in unknown.stderr
    checks = screen.json("doctor", "--out", out, status=1)["checks"]
    assert [c["seen"] for c in checks if c["name"] == "store"] == [
        f"{out} is writable and has conditional puts"
    ]
    # The reports that lie within the archive are no part of it.
    assert screen.json("submit", f"s3://{bucket}", "--out", out)["finished_now"] == 0
    assert screen.json("purge", run_id, "--yes", "--out", out)["removed"] > 0
    assert screen.json("status", "--out", out)["runs"] == []


def test_an_object_that_was_replaced_or_removed_fails_and_says_so(
    screen: Screen, bucket: str
) -> None:
    screen.add("P1/a.jpg", "P1/b.jpg", "P1/c.jpg")
    upload(screen, bucket, "")
    out = f"s3://{bucket}/reports"
    screen.json("submit", f"s3://{bucket}", "--out", out, "--no-wait")
    s3.client().put_object(Bucket=bucket, Key="P1/a.jpg", Body=b"image of another")
    s3.client().delete_object(Bucket=bucket, Key="P1/b.jpg")
    assert screen.json("resume", "--out", out, status=3)["failures"] == {
        "changed": 1,
        "missing": 1,
    }
    # Listed anew, what was replaced is what it is now.
    assert screen.json("submit", f"s3://{bucket}", "--out", out)["images"] == 2


def test_results_of_another_run_are_no_smears(screen: Screen, bucket: str) -> None:
    screen.add("P1/a.jpg")
    upload(screen, bucket, "")
    screen.json("submit", f"s3://{bucket}", "--out", f"s3://{bucket}/old")
    answer = screen.json("submit", f"s3://{bucket}", "--out", f"s3://{bucket}/new")
    assert answer["images"] == 1
    assert answer["notes"] == ["old holds results of an earlier run and is left out"]
    error = screen.json("submit", f"s3://{bucket}/old", "--out", f"s3://{bucket}/x", status=1)
    assert "holds results of this software" in error["error"]["message"]


@pytest.mark.parametrize("key", ["../../etc/passwd.jpg", "P1/../../x.jpg", "/x.jpg", "P/<b>.jpg"])
def test_a_hostile_key_is_a_name_and_nothing_else(
    screen: Screen, bucket: str, tmp_path: Path, key: str
) -> None:
    s3.client().put_object(Bucket=bucket, Key=f"in/{key}", Body=b"image hostile")
    before = {path for path in tmp_path.rglob("*") if "bundle" not in path.parts}
    answer = screen.json("submit", f"s3://{bucket}/in", "--out", f"s3://{bucket}/reports")
    assert (answer["ok"], answer["failed"]) == (1, 0)
    assert {path for path in tmp_path.rglob("*") if "bundle" not in path.parts} == before
    assert all(
        name.startswith(("patients/", "index", "summary")) for name in published(bucket, "reports/")
    )


def test_a_place_that_is_not_there_says_so(screen: Screen, bucket: str) -> None:
    error = screen.json("submit", "s3://no-such-bucket-here/x", status=1)["error"]
    assert "no bucket no-such-bucket-here" in error["message"]
    empty = screen.json("submit", f"s3://{bucket}/nothing", status=1)["error"]
    assert "has no images" in empty["message"]
    assert screen.json("status", "--out", f"s3://{bucket}/nothing", status=1)
    assert screen("submit", "ftp://host/x").exit_code == 2
