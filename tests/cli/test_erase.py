"""``screen erase``, on a folder and on a bucket."""

from __future__ import annotations

from tests.cli.conftest import Screen
from worker import s3


def test_a_patient_is_erased_and_stays_away_until_readmitted(screen: Screen) -> None:
    screen.add("Ada/a.jpg", "Ben/b.jpg")
    run_id = screen.json("submit", screen.slides)["run_id"]
    page = screen.out / "patients" / "Ada" / "report.html"

    said = screen("erase", "Ada").stdout
    assert "1 images in 1 runs" in said and "do it with --yes" in said
    assert "archive are not touched" in said
    answer = screen.json("erase", "Ada", "--dry-run")
    assert (answer["runs"], answer["images"], answer["erased"]) == ([run_id], 1, False)
    assert answer["files"] >= 2
    assert page.exists()

    answer = screen.json("erase", "Ada", "--yes")
    assert answer["erased"] and answer["record"]["erasures"][0]["runs"].keys() == {run_id}
    assert not page.parent.exists()
    assert (screen.slides / "Ada" / "a.jpg").exists()
    assert (screen.out / "patients" / "Ben" / "report.html").exists()

    again = screen.json("submit", screen.slides)
    assert (again["patients"], again["finished_now"]) == (1, 0)
    assert "1 patients were erased from these reports and are left out: 'Ada'" in again["notes"][0]
    assert screen.json("erase", "Ada", "--readmit")["record"]["readmitted"]
    assert screen.json("submit", screen.slides)["run_id"] == run_id
    assert page.exists()


def test_what_cannot_be_erased_is_refused(screen: Screen) -> None:
    screen.add("Ada/a.jpg")
    screen.json("submit", screen.slides, "--no-wait")
    assert "screen cancel" in screen.json("erase", "Ada", "--yes", status=1)["error"]["message"]
    assert "nothing of" in screen.json("erase", "Eve", "--yes", status=1)["error"]["message"]
    assert screen("erase", "Ada", "--yes", "--dry-run").exit_code == 2


def test_a_patient_is_erased_from_a_bucket(screen: Screen, bucket: str) -> None:
    for name in ("Ada/a.jpg", "Ben/b.jpg"):
        s3.client().put_object(Bucket=bucket, Key=f"in/{name}", Body=name.encode())
    out = f"s3://{bucket}/out"
    screen.json("submit", f"s3://{bucket}/in", "--out", out)
    assert screen.json("erase", "Ada", "--out", out, "--yes")["erased"]
    left = list(s3.keys_below(bucket, "out/"))
    assert "out/patients/Ben/report.html" in left
    contents = [s3.client().get_object(Bucket=bucket, Key=key)["Body"].read() for key in left]
    assert not [key for key, data in zip(left, contents, strict=True) if b"Ada" in data]
    assert not [key for key in left if "Ada" in key]
    assert "in/Ada/a.jpg" in s3.keys_below(bucket, "in/")
