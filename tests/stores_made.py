"""Small stores made from numbers, without survey files, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stores.embeddings import EmbeddingStore, embedding_columns
from stores.flags import Flag
from stores.grid import Grid
from stores.listing import repeated_ids
from stores.prepare import Preparation, prepare
from stores.spectra import SpectraStore, spectra_columns, spectra_details, spectra_values
from stores.spectrum import Arm, SpectrumBatch

GRID = Grid(3.65, 96, 2e-4)
PREPARATION = Preparation(continuum="none")
BIG_ID = 2**62 + 1  # the first integer beyond 2**62: a float would lose its last bit
SHARD_ROWS = 64
WIDTH = 24
FAILED = [{"file": "lost.fits", "reason": "'lost.fits' holds no object spectra."}]


def make_ids(n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Ids (n,) that differ only in their last bits."""
    return BIG_ID + np.arange(n, dtype=np.int64)


def make_batch(n: int = 150, *, seed: int = 0, ids: Any = None, empty: tuple[int, ...] = ()) -> SpectrumBatch:
    """Prepared spectra on GRID; those numbered in `empty` have every pixel masked, row 3 has no position."""
    random = np.random.default_rng(seed)
    flux = 10 + random.normal(size=(n, GRID.n_pix))
    ivar = np.full_like(flux, 25.0) * random.uniform(0.01, 4, (n, 1))
    ivar[:, 40:43] = 0
    ivar[list(empty)] = 0
    ra, dec = random.uniform(0, 360, n), random.uniform(-90, 90, n)
    ra[3:4] = np.nan
    batch = SpectrumBatch(
        [Arm(GRID.wavelength, flux, ivar)],
        make_ids(n) if ids is None else ids,
        ra,
        dec,
        random.normal(0, 100, n),
    )
    batch.flag(repeated_ids(batch.id), Flag.DUPLICATE_ID)
    return prepare([batch], GRID, PREPARATION)


def create_spectra(path: Path, n: int = 150, **job: Any) -> SpectraStore:
    """A spectra store without any shard."""
    return SpectraStore.create(
        path,
        spectra_columns(GRID),
        n,
        {"survey": "made", "rows": n, **job},
        shard_rows=SHARD_ROWS,
        details=spectra_details(GRID, "made", PREPARATION),
    )


def source(store: Any, shard: int) -> dict[str, Any]:
    """The record of a shard that came from a file of its own."""
    rows = store.rows(shard)
    entry = {"file": f"made-{shard}.fits", "size": 1000, "sha256": "", "rows": rows.stop - rows.start}
    return {"sources": [entry], "failed": []}


def write_spectra_shard(store: SpectraStore, shard: int, batch: SpectrumBatch) -> None:
    """Write one shard with its rows of a batch of the whole store."""
    rows = store.rows(shard)
    values = {name: column[rows] for name, column in spectra_values(batch).items()}
    store.write_shard(shard, values, source(store, shard))


def make_spectra(path: Path, n: int = 150, *, shards: int | None = None, **batch: Any) -> SpectraStore:
    """A finished spectra store, or one that stops after so many shards."""
    store = create_spectra(path, n)
    made = make_batch(n, **batch)
    for shard in range(store.n_shards)[:shards]:
        write_spectra_shard(store, shard, made)
    if shards is None:
        store.finish(FAILED)
    return SpectraStore.open(path, unfinished=True)


def make_vectors(n: int = 150, *, seed: int = 0, clusters: int = 8) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Vectors (n, WIDTH) in clusters, of lengths that differ."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, WIDTH))
    vectors = centres[random.integers(clusters, size=n)] + 0.5 * random.normal(size=(n, WIDTH))
    return (vectors * random.uniform(0.5, 2, (n, 1))).astype(np.float32)


def make_embeddings(
    path: Path,
    n: int = 150,
    *,
    vectors: Any = None,
    ids: Any = None,
    empty: tuple[int, ...] = (),
    dtype: str = "float32",
    seed: int = 0,
) -> EmbeddingStore:
    """A finished embedding store; rows numbered in `empty` are flagged and hold zeros."""
    random = np.random.default_rng(seed)
    vectors = make_vectors(n, seed=seed) if vectors is None else vectors
    vectors[list(empty)] = 0
    ids = make_ids(n) if ids is None else np.asarray(ids, np.int64)
    flags = np.zeros(n, np.uint32)
    flags[list(empty)] |= np.uint32(Flag.NO_VALID_PIXELS)
    flags[repeated_ids(ids)] |= np.uint32(Flag.DUPLICATE_ID)
    columns = {
        "embedding": vectors,
        "id": ids,
        "ra": random.uniform(0, 360, n),
        "dec": random.uniform(-90, 90, n),
        "snr": random.uniform(1, 100, n),
        "flags": flags,
    }
    store = EmbeddingStore.create(
        path,
        embedding_columns(vectors.shape[1], dtype),
        n,
        {"survey": "made", "rows": n, "model": "m1", "seed": seed},
        shard_rows=SHARD_ROWS,
        details={
            **spectra_details(GRID, "made", PREPARATION),
            "model": {"name": "m1", "fingerprint": "f00d"},
        },
    )
    for shard in range(store.n_shards):
        rows = store.rows(shard)
        values = {name: column[rows] for name, column in columns.items()}
        store.write_shard(shard, values, source(store, shard))
    store.finish()
    return EmbeddingStore.open(path)
