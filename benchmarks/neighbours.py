"""Measure the search for the nearest references against other software.

    python -m benchmarks.neighbours [--sizes 10000 100000 1000000] [--dimensions 256] [--out FILE]

References and queries lie in clusters, as embeddings do. Every engine gets the normalised
references and answers the same queries, in turns with this project's search, on one thread. Prints
a table: time per query of one query alone and of a batch, the ratio of the paired times (above 1:
the other is slower), and recall against all distances in double precision. The index library
(faiss-cpu) is left out if it is not installed; it is a dependency of nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from pipeline.neighbours import References

CLOSE = 5
CLUSTERS = 200
BATCH = 64

#: Queries whose neighbours are computed in double precision, for the recall.
CHECKED = 16
OUT = Path(__file__).parent / "results" / "neighbours.json"

#: Positions of the nearest for every row of queries as the network gives them.
Search = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hnsw-up-to", type=int, default=20_000, help="building it takes long")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    rows = []
    print(f"{'references':>10}  {'engine':22} {'ms alone':>9} {'ratio':>6} ", end="")
    print(f"{'ms in batch':>11} {'ratio':>6} {'recall':>7}  built in")
    with threadpool_limits(1):
        for size in options.sizes:
            for row in measure(size, options):
                rows.append(row)
                print(
                    f"{row['references']:>10,}  {row['engine']:22} {row['alone_ms']:>9.2f} "
                    f"{row['alone_ratio']:>6.2f} {row['batch_ms']:>11.2f} "
                    f"{row['batch_ratio']:>6.2f} {row['recall']:>7.4f}  {row['build_s']:.1f} s",
                    flush=True,
                )
    found = {"dimensions": options.dimensions, "close": CLOSE, "batch": BATCH, "rows": rows}
    options.out.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")


def measure(size: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per engine, this project's first."""
    rng = np.random.default_rng(size)
    centres = rng.gamma(0.5, size=(CLUSTERS, options.dimensions)).astype(np.float32)
    known = clustered(rng, centres, size)
    queries = clustered(rng, centres, BATCH)
    start = time.perf_counter()
    references = References(known, np.zeros(size, np.int8), ("",) * size)
    build = time.perf_counter() - start
    truth = in_double_precision(references, queries[:CHECKED])

    def ours(some: np.ndarray) -> np.ndarray:
        return np.array([found for found, _ in references.search(some, CLOSE)])

    normalised = np.concatenate(
        [references.normalise(part).astype(np.float32) for part in np.array_split(known, 50)]
    )
    engines: dict[str, tuple[Search, float]] = {"this project": (ours, build)}
    for name, prepare in others(size <= options.hnsw_up_to).items():
        start = time.perf_counter()
        search = prepare(normalised)
        prepared = time.perf_counter() - start
        engines[name] = (
            lambda some, search=search: search(references.normalise(some).astype(np.float32)),
            prepared,
        )
    for name, (search, seconds) in engines.items():
        alone = paired(search, ours, queries[:1], options.rounds)
        batch = paired(search, ours, queries, options.rounds)
        found = search(queries)[:CHECKED]
        hits = [len(set(a) & set(b)) / CLOSE for a, b in zip(found, truth, strict=True)]
        yield {
            "references": size,
            "engine": name,
            "alone_ms": 1000 * alone[0],
            "alone_ratio": alone[1],
            "batch_ms": 1000 * batch[0] / BATCH,
            "batch_ratio": batch[1],
            "recall": float(np.mean(hits)),
            "build_s": seconds,
        }


def others(hnsw: bool) -> dict[str, Callable[[np.ndarray], Search]]:
    """Engines by name, each a function of float32 references."""

    def scikit_learn(known: np.ndarray) -> Search:
        fitted = NearestNeighbors(n_neighbors=CLOSE, algorithm="brute").fit(known)
        return lambda queries: fitted.kneighbors(queries, return_distance=False)

    engines: dict[str, Callable[[np.ndarray], Search]] = {"scikit-learn, exact": scikit_learn}
    try:
        import faiss
    except ImportError:
        print("faiss is not installed: pip install faiss-cpu")
        return engines
    faiss.omp_set_num_threads(1)

    def flat(known: np.ndarray) -> Search:
        index = faiss.IndexFlatL2(known.shape[1])
        index.add(known)
        return lambda queries: index.search(queries, CLOSE)[1]

    def graph(known: np.ndarray) -> Search:
        index = faiss.IndexHNSWFlat(known.shape[1], 32)
        index.hnsw.efSearch = 64
        index.add(known)
        return lambda queries: index.search(queries, CLOSE)[1]

    engines["faiss, exact"] = flat
    if hnsw:
        engines["faiss, HNSW graph"] = graph
    return engines


def paired(search: Search, ours: Search, queries: np.ndarray, rounds: int) -> tuple[float, float]:
    """Median seconds, and the median of the ratios to this project's time, taken in turns."""
    search(queries)
    seconds, ratios = [], []
    for turn in range(rounds):
        order = (search, ours) if turn % 2 else (ours, search)
        taken = {}
        for one in order:
            start = time.perf_counter()
            one(queries)
            taken[one] = time.perf_counter() - start
        seconds.append(taken[search])
        ratios.append(taken[search] / taken[ours])
    return statistics.median(seconds), statistics.median(ratios)


def clustered(rng: np.random.Generator, centres: np.ndarray, count: int) -> np.ndarray:
    """Points about the centres, not negative, as after a ReLU."""
    points = centres[rng.integers(len(centres), size=count)]
    points += 0.3 * rng.standard_normal(points.shape, dtype=np.float32)
    return np.maximum(points, 0, out=points)


def in_double_precision(references: References, queries: np.ndarray) -> np.ndarray:
    """The nearest by all distances in double precision."""
    best = []
    for query in references.normalise(queries):
        distances = np.concatenate(
            [
                ((references.normalise(part) - query) ** 2).sum(axis=1)
                for part in np.array_split(references.embeddings, 50)
            ]
        )
        best.append(np.argsort(distances, kind="stable")[:CLOSE])
    return np.array(best)


if __name__ == "__main__":
    main()
