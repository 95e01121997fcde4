"""Searching embeddings: the exact index of a store against brute force in numpy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import Row, median_seconds
from benchmarks.speed.rows import write
from stores.index import Index

N, QUERIES, WIDTH, K = 100_000, 64, 384, 10
OWN = "numpy, all similarities"


def measure(repeats: int) -> list[Row]:
    """Seconds per query of QUERIES at once among N vectors; both find the same neighbours."""
    random = np.random.default_rng(0)
    vectors, queries = (unit(random.normal(size=(n, WIDTH)).astype(np.float32)) for n in (N, QUERIES))
    with tempfile.TemporaryDirectory() as folder:
        index = Index.open(write(Path(folder) / "vectors.zarr", vectors))

    def brute_force() -> NDArray[np.int64]:
        similarity = queries @ vectors.T
        near = np.argpartition(similarity, -K, axis=1)[:, -K:]
        order = np.argsort(-np.take_along_axis(similarity, near, axis=1), axis=1)
        return 1 + np.take_along_axis(near, order, axis=1)

    if not np.array_equal(index.search(queries, K)[0], brute_force()):
        raise RuntimeError("the index and brute force find other neighbours")
    one, own = median_seconds(repeats, brute_force, lambda: index.search(queries, K))
    return [Row(OWN, one / QUERIES), Row("exact index", own / QUERIES, OWN)]


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors at length 1."""
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled
