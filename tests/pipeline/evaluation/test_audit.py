"""The audit tells a model that looks at cells from one that looks at the background."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigurationError
from pipeline.evaluation import audit_figures
from pipeline.evaluation.audit import (
    AUDIT_FILE,
    EXAMPLES_FILE,
    JUDGEMENTS_FILE,
    PAGE_FILE,
    audit,
    chosen_changes,
)
from pipeline.evaluation.audit_explanations import MEASURES, Distribution
from pipeline.evaluation.audit_figures import Proportion, held_against, needed
from pipeline.evaluation.audit_images import AuditOptions, held_out, spread
from pipeline.evaluation.audit_report import AuditReport
from pipeline.training.data import LabelledImage
from tests.pipeline.evaluation.smears import (
    Said,
    bundle_of,
    explained,
    looks_at_background,
    looks_at_cells,
    said,
    write_smears,
)

PER_CLASS = 3
CHANGES = (
    "white_cells_erased",
    "white_cells_flat",
    "white_cells_blurred",
    "background_replaced",
    "bar_erased",
    "bar_copied",
    "gain_1.1_1_0.9",
)


@pytest.fixture(scope="module")
def smears(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_smears(tmp_path_factory.mktemp("smears"), PER_CLASS)


@pytest.fixture
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts as if there were enough images, which would take minutes."""
    monkeypatch.setattr(audit_figures, "needed", lambda limit: 2 * PER_CLASS)


def run(
    judge: Callable[[bytes], Said], data: Path, out: Path, changes: tuple[str, ...], **more: Any
) -> AuditReport:
    # The folder needs no class but these two.
    options = AuditOptions(data=data, out=out, splits=table_of(data, out), test_fold=0, **more)
    return audit(bundle_of(), judge, AuditOptions(**{**vars(options), "changes": changes}))


def table_of(data: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "folds.csv"
    with table.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["path", "block", "block_fold"])
        for path in sorted(data.rglob("*.png")):
            writer.writerow([f"smears/{path.relative_to(data).as_posix()}", "1", 0])
    return table


def words(report: AuditReport) -> dict[str, str]:
    return {verdict.shortcut: verdict.verdict for verdict in report.verdicts}


@pytest.mark.usefixtures("few_are_enough")
def test_a_model_of_the_background_fails(smears: Path, tmp_path: Path) -> None:
    report = run(looks_at_background, smears, tmp_path, CHANGES)
    as_is, erased, *_ = report.changes
    # It looks perfect until somebody takes the cells away.
    assert as_is.accuracy.share == erased.accuracy.share == 1.0
    found = words(report)
    assert found["white cells erased"] == "FAIL"
    assert found["white cells badly erased"] == "FAIL"
    assert found["background replaced"] == "FAIL"
    assert found["scale bar"] == "PASS"
    assert found["full-resolution originals"] == "UNKNOWN"
    sentence = report.verdicts[0].sentence
    assert sentence.startswith("FAIL white cells erased: 100.0% of images without any white cell")
    assert "limit 2%" in sentence


@pytest.mark.usefixtures("few_are_enough")
def test_a_model_of_the_cells_passes(smears: Path, tmp_path: Path) -> None:
    report = run(looks_at_cells, smears, tmp_path, CHANGES)
    assert report.changes[0].accuracy.share == 1.0
    found = words(report)
    del found["full-resolution originals"]
    assert set(found.values()) == {"PASS"}, report.verdicts


def test_the_rule_against_empty_fields_hides_nothing(smears: Path, tmp_path: Path) -> None:
    def ruled(data: bytes) -> Said:
        return said("benign", ["no_white_cell"])

    report = run(ruled, smears, tmp_path, ("white_cells_erased",))
    figures = report.changes[-1]
    assert figures.high.hits == 0
    assert figures.high_without_rule.hits == 2 * PER_CLASS
    assert report.verdicts[0].verdict == "FAIL"
    assert "rule against empty fields off" in report.verdicts[0].sentence


def test_an_interrupted_audit_goes_on_and_comes_out_the_same(smears: Path, tmp_path: Path) -> None:
    calls = 0

    def counted(data: bytes) -> Said:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return looks_at_background(data)

    changes = ("gain_0.9_1_1", "mirror")
    with pytest.raises(KeyboardInterrupt):
        run(counted, smears, tmp_path, changes)
    log = tmp_path / JUDGEMENTS_FILE
    assert len(log.read_bytes().splitlines()) == 4
    # And a line that was cut in half.
    log.write_bytes(log.read_bytes()[:-20])
    report = run(counted, smears, tmp_path, changes)
    assert calls == 5 + 6 * 3 - 3
    run(counted, smears, tmp_path, changes)
    assert calls == 5 + 6 * 3 - 3
    assert report == run(looks_at_background, smears, tmp_path / "again", changes)


def test_another_seed_or_model_uses_no_old_judgement(smears: Path, tmp_path: Path) -> None:
    run(looks_at_background, smears, tmp_path, ("mirror",))
    before = len((tmp_path / JUDGEMENTS_FILE).read_bytes().splitlines())
    run(looks_at_background, smears, tmp_path, ("mirror",), seed=7)
    assert len((tmp_path / JUDGEMENTS_FILE).read_bytes().splitlines()) == 2 * before


def test_what_is_written(smears: Path, tmp_path: Path) -> None:
    report = run(looks_at_background, smears, tmp_path, ("mirror", "background_same_class"))
    content = json.loads((tmp_path / AUDIT_FILE).read_bytes())
    assert content["model"]["bundle_digest"] == bundle_of().digest
    assert content["seed"] == 2025
    assert [one["change"] for one in content["changes"]] == [
        "as_is",
        "background_same_class",
        "mirror",
    ]
    page = (tmp_path / PAGE_FILE).read_text("utf-8")
    for verdict in report.verdicts:
        assert verdict.sentence in page
    assert "| mirrored | 6 | 100.0%" in page
    assert (tmp_path / EXAMPLES_FILE).read_bytes().startswith(b"\x89PNG")


def test_twins_are_compared(smears: Path, tmp_path: Path) -> None:
    table = smears.parent / "pairs.csv"
    table.write_text(
        f"full,small\n{smears.name}/benign/00.png,{smears.name}/benign/01.png\n"
        f"{smears.name}/benign/00.png,{smears.name}/early/01.png\n"
    )
    report = run(looks_at_background, smears, tmp_path, ("mirror",), twins=table)
    assert report.twins is not None
    assert (report.twins.same.hits, report.twins.same.n) == (1, 2)
    assert report.twins.differing == ["benign/00.png"]
    assert "50.0%" in report.verdicts[-1].sentence


def test_images_the_model_was_trained_on_are_refused(smears: Path, tmp_path: Path) -> None:
    options = AuditOptions(smears, tmp_path, splits=table_of(smears, tmp_path), test_fold=0)
    with pytest.raises(ConfigurationError, match="trained on 1 of the 6"):
        held_out(bundle_of("benign/00.png"), options)


def test_the_fold_is_the_one_in_the_models_record(smears: Path, tmp_path: Path) -> None:
    options = AuditOptions(smears, tmp_path, splits=table_of(smears, tmp_path))
    training: dict[str, object] = {"split": "test fold 0; x", "fold_column": "block_fold"}
    images, part = held_out(bundle_of(training=training), options)
    assert len(images) == 2 * PER_CLASS
    assert part == "fold 0 by block_fold of folds.csv"
    with pytest.raises(ConfigurationError, match="--test-fold"):
        held_out(bundle_of(), options)


def test_an_unknown_change_is_named() -> None:
    with pytest.raises(ConfigurationError, match="no change is called mirorr"):
        chosen_changes(["mirorr"])
    assert [one.name for one in chosen_changes(["mirror"])] == ["as_is", "mirror"]


def test_few_images_are_spread_over_classes_and_files() -> None:
    images = [
        LabelledImage(Path(f"{label}/{number:02}.png"), label, "g", 0)
        for label, count in (("benign", 30), ("early_b", 2), ("pro_b", 30))
        for number in range(count)
    ]
    chosen = spread(images, 12)
    names = [image.path.as_posix() for image in chosen]
    assert len(names) == len(set(names)) == 12
    benign = [name for name in names if "benign" in name]
    assert benign[0] < "benign/10.png"
    assert benign[-1] > "benign/20.png"
    counts = [sum(name.startswith(label) for name in names) for label in ("b", "e", "p")]
    assert counts == [5, 2, 5]
    assert spread(images, None) == images


@pytest.mark.parametrize(
    ("hits", "n", "limit", "word"),
    [
        (0, 100, 0.01, "PASS"),
        (1, 100, 0.01, "PASS"),
        (2, 100, 0.01, "FAIL"),
        (0, 60, 0.01, "UNKNOWN"),
        (1, 60, 0.01, "UNKNOWN"),
        (20, 60, 0.01, "FAIL"),
        (1, 10, 0.0, "FAIL"),
        (0, 10, 0.0, "UNKNOWN"),
        (0, 100, 0.0, "PASS"),
        (1, 20, 0.05, "PASS"),
        (2, 20, 0.05, "FAIL"),
    ],
)
def test_a_verdict_never_hangs_on_one_image(hits: int, n: int, limit: float, word: str) -> None:
    measured = Proportion.of([True] * hits + [False] * (n - hits))
    assert held_against(measured, limit) == word


def test_tighter_limits_need_more_images() -> None:
    assert [needed(limit) for limit in (0.05, 0.02, 0.01, 0.0)] == [20, 50, 100, 100]


# --- explanations ---------------------------------------------------------------------------------


def with_explanations(
    smears: Path, out: Path, explain: Callable[[bytes], Said] | None, images: int = 40
) -> AuditReport:
    options = AuditOptions(
        data=smears,
        out=out,
        splits=table_of(smears, out),
        test_fold=0,
        changes=("mirror",),
        explained=images,
    )
    return audit(bundle_of(), looks_at_background, options, explain=explain)


def test_the_figures_of_explanations_are_told_class_by_class(smears: Path, tmp_path: Path) -> None:
    found = with_explanations(smears, tmp_path, explained).explanations
    assert found is not None
    assert found.images == {"benign": PER_CLASS, "early_b": PER_CLASS, "pre_b": 0, "pro_b": 0}
    assert found.doubted_by_class["benign"].hits == 0
    assert found.doubted_by_class["early_b"].hits == PER_CLASS
    assert found.doubted.share == 0.5
    measures = {one.measure: one for one in found.measures}
    assert set(measures) == set(MEASURES)
    ssim = measures["mr_ssim"]
    assert ssim.all is not None
    assert ssim.all.n == 2 * PER_CLASS
    benign, early = ssim.by_class["benign"], ssim.by_class["early_b"]
    assert benign is not None
    assert early is not None
    assert benign.median > early.median
    assert ssim.by_class["pre_b"] is None
    assert measures["stability"].all is None, "what no explanation has, has no distribution"
    page = (tmp_path / PAGE_FILE).read_text()
    assert f"| doubted | 50.0% (18.8% to 81.2%) | 0 of {PER_CLASS} | {PER_CLASS} of 3 |" in page
    assert f"| MR-SSIM of Grad-CAM and Score-CAM | {ssim.all.median:.2f} (" in page


def test_quartiles_are_those_of_the_defined_values() -> None:
    found = Distribution.of([0.0, None, 1.0, 2.0, 4.0, None, 3.0])
    assert found == Distribution(n=5, lower_quartile=1, median=2, upper_quartile=3)
    assert Distribution.of([None]) is None


def test_explanations_are_computed_once_and_only_if_wanted(smears: Path, tmp_path: Path) -> None:
    calls: list[bytes] = []

    def counted(data: bytes) -> Said:
        calls.append(data)
        return explained(data)

    first = with_explanations(smears, tmp_path, counted, images=2)
    assert len(calls) == 2
    assert with_explanations(smears, tmp_path, counted, images=2) == first
    assert len(calls) == 2
    with_explanations(smears, tmp_path, counted, images=2 * PER_CLASS)
    assert len(calls) == 2 * PER_CLASS, "the two are known"
    assert with_explanations(smears, tmp_path, None).explanations is None
    assert "## Explanations" not in (tmp_path / PAGE_FILE).read_text()


def test_an_image_that_is_not_explained_is_named(smears: Path, tmp_path: Path) -> None:
    report = with_explanations(smears, tmp_path, looks_at_background)
    assert report.explanations is None
    assert len(report.unreadable) == 2 * PER_CLASS
