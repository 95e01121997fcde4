"""Random rows of a large embedding store against an uncompressed Parquet table of the same vectors."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.speed import Row, median_seconds
from stores.embeddings import EmbeddingStore, embedding_columns
from stores.store import SHARD_ROWS

N, CHOSEN, WIDTH = 100_000, 1_000, 384
OWN = "Parquet, uncompressed"


def measure(repeats: int) -> list[Row]:
    """Seconds per chosen row, files in the page cache of both."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(N, WIDTH)).astype(np.float32)
    some = np.sort(random.choice(N, CHOSEN, replace=False))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.parquet"
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), WIDTH)
        pq.write_table(pa.table({"embedding": column}), path, compression="none", use_dictionary=False)
        store = write(Path(folder) / "vectors.zarr", vectors)
        wanted = pa.array(some)

        def from_parquet() -> NDArray[np.float32]:
            taken = pq.read_table(path, columns=["embedding"])["embedding"].take(wanted)
            return np.asarray(taken.combine_chunks().flatten()).reshape(-1, WIDTH)

        if not np.array_equal(from_parquet(), store.read("embedding", some)):
            raise RuntimeError("store and table hold other vectors")
        one, own = median_seconds(repeats, from_parquet, lambda: store.read("embedding", some))
    return [Row(OWN, one / CHOSEN), Row("store", own / CHOSEN, OWN)]


def write(path: Path, vectors: NDArray[Any]) -> EmbeddingStore:
    """A finished store of the vectors."""
    n, width = vectors.shape
    store = EmbeddingStore.create(
        path,
        embedding_columns(width, str(vectors.dtype)),
        n,
        {"survey": "speed", "rows": n},
        shard_rows=SHARD_ROWS,
        details={},
    )
    for shard in range(store.n_shards):
        rows = store.rows(shard)
        own = vectors[rows]
        empty = {name: np.zeros(len(own), dtype=store.array(name).dtype) for name in ("ra", "dec", "snr", "flags")}
        ids = np.arange(1 + rows.start, 1 + rows.start + len(own))
        store.write_shard(shard, {"embedding": own, "id": ids, **empty}, {"sources": [], "failed": []})
    store.finish()
    return store
