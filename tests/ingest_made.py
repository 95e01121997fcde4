"""Calls of stores-ingest, for tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import BIG_ID, write_table

from stores import SpectraStore
from stores.ingest import IngestOptions, ingest
from stores.store import Store

GRID = "3.602:3.63:0.0002"  # 4000-4266 A in 141 pixels
ROWS = 600  # of the big table: three shards of 256 rows


def options(tmp_path: Path, *files: Path | str, survey: str | None = "table", **more: Any) -> IngestOptions:
    more = {"out": tmp_path / "out.zarr", "grid": GRID, **more}
    return IngestOptions(survey=survey, files=tuple(map(str, files)), **more)


def made(tmp_path: Path, *files: Path | str, status: int = 0, **more: Any) -> SpectraStore:
    chosen = options(tmp_path, *files, **more)
    assert ingest(chosen) == status
    return SpectraStore.open(chosen.out)


def big_table(tmp_path: Path, **columns: Any) -> Path:
    wavelength = 3950.0 + 2.0 * np.arange(180)
    path = tmp_path / "big.fits"
    return write_table(path, n=ROWS, n_pix=180, wavelength=wavelength, ids=BIG_ID + np.arange(ROWS), columns=columns)


def assert_same_store(one: Store, other: Store) -> None:
    assert one.fingerprint == other.fingerprint
    for name in one.columns:
        np.testing.assert_array_equal(one.read(name), other.read(name), err_msg=name)


def command(*words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stores.ingest", *map(str, words)], capture_output=True, text=True, **more
    )


# -- values --------------------------------------------------------------------------------------------------


def stop_after(monkeypatch: pytest.MonkeyPatch, shards: int, error: BaseException) -> list[int]:
    """Let so many shards be written, then raise; gives the list of the shards that were made."""
    tried: list[int] = []
    write = SpectraStore.write_shard

    def limited(store: SpectraStore, shard: int, *args: Any) -> None:
        if len(tried) == shards:
            raise error
        tried.append(shard)
        write(store, shard, *args)

    monkeypatch.setattr(SpectraStore, "write_shard", limited)
    return tried
