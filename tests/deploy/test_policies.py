"""The policies allow what each part does, and no more: tried on a server that enforces them."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest

from benchmarks.rig.laboratory import wait_until
from pipeline.errors import ConfigurationError
from tests.cli.conftest import Screen
from tests.conftest import REPOSITORY
from tests.s3_server import make_bucket, moto_server, use_endpoint
from worker import s3
from worker.place import Place
from worker.planning import manifest_row
from worker.s3_archive import list_bucket
from worker.s3_finished import MovingObjects, Tagging

POLICIES = REPOSITORY / "infra" / "aws" / "policies"

#: Who has which policies; a watcher that tidies up has one more.
USERS = {
    "submitter": ["submitter"],
    "worker": ["worker"],
    "reader": ["reader"],
    "tagging watcher": ["submitter", "tag-reported"],
    "moving watcher": ["submitter", "move-reported"],
}

Become = Callable[[str], None]


def enforce(endpoint: str) -> None:
    """From the next call on, look at who calls."""
    headers = {"Content-Type": "text/plain"}
    request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", b"0", headers)
    urllib.request.urlopen(request).close()


@pytest.fixture
def server() -> Iterator[str]:
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    use_endpoint(monkeypatch, server)
    name = f"laboratory-{uuid4().hex[:12]}"
    make_bucket(server, name)
    kept = {"Status": "Enabled"}
    s3.client().put_bucket_versioning(Bucket=name, VersioningConfiguration=kept)
    yield name
    s3.forget()


@pytest.fixture
def become(server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Become:
    """Go on as a user with the policies of that name alone."""
    iam = boto3.client("iam", endpoint_url=server)
    keys: dict[str, Any] = {}
    for name, policies in USERS.items():
        user = name.replace(" ", "-")
        iam.create_user(UserName=user)
        for one in policies:
            policy = (POLICIES / f"{one}.json").read_text("utf-8")
            policy = policy.replace("${bucket_arn}", f"arn:aws:s3:::{bucket}")
            policy = policy.replace("${key_arn}", "arn:aws:kms:eu-central-1:123456789012:key/1")
            iam.put_user_policy(UserName=user, PolicyName=one, PolicyDocument=policy)
        keys[name] = iam.create_access_key(UserName=user)["AccessKey"]

    def be(name: str) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys[name]["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys[name]["SecretAccessKey"])
        s3.forget()
        enforce(server)

    return be


def test_each_part_can_do_its_work_and_no_more(screen: Screen, bucket: str, become: Become) -> None:
    for name in ("P1/a.jpg", "P1/b.jpg", "P2/c.jpg"):
        s3.client().put_object(Bucket=bucket, Key=f"incoming/{name}", Body=name.encode())
    archive, out = f"s3://{bucket}/incoming", f"s3://{bucket}/reports"

    first = s3.client().head_object(Bucket=bucket, Key="incoming/P1/a.jpg")["VersionId"]

    become("submitter")
    [listed, *_] = list_bucket(Place(bucket, "incoming/")).files
    assert listed.version.endswith(f" {first}")
    assert screen("submit", archive, "--out", out, "--no-wait").exit_code == 0
    assert screen.json("status", "--out", out)["runs"][0]["remaining"] == 3
    assert screen("cancel", "--out", out).exit_code == 0
    assert screen("submit", archive, "--out", out, "--no-wait").exit_code == 0
    watcher = screen.start("watch", archive, "--out", out, "--every", "0.5", "--quiet", "1")
    wait_until(lambda: len(screen.json("status", "--out", out)["runs"]) == 2, seconds=60)
    watcher.terminate()
    assert watcher.wait(timeout=60) == 0
    place = Place(bucket, "")
    for key in ("reports/index.html", "incoming/P1/a.jpg"):
        with pytest.raises(Exception, match="access is denied"), s3.s3_faults(place):
            s3.client().put_object(Bucket=bucket, Key=key, Body=b"")

    become("worker")
    s3.client().get_object(Bucket=bucket, Key="incoming/P1/a.jpg", VersionId=first)
    fed = screen("feed", "--out", out, "--until-done")
    assert fed.exit_code == 0, fed.output
    with pytest.raises(Exception, match="access is denied"), s3.s3_faults(place):
        s3.client().put_object(Bucket=bucket, Key="incoming/P1/a.jpg", Body=b"")

    become("submitter")
    handlings = {
        "tagging watcher": Tagging(Place(bucket, "incoming/")),
        "moving watcher": MovingObjects(Place(bucket, "incoming/"), Place(bucket, "reported/")),
    }
    found = list_bucket(Place(bucket, "incoming/")).files
    rows = [manifest_row(file, "P") for file in found]
    for user, handling in handlings.items():
        with pytest.raises(ConfigurationError, match="access is denied"):
            handling(rows[0], "7e2d86fcd0f682d02b80")
        become(user)
        assert all(handling(row, "7e2d86fcd0f682d02b80") for row in rows)
        become("submitter")
    assert list_bucket(Place(bucket, "incoming/")).files == []

    become("reader")
    run = screen.json("status", "--out", out)["runs"][0]
    assert (run["finished"], run["ok"]) == (True, 3)
    assert screen("show", "P1", "--out", out).exit_code == 0
    for call, key in (("get_object", "incoming/P1/a.jpg"), ("delete_object", "reports/index.html")):
        with pytest.raises(Exception, match="access is denied"), s3.s3_faults(place):
            getattr(s3.client(), call)(Bucket=bucket, Key=key)
