"""How labelled images are divided, and what is inferred where no table says."""

from __future__ import annotations

import csv
from collections import defaultdict

import cv2
import numpy as np
import pytest

from pipeline.errors import ConfigurationError
from pipeline.evaluation.examples import (
    CNMC_SUBJECT,
    Example,
    list_examples,
    patient_of,
    read_table,
    truth_of,
)
from pipeline.evaluation.groups import fine_structure, infer_table, near_duplicates
from pipeline.evaluation.protocols import (
    PROTOCOLS,
    crossing_duplicates,
    describe,
    parts_of,
    protocol_named,
)
from tests.pipeline.evaluation.labelled_folders import draw_smear, write_folder, write_image


@pytest.mark.parametrize(
    ("path", "truth"),
    [
        ("benign/a.png", "benign"),
        ("set/healthy/a.png", "benign"),
        ("hem/UID_H1_1_1_hem.png", "benign"),
        ("Early/a.png", "early_b"),
        ("cnmc/all/a.png", "malignant"),
        ("blast/fold/a.png", "malignant"),
        ("malaria/a.png", "outside"),
        ("a.png", "outside"),
    ],
)
def test_the_nearest_known_folder_says_what_an_image_is(path, truth):
    assert truth_of(path) == truth


def test_the_folder_that_was_named_counts_too():
    assert truth_of("a.png", root_name="blast") == "malignant"


def test_a_subject_is_read_from_the_names_of_cnmc():
    assert patient_of("all/UID_16_12_3_all.png", CNMC_SUBJECT) == "16"
    assert patient_of("hem/UID_H10_101_1_hem.png", CNMC_SUBJECT) == "H10"
    assert patient_of("benign/WBC-Benign-001.jpg", CNMC_SUBJECT) is None


@pytest.mark.parametrize("pattern", ["(", "no group"])
def test_a_pattern_must_name_a_patient(tmp_path, pattern):
    with pytest.raises(ConfigurationError):
        list_examples(tmp_path, truth=None, patient_pattern=pattern)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ConfigurationError, match="no images"):
        list_examples(tmp_path, truth=None, patient_pattern=CNMC_SUBJECT)


def examples_in_folds(folds: int = 3) -> list[Example]:
    return [Example(f"benign/{n:02d}.png", "benign", n % folds, f"g{n % folds}") for n in range(12)]


def test_every_image_is_tested_on_once_and_never_learned_from_then():
    parts = parts_of(PROTOCOLS["blocks"], examples_in_folds())
    assert sorted(one for part in parts for one in part.test) == sorted(examples_in_folds())
    for part in parts:
        assert not set(part.learn) & set(part.test)
        assert len(part.learn) + len(part.test) == 12
        assert not {one.group for one in part.learn} & {one.group for one in part.test}


def test_holdout_tests_one_fold_and_elsewhere_everything():
    (part,) = parts_of(PROTOCOLS["holdout"], examples_in_folds())
    assert part.fold == 0 and len(part.test) == 4
    (everything,) = parts_of(PROTOCOLS["elsewhere"], examples_in_folds())
    assert len(everything.test) == 12 and not everything.learn


def test_what_is_not_there_is_refused_with_what_is():
    with pytest.raises(ConfigurationError, match="0, 1, 2"):
        parts_of(PROTOCOLS["blocks"], examples_in_folds(), [7])
    with pytest.raises(ConfigurationError, match="no folds"):
        parts_of(PROTOCOLS["elsewhere"], examples_in_folds(), [0])
    with pytest.raises(ConfigurationError, match="random"):
        protocol_named("bootstrap")


def test_near_duplicates_that_cross_are_counted():
    examples = [
        Example("benign/0.png", "benign", 0, duplicate="a"),
        Example("benign/1.png", "benign", 1, duplicate="a"),
        Example("benign/2.png", "benign", 0, duplicate="b"),
        Example("benign/3.png", "benign", 0, duplicate="b"),
        Example("benign/4.png", "benign", 1, duplicate="c"),
    ]
    part = parts_of(PROTOCOLS["random"], examples, [0])[0]
    assert crossing_duplicates(part) == 1
    assert describe(PROTOCOLS["random"], examples)["near_duplicate_images"] == 2


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Twenty smears of each class; early/019 is early/002 saved again, pre/019 copies pre/004."""
    root = tmp_path_factory.mktemp("labelled")
    write_folder(root)
    original = cv2.imread(str(root / "early" / "002.png"))[..., ::-1]
    (root / "early" / "019.png").unlink()
    write_image(root / "early" / "019.jpg", original, quality=85)
    (root / "pre" / "019.png").write_bytes((root / "pre" / "004.png").read_bytes())
    return root


@pytest.fixture(scope="module")
def table(labelled):
    found = list_examples(labelled, truth=None, patient_pattern=r".*/(?P<patient>\d\d)\d\.\w+")
    path = labelled / "folds.csv"
    infer_table(labelled, found, path, seed=1)
    return path


def rows_of(table) -> list[dict[str, str]]:
    with table.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_copies_and_images_saved_again_are_near_duplicates_and_nothing_else_is(table):
    groups = defaultdict(set)
    for row in rows_of(table):
        groups[row["duplicate_group"]].add(row["path"])
    assert sorted(map(sorted, (group for group in groups.values() if len(group) > 1))) == [
        ["early/002.png", "early/019.jpg"],
        ["pre/004.png", "pre/019.png"],
    ]


@pytest.mark.parametrize("name", ["blocks", "stain"])
def test_inferred_folds_keep_groups_and_near_duplicates_together(labelled, table, name):
    protocol = PROTOCOLS[name]
    examples = read_table(
        labelled,
        table,
        fold_column=protocol.fold_column,
        group_column=protocol.group_column,
        patient_pattern=CNMC_SUBJECT,
    )
    assert len(examples) == 80
    folds_of = defaultdict(set)
    for one in examples:
        folds_of["group", one.group].add(one.fold)
        folds_of["duplicate", one.duplicate].add(one.fold)
    assert all(len(folds) == 1 for folds in folds_of.values())
    assert sum(crossing_duplicates(part) for part in parts_of(protocol, examples)) == 0


def test_inferred_folds_are_of_even_size_in_every_class(table):
    for column, folds in (("random_fold", 5), ("block_fold", 5), ("stain_fold", 4)):
        sizes = defaultdict(int)
        for row in rows_of(table):
            sizes[row["label"], row[column]] += 1
        assert len(sizes) == 4 * folds, column
        assert max(sizes.values()) <= (4 if column == "random_fold" else 10), column


def test_subjects_are_kept_together(table):
    folds_of = defaultdict(set)
    for row in rows_of(table):
        folds_of[row["subject"]].add(row["subject_fold"])
    assert folds_of and all(len(folds) == 1 for folds in folds_of.values())


def test_the_inferred_table_follows_from_images_and_seed(labelled, table, tmp_path):
    found = list_examples(labelled, truth=None, patient_pattern=r".*/(?P<patient>\d\d)\d\.\w+")
    infer_table(labelled, found, tmp_path / "again.csv", seed=1)
    assert (tmp_path / "again.csv").read_bytes() == table.read_bytes()


def test_an_image_that_cannot_be_read_stops_the_inference(tmp_path):
    (tmp_path / "benign").mkdir()
    (tmp_path / "benign" / "a.jpg").write_bytes(b"no image")
    found = list_examples(tmp_path, truth=None, patient_pattern=CNMC_SUBJECT)
    with pytest.raises(ConfigurationError, match=r"a\.jpg"):
        infer_table(tmp_path, found, tmp_path / "folds.csv", seed=1)


def test_near_duplicates_form_chains():
    structures = np.array([[1.0, 0, 0], [0.9, 0.436, 0], [0.6, 0.8, 0], [0, 0, 1]])
    # 0 and 1 correlate by 0.9, 1 and 2 by 0.89, 0 and 2 by only 0.6.
    assert near_duplicates(["a", "b", "c", "d"], structures) == [0, 0, 0, 3]
    assert near_duplicates(["a", "b", "c", "a"], np.eye(4)) == [0, 1, 2, 0]


def test_stain_does_not_make_a_near_duplicate_but_a_smaller_copy_does():
    pixels = draw_smear(1, (230, 225, 235))
    other_stain = np.clip(pixels.astype(int) - (30, 0, 10), 0, 255).astype(np.uint8)
    smaller = cv2.resize(pixels, (80, 80), interpolation=cv2.INTER_AREA)
    unrelated = draw_smear(2, (230, 225, 235))
    one = fine_structure(pixels)
    assert one @ fine_structure(other_stain) > 0.9
    assert one @ fine_structure(smaller) > 0.9
    assert one @ fine_structure(unrelated) < 0.5


def test_the_fixed_folds_of_the_taleqani_set(shared_data):
    root, splits = shared_data("taleqani"), shared_data("splits/taleqani.csv")
    crossing = {}
    for name in ("random", "blocks", "stain"):
        protocol = PROTOCOLS[name]
        examples = read_table(
            root,
            splits,
            fold_column=protocol.fold_column,
            group_column=protocol.group_column,
            patient_pattern=CNMC_SUBJECT,
        )
        parts = parts_of(protocol, examples)
        assert sum(len(part.test) for part in parts) == 2863
        crossing[name] = sum(crossing_duplicates(part) for part in parts)
    assert crossing["random"] > 0 == crossing["blocks"] == crossing["stain"]
