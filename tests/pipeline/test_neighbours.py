"""Nearest references: distances, votes and storage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist

from pipeline.errors import ConfigurationError
from pipeline.neighbours import Neighbours, References
from pipeline.results import Neighbour


def references(embeddings: np.ndarray, labels: list[int] | None = None) -> References:
    count = len(embeddings)
    return References(
        embeddings=embeddings.astype(np.float32),
        labels=np.array(labels or [0] * count, dtype=np.int8),
        ids=tuple(f"r{number}" for number in range(count)),
    )


def neighbours(*labels: str) -> Neighbours:
    return Neighbours(
        tuple(
            Neighbour(id=str(rank), label=label, distance=float(rank))  # type: ignore[arg-type]
            for rank, label in enumerate(labels)
        )
    )


def test_distances_are_euclidean_after_scaling_each_dimension_to_the_range_of_the_references():
    known = references(np.array([[0.0, 10.0], [2.0, 30.0], [1.0, 20.0]]))
    found = known.nearest(np.array([2.0, 10.0], dtype=np.float32), 3)
    # Scaled: query (1, 0); references (0, 0), (1, 1), (0.5, 0.5).
    assert [item.id for item in found.nearest] == ["r2", "r0", "r1"]
    assert [item.distance for item in found.nearest] == pytest.approx([np.sqrt(0.5), 1.0, 1.0])


def test_a_reference_is_its_own_nearest_neighbour_and_equal_distances_keep_stored_order():
    known = references(np.array([[1.0, 5.0], [3.0, 5.0], [3.0, 5.0]]))
    found = known.nearest(np.array([3.0, 5.0], dtype=np.float32), 2)
    assert [item.id for item in found.nearest] == ["r1", "r2"]
    assert found.distance == 0.0


def test_a_dimension_that_is_constant_in_the_references_still_counts():
    known = references(np.array([[0.0, 4.0], [1.0, 4.0]]))
    found = known.nearest(np.array([0.0, 7.0], dtype=np.float32), 1)
    assert found.distance == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("labels", "vote", "agreement"),
    [
        (("pre_b", "pre_b", "benign", "pre_b", "pro_b"), "pre_b", 0.6),
        (("pro_b", "benign", "benign", "pro_b", "pre_b"), "pro_b", 0.4),
        (("benign", "pro_b", "pro_b", "benign", "pre_b"), "benign", 0.4),
    ],
)
def test_the_majority_votes_and_ties_go_to_the_nearest(labels, vote, agreement):
    found = neighbours(*labels)
    assert found.vote == vote
    assert found.agreement == pytest.approx(agreement)


@given(
    hnp.arrays(np.float32, (12, 4), elements=st.floats(-100, 100, width=32)),
    hnp.arrays(np.float32, 4, elements=st.floats(-100, 100, width=32)),
)
def test_search_agrees_with_scipy(embeddings, query):
    known = references(embeddings)
    distances = cdist(known.normalise(query)[None], known.normalise(embeddings))[0]
    expected = np.sort(distances)[:5]
    found = [item.distance for item in known.nearest(query, 5).nearest]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5 * (1 + expected.max()))


def by_definition(known: References, query: np.ndarray, count: int) -> tuple[np.ndarray, ...]:
    """All distances in double precision, sorted."""
    difference = known.normalise(known.embeddings) - known.normalise(query)
    distances = np.sqrt((difference**2).sum(axis=1))
    order = np.argsort(distances, kind="stable")[:count]
    return order, distances[order]


@given(
    st.integers(1, 300),
    st.integers(1, 40),
    st.sampled_from([1e-3, 1.0, 1e4]),
    st.sampled_from(["continuous", "few values", "constant"]),
    st.sampled_from([0.0, 1.0, 1e12, 1e38]),
    st.integers(0, 1000),
)
def test_search_gives_exactly_what_all_distances_in_double_precision_give(
    count, dimensions, scale, kind, offset, seed
):
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(count, dimensions)) * scale + 100 * scale
    if kind == "few values":
        embeddings = rng.integers(0, 2, size=(count, dimensions)) * scale
    if kind == "constant":
        embeddings = np.full((count, dimensions), scale)
    known = references(embeddings)
    queries = np.concatenate(
        [known.embeddings[:3], rng.normal(size=(3, dimensions)) * scale + offset]
    ).astype(np.float32)
    for query, (indices, distances) in zip(queries, known.search(queries, 5), strict=True):
        order, expected = by_definition(known, query, 5)
        np.testing.assert_array_equal(indices, order)
        np.testing.assert_array_equal(distances, expected)


def test_many_queries_at_once_are_held_in_parts(monkeypatch):
    rng = np.random.default_rng(8)
    known = references(rng.normal(size=(50, 6)))
    queries = rng.normal(size=(20, 6)).astype(np.float32)
    whole = known.nearest_of_all(queries, 3)
    monkeypatch.setattr("pipeline.neighbours.HELD", 100)
    monkeypatch.setattr("pipeline.neighbours.BLOCK", 4)
    assert known.nearest_of_all(queries, 3) == whole == [known.nearest(q, 3) for q in queries]


def test_embeddings_that_are_no_numbers_are_refused():
    with pytest.raises(ConfigurationError, match="NaN"):
        references(np.array([[0.0, np.nan]]))
    with pytest.raises(ConfigurationError, match="NaN"):
        references(np.eye(2)).nearest(np.array([0.0, np.inf], np.float32), 1)


@pytest.mark.parametrize(
    ("labels", "vote", "agreement"),
    [
        (("malignant",) * 5, "malignant", 1.0),
        (("malignant", "malignant", "pro_b", "malignant", "benign"), "pro_b", 0.8),
        (("benign", "malignant", "malignant", "benign", "benign"), "benign", 0.6),
        (("malignant", "benign", "malignant", "benign", "malignant"), "malignant", 0.6),
        (("malignant", "benign", "pre_b", "benign"), "pre_b", 0.5),
        (("benign", "malignant", "pre_b", "benign"), "benign", 0.5),
    ],
)
def test_references_without_a_subtype_support_every_malignant_label(labels, vote, agreement):
    found = neighbours(*labels)
    assert found.vote == vote
    assert found.agreement == pytest.approx(agreement)
    assert found.agrees("early_b") == (vote == "malignant")
    assert not found.agrees("benign") or vote == "benign"


def test_references_survive_storage(tmp_path: Path):
    known = references(np.array([[0.0, 1.0], [2.0, 3.0]]), [1, 3])
    known.save(tmp_path / "references.npz")
    again = References.load(tmp_path / "references.npz")
    np.testing.assert_array_equal(again.embeddings, known.embeddings)
    np.testing.assert_array_equal(again.labels, known.labels)
    assert again.ids == known.ids


def test_damaged_references_are_refused_with_their_name(tmp_path: Path):
    path = tmp_path / "references.npz"
    path.write_bytes(b"not an archive")
    with pytest.raises(ConfigurationError, match=r"references\.npz"):
        References.load(path)


def test_references_without_labels_for_all_are_refused():
    with pytest.raises(ConfigurationError):
        References(np.zeros((2, 3), np.float32), np.zeros(1, np.int8), ("a", "b"))


def test_slopes_towards_an_embedding_are_those_of_the_similarity():
    rng = np.random.default_rng(8)
    stored = rng.uniform(0, 1, (4, 8)).astype(np.float32)
    references = References(stored, np.zeros(4, np.int8), ("a", "b", "c", "d"))
    image, reference, step = rng.uniform(0, 1, (3, 8))
    (slope,) = references.slopes_towards(image[None])

    def similarity(embedding: np.ndarray) -> float:
        return float(
            references.normalise(image[None])[0] @ references.normalise(embedding[None])[0]
        )

    change = similarity(reference + step) - similarity(reference)
    assert slope @ step == pytest.approx(change)
