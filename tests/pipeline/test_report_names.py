"""Names of patients as directories, and names as text that cannot mislead."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report import case_conflicts, patient_directory
from pipeline.report.names import MAX_DIRECTORY_BYTES, visible, visible_parts

#: Any string Python can hold, lone surrogates (undecodable file names) included.
names = st.text(alphabet=st.characters(exclude_categories=()), max_size=200)


def test_plain_names_stay_as_they_are() -> None:
    assert patient_directory("P-17_b") == "P-17_b"
    assert patient_directory("_root") == "_root"


@pytest.mark.parametrize(
    ("patient", "directory"),
    [
        ("Müller, A.", "M%C3%BCller%2C%20A%2E"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        ("a\n\x00", "a%0A%00"),
        ("", "%"),
    ],
)
def test_everything_else_is_percent_encoded(patient: str, directory: str) -> None:
    assert patient_directory(patient) == directory


def test_a_name_of_120_bytes_is_kept_and_a_longer_one_ends_in_a_hash() -> None:
    assert patient_directory("a" * 120) == "a" * 120
    long = patient_directory("a" * 121)
    assert re.fullmatch(r"a{87}~[0-9a-f]{32}", long)
    assert len(long) == MAX_DIRECTORY_BYTES


def test_an_escape_is_never_cut_in_two() -> None:
    for length in range(30, 50):
        kept, _ = patient_directory("x" * (length % 3) + "é" * length).split("~")
        assert re.fullmatch(r"(?:[A-Za-z0-9_-]|%[0-9A-F]{2})*", kept)


@given(names)
def test_a_directory_is_one_safe_component(patient: str) -> None:
    directory = patient_directory(patient)
    assert re.fullmatch(r"[A-Za-z0-9_%~-]+", directory)
    assert len(directory) <= MAX_DIRECTORY_BYTES


@given(st.lists(names, unique=True, max_size=30))
def test_different_patients_have_different_directories(patients: list[str]) -> None:
    assert len({patient_directory(patient) for patient in patients}) == len(patients)


def test_a_patient_named_like_a_shortened_directory_has_a_directory_of_its_own() -> None:
    long = "a" * 121
    assert patient_directory(patient_directory(long)) != patient_directory(long)


def test_names_that_differ_in_case_alone_are_reported_as_conflicts() -> None:
    assert case_conflicts(["p-1", "P-1", "P-2", "P-1"]) == [["P-1", "p-1"]]
    assert case_conflicts(["é", "É"]) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("P-17", "P-17"),
        ("two words", "two words"),
        (" x  y ", r"\x20x \x20y\x20"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x00\x7f\x9b", r"\x00\x7F\x9B"),
        ("abc\u202egpj.exe", r"abc\u202Egpj.exe"),
        ("a\u200bb\u00a0c\u2028", r"a\u200Bb\xA0c\u2028"),
        ("\udcff", r"\uDCFF"),
        ("\U000e0041", r"\U000E0041"),
        ("مريض 患者 Müller", "مريض 患者 Müller"),
    ],
)
def test_characters_that_do_not_show_are_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(names)
def test_visible_text_has_no_invisible_characters_and_can_be_encoded(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not {unicodedata.category(character) for character in shown} & hidden


def test_escapes_are_told_apart_from_text_that_looks_like_them() -> None:
    assert visible_parts("a\\nb") == [("a\\nb", False)]
    assert visible_parts("a\nb") == [("a", False), ("\\n", True), ("b", False)]
