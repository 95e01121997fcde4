"""Index: nearest neighbours among the vectors of an embedding store, by cosine similarity.

    index = Index.open(EmbeddingStore.open("desi-emb.zarr"))
    ids, similarity = index.search(vectors, k=10)  # vectors (n, d) -> ids, similarity (n, 10)

An index lies beside its store as `X.zarr.flat.faiss`, or among the user's caches for a store in object storage, with
a `.json` that says of which store and factory. The JSON is written last and holds the checksum of the other: an index
that does not fit is built again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.atomic import replacing
from stores.command import say
from stores.embeddings import EmbeddingStore
from stores.errors import InputError, OptionError, StoreError
from stores.flags import Flag
from stores.location import home
from stores.progress import progress
from stores.provenance import file_checksum, provenance

EXACT = "Flat"
LEFT_OUT = Flag.NO_VALID_PIXELS | Flag.DUPLICATE_ID
TRAIN_ROWS = 200_000
RECALL_ROWS, RECALL_K = 200, 10
# how hard approximate indices look; faiss's own nprobe = 1 misses most neighbours
EFFORT = {"nprobe": 16, "efSearch": 64}

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


class Index:
    """A faiss index of unit vectors under survey ids; `recall` is None for an exact one."""

    def __init__(self, index: Any, factory: str, recall: float | None) -> None:
        self._index = index
        self.factory = factory
        self.recall = recall

    @classmethod
    def open(cls, store: EmbeddingStore, factory: str = EXACT) -> Index:
        """The index that lies beside the store, built and left there if none fits."""
        import faiss

        faiss.cvar.distance_compute_blas_threshold = 20  # few queries at a time: several times faster
        path = index_path(store, factory)
        beside = path.with_name(f"{path.name}.json")
        if path.exists() or beside.exists():
            unfit = _unfit(path, beside, store, factory)
            if not unfit:
                record = json.loads(beside.read_text())
                return cls(_with_effort(faiss.read_index(str(path))), factory, record["recall"])
            say(f"'{path}' {unfit}; building it again.")
        index = cls._build(store, factory)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)  # of a store in object storage
            beside.unlink(missing_ok=True)
            with replacing(path) as temporary:
                faiss.write_index(index._index, str(temporary))
            record = {
                "fingerprint": store.fingerprint,
                "factory": factory,
                "rows": len(index),
                "recall": index.recall,
                "sha256": file_checksum(path),
                **provenance(),
            }
            with replacing(beside) as temporary:
                temporary.write_text(json.dumps(record, indent=2) + "\n")
        except (OSError, RuntimeError) as error:  # faiss raises RuntimeError where it cannot write
            # faiss puts its own source lines before the reason
            reason = str(error).splitlines()[0].rsplit(": ", 1)[-1]
            say(f"the index is not kept: '{path}' cannot be written ({reason}).")
        return index

    @classmethod
    def _build(cls, store: EmbeddingStore, factory: str) -> Index:
        import faiss

        try:
            inner = faiss.index_factory(store.width, factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError:
            raise OptionError(
                f"index '{factory}' is not a faiss factory string for vectors of {store.width}; "
                "use for instance Flat, 'IVF256,Flat' or 'HNSW32,Flat'."
            ) from None
        if not inner.is_trained:
            _train(inner, store, factory)
        index = faiss.IndexIDMap2(inner)
        for ids, vectors in progress(
            unit_vectors(store), f"building index {factory}", unit="shard", total=store.n_shards
        ):
            index.add_with_ids(vectors, ids)
        if index.ntotal == 0:
            raise StoreError(f"'{store.path}' holds no embedding of a spectrum with valid pixels.")
        built = cls(_with_effort(index), factory, None)
        if factory != EXACT:
            built.recall = _recall(built, store)
        return built

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def width(self) -> int:
        return int(self._index.d)

    def search(self, vectors: NDArray[np.floating[Any]], k: int = 10) -> tuple[Ids, Vectors]:
        """Ids and cosine similarities (n, k) of the nearest to each of `vectors` (n, d), best first.

        k is cut to the size of the index. Where an approximate index finds fewer, the id is -1 and the
        similarity -inf.
        """
        if k < 1:
            raise OptionError(f"k = {k} must be 1 or more.")
        queries = np.atleast_2d(vectors)
        if queries.shape[1] != self.width:
            raise OptionError(f"vectors have {queries.shape[1]} numbers, and the index is of {self.width}.")
        unit, usable = to_unit(queries)
        if not usable.all():
            row = int(np.flatnonzero(~usable)[0])
            raise InputError(f"vector {row} is all zeros or not finite and has no direction; leave it out.")
        similarity, ids = self._index.search(unit, min(k, len(self)))
        similarity[ids < 0] = -np.inf
        return ids, similarity


def index_path(store: EmbeddingStore, factory: str) -> Path:
    """Where the index of a store lies."""
    slug = re.sub(r"[^a-z0-9]+", "-", factory.lower()).strip("-")
    return home(store.path) / f"{store.path.name}.{slug}.faiss"


def to_unit(vectors: NDArray[np.floating[Any]]) -> tuple[Vectors, NDArray[np.bool_]]:
    """Vectors (n, d) at length 1, and (n,) whether they had a direction."""
    # in float64: squares of half-precision numbers overflow, and tiny vectors keep their direction
    wide = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    usable = np.isfinite(length) & (length > 0)
    unit = np.divide(wide, length, out=np.zeros_like(wide), where=usable)
    return unit.astype(np.float32), usable[:, 0]


def unit_vectors(store: EmbeddingStore) -> Iterator[tuple[Ids, Vectors]]:
    """Ids (n,) and unit vectors (n, d) of what can be searched, shard by shard."""
    for shard in range(store.n_shards):
        rows = store.rows(shard)
        keep = (store.read("flags", rows) & np.uint32(LEFT_OUT)) == 0
        unit, usable = to_unit(store.read("embedding", rows)[keep])
        if not usable.all():
            raise StoreError(
                f"'{store.path}' holds embeddings that are zero or not finite in shard {shard}; "
                "run stores-verify on it."
            )
        yield store.read("id", rows)[keep], unit


def _train(index: Any, store: EmbeddingStore, factory: str) -> None:
    kept = np.flatnonzero((store.read("flags") & np.uint32(LEFT_OUT)) == 0)
    chosen = kept
    if len(kept) > TRAIN_ROWS:
        chosen = np.sort(np.random.default_rng(0).choice(kept, TRAIN_ROWS, replace=False))
    sample, _ = to_unit(store.read("embedding", chosen))
    try:
        index.train(sample)
    except RuntimeError:
        raise OptionError(
            f"index '{factory}' cannot be trained on {len(sample)} vectors; use Flat, or fewer lists."
        ) from None


def _with_effort(index: Any) -> Any:
    import faiss

    for name, value in EFFORT.items():
        try:
            faiss.ParameterSpace().set_index_parameter(index, name, value)
        except RuntimeError:  # this kind of index has no such parameter
            continue
    return index


def _unfit(path: Path, beside: Path, store: EmbeddingStore, factory: str) -> str:
    """Why an index that lies there cannot be used; empty if it can."""
    try:
        record = json.loads(beside.read_text())
        if record["factory"] != factory:
            return f"is of another factory ({record['factory']})"
        if record["fingerprint"] != store.fingerprint:
            return "is of other embeddings than the store holds now"
        if record["sha256"] != file_checksum(path) or "recall" not in record:
            return "is damaged"
    except (OSError, ValueError, KeyError, TypeError):
        return "is damaged or was not finished"
    return ""


def _recall(index: Index, store: EmbeddingStore) -> float:
    """The share of the true nearest neighbours of some rows that the index finds."""
    queries, truth = exact_neighbours(store, RECALL_ROWS, min(RECALL_K, len(index)))
    found, _ = index.search(queries, truth.shape[1])
    return float(np.mean([np.isin(one, other).mean() for one, other in zip(truth, found, strict=True)]))


def exact_neighbours(store: EmbeddingStore, n: int, k: int) -> tuple[Vectors, Ids]:
    """Some vectors (n, d) of a store, and the ids (n, k) of their true nearest neighbours, by brute force."""
    kept = np.flatnonzero((store.read("flags") & np.uint32(LEFT_OUT)) == 0)
    chosen = np.sort(np.random.default_rng(1).choice(kept, min(n, len(kept)), replace=False))
    queries, _ = to_unit(store.read("embedding", chosen))
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    best_ids = np.full((len(queries), k), -1, dtype=np.int64)
    for ids, vectors in unit_vectors(store):
        similarity = np.hstack([best, queries @ vectors.T])
        both = np.hstack([best_ids, np.broadcast_to(ids, (len(queries), len(ids)))])
        order = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        best, best_ids = np.take_along_axis(similarity, order, 1), np.take_along_axis(both, order, 1)
    return queries, best_ids
