from __future__ import annotations

import logging
import os

import pytest

from benchmarks.rig.laboratory import Laboratory
from pipeline.errors import ConfigurationError, RetryableError
from pipeline.results import AnalysisOptions, ImageError
from tests.worker.test_archive import fail_reading
from worker import keys, process, runs
from worker.manifest import freeze, iterate_rows
from worker.process import open_analyser, process_row
from worker.records import Outcome, RunRecord


def work(laboratory: Laboratory, run: RunRecord | None = None, **settings: object) -> RunRecord:
    """Process every row in this process."""
    run = run or laboratory.freeze()
    chosen = laboratory.settings(**settings)
    analyser = open_analyser(run, chosen)
    for position in range(run.images):
        process_row(laboratory.store, run, position, analyser, settings=chosen)
    return run


def outcomes(laboratory: Laboratory, run: RunRecord) -> dict[str, Outcome | None]:
    return {one.row.source: one.outcome for one in runs.outcomes(laboratory.store, run)}


def error(laboratory: Laboratory, run: RunRecord, source: str) -> ImageError | None:
    """Why the image failed, wherever that is stored."""
    outcome = outcomes(laboratory, run)[source]
    assert outcome is not None
    assert outcome.status == "failed"
    if outcome.result is None:
        return outcome.error
    analysis = process.read_analysis(laboratory.store, outcome.result)
    assert analysis is not None
    return analysis.error


def test_an_image_is_judged_and_stored_with_its_pictures(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    run = work(laboratory)
    outcome = outcomes(laboratory, run)["P00/000.jpg"]
    assert outcome is not None
    assert outcome.status == "ok"
    assert outcome.result is not None
    analysis = process.read_analysis(laboratory.store, outcome.result)
    assert analysis is not None
    assert analysis.sha256 == laboratory.computed()[0]
    assert laboratory.store.exists(f"{outcome.result}field.png")


def test_doing_it_twice_changes_nothing(laboratory: Laboratory) -> None:
    laboratory.fill(1, 3)
    run = work(laboratory)
    work(laboratory, run)
    assert len(laboratory.computed()) == 3


def test_the_same_content_is_computed_once(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    laboratory.add("P01/copy.jpg", "image 0 0")
    laboratory.add("P01/copy.png", "image 0 0")
    run = work(laboratory)
    assert len(laboratory.computed()) == 1
    assert len({outcome.result for outcome in outcomes(laboratory, run).values() if outcome}) == 1


def test_a_renamed_image_is_read_but_not_computed(laboratory: Laboratory) -> None:
    laboratory.fill(1, 2)
    work(laboratory)
    (laboratory.archive / "P00" / "000.jpg").rename(laboratory.archive / "P00" / "renamed.jpg")
    run = work(laboratory)
    assert len(laboratory.computed()) == 2
    assert all(outcome and outcome.status == "ok" for outcome in outcomes(laboratory, run).values())


def test_an_archive_that_grew_is_read_where_it_grew(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    laboratory.fill(1, 3)
    work(laboratory)
    laboratory.add("P00/new.jpg", "image new")
    read: list[str] = []
    real = process.read_row_bytes

    def count(root: str, row: process.ManifestRow, *, max_bytes: int) -> bytes:
        read.append(row.source)
        return real(root, row, max_bytes=max_bytes)

    monkeypatch.setattr(process, "read_row_bytes", count)
    work(laboratory)
    assert read == ["P00/new.jpg"]


def test_another_model_computes_anew(laboratory: Laboratory) -> None:
    laboratory.fill(1, 2)
    work(laboratory)
    (laboratory.bundle / "digest").write_text("e" * 64)
    process._load_analyser.cache_clear()
    work(laboratory)
    assert len(laboratory.computed()) == 4


def test_other_options_compute_anew(laboratory: Laboratory) -> None:
    laboratory.fill(1, 2)
    work(laboratory)
    work(laboratory, laboratory.freeze(AnalysisOptions(explain="all")))
    assert len(laboratory.computed()) == 4


def test_a_worker_with_another_model_refuses(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    (laboratory.bundle / "digest").write_text("e" * 64)
    process._load_analyser.cache_clear()
    with pytest.raises(ConfigurationError, match="start it with the same bundle"):
        work(laboratory, run)
    assert runs.progress(laboratory.store, run).remaining == 1


def test_an_analyser_that_is_not_there_is_said(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    for name in ("benchmarks.rig.stubs:nothing", "no.such.module:open", "benchmarks.rig.stubs"):
        with pytest.raises(ConfigurationError, match="SCREEN_ANALYSER"):
            work(laboratory, analyser=name)


# --- images that fail ------------------------------------------------------------------------


def test_a_bad_image_is_failed_with_its_reason_and_not_tried_again(laboratory: Laboratory) -> None:
    laboratory.add("P00/a.jpg", "bad 1")
    laboratory.add("P00/b.jpg", "bad 1")
    run = work(laboratory)
    for source in ("P00/a.jpg", "P00/b.jpg"):
        found = error(laboratory, run, source)
        assert found == ImageError(reason="truncated", message="the data ends too early")
    assert len(laboratory.computed()) == 1


def test_a_row_that_must_not_be_read_is_failed_unread(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    (laboratory.archive / "P00" / "out.jpg").symlink_to("/etc/passwd")
    run = work(laboratory)
    found = error(laboratory, run, "P00/out.jpg")
    assert found is not None
    assert found.reason == "outside_root"
    assert len(laboratory.computed()) == 1


def test_a_file_that_changed_since_it_was_listed_is_failed(laboratory: Laboratory) -> None:
    laboratory.fill(1, 2)
    run = laboratory.freeze()
    laboratory.add("P00/000.jpg", "image of another kind")
    (laboratory.archive / "P00" / "001.jpg").unlink()
    work(laboratory, run)
    reasons = [error(laboratory, run, f"P00/00{number}.jpg") for number in range(2)]
    assert [found and found.reason for found in reasons] == ["changed", "missing"]
    assert laboratory.computed() == []


def test_an_image_the_software_trips_over_does_not_stop_the_others(
    laboratory: Laboratory, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory.fill(1, 2)
    laboratory.add("P00/000 Smith.jpg", "raise 1")
    with caplog.at_level(logging.INFO):
        run = work(laboratory)
    found = error(laboratory, run, "P00/000 Smith.jpg")
    assert found is not None
    assert found.reason == "internal_error"
    assert found.message.endswith("ValueError: an unexpected shape")
    assert runs.progress(laboratory.store, run).ok == 2
    assert "ValueError" in caplog.text
    assert "Smith" not in caplog.text


def test_a_fault_of_the_software_is_not_stored_with_the_content(laboratory: Laboratory) -> None:
    laboratory.add("P00/a.jpg", "raise 1")
    run = work(laboratory)
    assert list(laboratory.store.list("results/")) == []
    assert runs.retry_failed(laboratory.store, run) == 1


# --- faults that are nobody's image's ---------------------------------------------------------


def test_a_disk_that_fails_twice_is_read_at_the_third_try(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "READ_PAUSES_SECONDS", (0.0, 0.0))
    laboratory.fill(1, 1)
    fail_reading(monkeypatch, times=2)
    run = work(laboratory)
    assert runs.progress(laboratory.store, run).ok == 1


def test_a_file_the_disk_never_gives_is_unreadable(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "READ_PAUSES_SECONDS", (0.0, 0.0))
    laboratory.fill(1, 1)
    fail_reading(monkeypatch)
    run = work(laboratory)
    found = error(laboratory, run, "P00/000.jpg")
    assert found is not None
    assert found.reason == "unreadable"


def test_an_archive_that_is_away_fails_no_image(laboratory: Laboratory) -> None:
    laboratory.fill(1, 2)
    run = laboratory.freeze()
    laboratory.archive.rename(laboratory.folder / "elsewhere")
    with pytest.raises(RetryableError):
        work(laboratory, run)
    assert runs.progress(laboratory.store, run).remaining == 2
    assert list(laboratory.store.list("attempts/")) == []


def test_a_fault_that_may_pass_fails_no_image(laboratory: Laboratory) -> None:
    laboratory.add("P00/a.jpg", "later 1")
    run = laboratory.freeze()
    with pytest.raises(RetryableError):
        work(laboratory, run)
    assert runs.progress(laboratory.store, run).remaining == 1
    assert list(laboratory.store.list("attempts/")) == []


def test_a_damaged_result_is_made_anew(laboratory: Laboratory) -> None:
    laboratory.fill(1, 1)
    run = work(laboratory)
    key = next(key for key in laboratory.store.list("results/") if key.endswith("analysis.json"))
    whole = laboratory.store.read(key)
    laboratory.store.replace(key, b'{"status": "o')
    runs.forget_outcome(laboratory.store, run, 0)
    work(laboratory, run)
    assert laboratory.store.read(key) == whole


def test_results_hold_no_times_hosts_or_names(laboratory: Laboratory) -> None:
    """Same input, same bytes: whatever differs between runs is in the side log."""
    laboratory.add("Smith, John/field.jpg", "image 1")
    run = work(laboratory)
    rows = list(iterate_rows(laboratory.store, run))
    assert rows[0][1].patient == "Smith, John"
    for folder in ("results/", "done/", "seen/", "log/"):
        for key in laboratory.store.list(folder):
            data = laboratory.store.read(key) or b""
            assert b"Smith" not in data
            if folder != "log/":
                assert os.uname().nodename.encode() not in data
    assert list(laboratory.store.list("log/rows/"))


def test_the_manifest_alone_decides_what_is_screened(laboratory: Laboratory) -> None:
    """A row frozen by one submission is the same for every worker."""
    laboratory.fill(1, 1)
    run = laboratory.freeze()
    again = freeze(
        laboratory.store,
        [row for _, row in iterate_rows(laboratory.store, run)],
        root=run.root,
        bundle="/elsewhere",
        model=run.model,
        options=run.options,
        ignored=0,
    )
    assert again == run
    assert laboratory.store.exists(keys.run(run.run_id))
