"""How the benchmark counts, goes on after an interruption, and shows what it found."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults import SCENARIOS, Findings, Trial
from benchmarks.faults.__main__ import main, read_lines, table
from benchmarks.faults.trial import Claim, NotPossibleError

REPOSITORY = Path(__file__).resolve().parents[2]


def test_an_image_that_is_missing_or_doubled_in_a_report_is_found(tmp_path: Path) -> None:
    with Trial(tmp_path, images=6, patients=2, delay=0) as trial:
        trial.laboratory.screen(trial.run)
        assert trial.findings().broken == []
        first, second = sorted(trial.laboratory.out.glob("patients/*/report.json"))
        kept = first.read_bytes()
        first.unlink()
        lost = trial.findings()
        assert (lost.lost, lost.twice, lost.identical) == (3, 0, False)
        first.write_bytes(kept)
        second.write_bytes(kept)
        doubled = trial.findings()
    assert (doubled.lost, doubled.twice, doubled.identical) == (3, 3, False)
    assert len(doubled.broken) == 3


def test_a_figure_beyond_its_limit_is_broken() -> None:
    claims = [Claim("seconds", 6, 5), Claim("images", 5, 5)]
    found = Findings(1, 0, 0, True, 1, 1, 1.0, claims)
    assert found.broken == ["seconds: 6, limit 5"]


def test_the_benchmark_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "faults.jsonl"
    size = ("--rows", "9", "--images", "4", "--strikes", "2", "--out", str(out))
    assert main([*size, "--seeds", "1"]) == 0
    assert main([*size, "--seeds", "2"]) == 0
    lines = read_lines(out)
    assert [(line["row"], line["seed"]) for line in lines] == [("9", 0), ("9", 1)]
    assert "2 of 2" in capsys.readouterr().out
    lines[0]["broken"] = ["1 images lost"]
    assert "1 of 2" in table(lines)


def test_every_fault_is_described() -> None:
    text = (REPOSITORY / "docs" / "faults.md").read_text(encoding="utf-8")
    for row in SCENARIOS:
        assert f"\n| {row.split()[0]} |" in text


def test_a_worker_that_hangs_says_where(tmp_path: Path) -> None:
    with Trial(tmp_path, images=4, patients=1, delay=60) as trial:
        try:
            url = trial.redis().url
        except NotPossibleError as error:
            pytest.skip(str(error))
        worker = trial.worker(url, processes=1)
        trial.feeder(url)
        trial.wait_until(lambda: len(trial.laboratory.calls()) > 0, "an image is begun")
        trial.ask_what_it_does(worker)
        (said,) = trial.evidence
    assert "benchmarks/rig/stubs.py" in said, "its process"
    assert "worker/celery_app.py" in said, "itself"
