"""A copy of the folder of the reports is a back-up, whenever it was made."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cli.conftest import Screen


def reports(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and "store" not in path.relative_to(out).parts
    }


def test_a_restored_folder_goes_on_as_if_nothing_had_happened(screen: Screen) -> None:
    screen.add("P1/a.jpg", "P1/b.jpg", "P2/c.jpg")
    screen("submit", screen.slides)
    before = reports(screen.out)
    copy = screen.folder / "copy"
    shutil.copytree(screen.out, copy)
    shutil.rmtree(screen.out)
    shutil.copytree(copy, screen.out)
    assert screen.json("submit", screen.slides)["finished_now"] == 0
    assert reports(screen.out) == before


def test_a_copy_made_while_a_run_went_on_computes_what_it_lacks(screen: Screen) -> None:
    screen.add("P1/a.jpg", "P1/b.jpg", "P2/c.jpg")
    run_id = screen.json("submit", screen.slides)["run_id"]
    before = reports(screen.out)
    # What came last did not come along: results of one image, and outcomes and reports of all.
    store = screen.out / "store"
    shutil.rmtree(next(path.parent for path in store.glob("results/*/*/analysis.json")))
    shutil.rmtree(store / "done" / run_id)
    for path in (*store.glob("reported/*"), *screen.out.glob("patients/*/report.json")):
        path.unlink()
    assert screen("resume").exit_code == 0
    assert reports(screen.out) == before
