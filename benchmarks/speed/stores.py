"""Writing and reading a spectra store against a numpy memmap of the same flux and ivar."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import Row, median_seconds
from stores.grid import Grid
from stores.prepare import Preparation
from stores.spectra import SpectraStore, spectra_columns, spectra_details
from stores.store import shard_rows_for

N = 4096
CHOSEN = 256  # rows that are read at random
WRITE, READ, SOME = "numpy memmap, write and flush", "numpy memmap, read", "numpy memmap, random rows"


def measure(repeats: int) -> list[Row]:
    """Seconds per spectrum; files are in the page cache when they are read, of both."""
    grid = Grid.parse("lrs")
    values = spectra(grid, N)
    some = np.sort(np.random.default_rng(1).choice(N, min(CHOSEN, N), replace=False))
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "memmap.npy"
        stores: list[SpectraStore] = []

        def write_store() -> None:
            stores.append(write(Path(folder) / f"{len(stores)}.zarr", grid, values))

        seconds = median_seconds(
            repeats,
            lambda: write_plain(plain, values),
            write_store,
            lambda: np.array(np.load(plain, mmap_mode="r")),
            lambda: [stores[-1].read(name) for name in ("flux", "ivar")],
            lambda: np.array(np.load(plain, mmap_mode="r")[:, some]),
            lambda: [stores[-1].read(name, some) for name in ("flux", "ivar")],
        )
    names = (WRITE, "store, write", READ, "store, read", SOME, "store, random rows")
    counts = (N, N, N, N, len(some), len(some))
    return [
        Row(name, taken / count, "" if name.startswith("numpy") else names[i - 1])
        for i, (name, taken, count) in enumerate(zip(names, seconds, counts, strict=True))
    ]


def spectra(grid: Grid, n: int) -> dict[str, NDArray[Any]]:
    """Columns of a store of n spectra whose noise compresses as badly as that of real ones."""
    random = np.random.default_rng(0)
    flux = (1 + 0.05 * random.normal(size=(n, grid.n_pix))).astype(np.float32)
    ivar = random.uniform(300, 500, (n, grid.n_pix)).astype(np.float32)
    columns: dict[str, NDArray[Any]] = {"flux": flux, "ivar": ivar, "id": np.arange(1, n + 1)}
    for name, column in spectra_columns(grid).items():
        if name not in columns:
            columns[name] = np.zeros(n, dtype=column.dtype)
    return columns


def write(path: Path, grid: Grid, values: dict[str, NDArray[Any]]) -> SpectraStore:
    """A finished store of the columns."""
    n = len(values["id"])
    store = SpectraStore.create(
        path,
        spectra_columns(grid),
        n,
        {"survey": "speed", "rows": n},
        shard_rows=shard_rows_for(n),
        details=spectra_details(grid, "speed", Preparation()),
    )
    for shard in range(store.n_shards):
        rows = store.rows(shard)
        store.write_shard(
            shard, {name: column[rows] for name, column in values.items()}, {"sources": [], "failed": []}
        )
    store.finish()
    return store


def write_plain(path: Path, values: dict[str, NDArray[Any]]) -> None:
    """Flux and ivar as one memory-mapped array."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(2, *values["flux"].shape))
    array[0], array[1] = values["flux"], values["ivar"]
    array.flush()
