"""How labelled folders are divided."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from pipeline.labels import LABELS
from pipeline.training.data import copies_across, hold_out, infer_folds, read_folds


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    for folder in ("benign", "early", "pre", "pro"):
        (tmp_path / folder).mkdir()
        for number in range(45):
            # Every file has its own content but 40 and 2, which are copies.
            content = f"{folder} {2 if number == 40 else number}"
            (tmp_path / folder / f"{number:03d}.jpg").write_text(content)
    return tmp_path


def test_consecutive_files_stay_together_and_copies_join_the_first(labelled):
    images = infer_folds(labelled)
    assert Counter(image.label for image in images) == dict.fromkeys(LABELS, 45)
    group = {image.path.name: image.group for image in images if image.label == "pre_b"}
    assert group["003.jpg"] == group["004.jpg"] == group["005.jpg"] != group["006.jpg"]
    assert group["040.jpg"] == group["002.jpg"]


def test_no_group_is_in_two_parts_and_every_image_is_in_one(labelled):
    images = infer_folds(labelled)
    split = hold_out(images, test_fold=0, calibration_groups=2, seed=1)
    parts = [split.train, split.calibration, split.test]
    groups = [{image.group for image in part} for part in parts]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert sorted(image for part in parts for image in part) == images
    assert {
        label: len({i.group for i in split.calibration if i.label == label}) for label in LABELS
    } == dict.fromkeys(LABELS, 2)
    assert copies_across(split.train, split.test) == 0


def test_the_division_follows_from_the_seed(labelled):
    images = infer_folds(labelled)
    assert hold_out(images, 0, 2, seed=1) == hold_out(images, 0, 2, seed=1)
    assert hold_out(images, 0, 2, seed=1) != hold_out(images, 0, 2, seed=2)


def test_a_missing_class_is_named(tmp_path):
    (tmp_path / "benign").mkdir()
    with pytest.raises(ConfigurationError, match="benign"):
        infer_folds(tmp_path)


def test_calibration_may_not_take_everything(labelled):
    with pytest.raises(ConfigurationError, match="none to train on"):
        hold_out(infer_folds(labelled), 0, 12, seed=1)


def test_the_table_of_folds_must_name_files_that_are_there(labelled, tmp_path):
    table = tmp_path / "folds.csv"
    table.write_text("path,block,block_fold\nset/pre/000.jpg,pre-00,3\n")
    (image,) = read_folds(labelled, table)
    assert (image.label, image.group, image.fold) == ("pre_b", "pre-00", 3)
    table.write_text("path,block,block_fold\nset/pre/999.jpg,pre-00,3\n")
    with pytest.raises(ConfigurationError, match=r"999\.jpg"):
        read_folds(labelled, table)
    table.write_text("path,block\nset/pre/000.jpg,pre-00\n")
    with pytest.raises(ConfigurationError, match="block_fold"):
        read_folds(labelled, table)
