"""Canonical bytes: one value, one spelling."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.canonical import canonical_bytes, digest, rounded

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_reading_and_writing_again_gives_the_same_bytes(value):
    written = canonical_bytes(value)
    assert canonical_bytes(json.loads(written)) == written


def test_order_of_keys_does_not_matter():
    assert (
        canonical_bytes({"b": 1, "a": 2}) == canonical_bytes({"a": 2, "b": 1}) == b'{"a":2,"b":1}\n'
    )


def test_noise_below_the_sixth_digit_disappears_and_zero_has_one_sign():
    assert canonical_bytes([0.1234561, -0.0]) == canonical_bytes([0.1234562, 0.0])
    assert rounded(1234567.0) == 1234570.0


def test_numbers_that_json_cannot_write_are_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_bytes(float("nan"))


def test_the_digest_is_of_the_bytes():
    assert digest({"a": 1}) == digest({"a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
