"""The columns of a store: their types and units, and how they lie on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import zarr

# rows that are read together: with fewer, writing and reading in order lag behind a plain file (docs/speed.md);
# with more, every one of some random rows costs more
CHUNK_ROWS = 256


@dataclass(frozen=True)
class Column:
    """One array of a store: (n,) or, with a width, (n, width)."""

    dtype: str
    unit: str
    description: str
    width: int | None = None


ROW_COLUMNS: dict[str, Column] = {
    "id": Column("int64", "", "the survey's identifier of the spectrum"),
    "ra": Column("float64", "deg", "right ascension, ICRS; NaN if the file has none"),
    "dec": Column("float64", "deg", "declination, ICRS; NaN if the file has none"),
    "snr": Column("float32", "", "median signal-to-noise ratio per grid pixel"),
    "flags": Column("uint32", "", "quality bitmask, see the attribute flag_bits"),
}


def create_array(group: zarr.Group, name: str, column: Column, n: int, shard_rows: int) -> None:
    """An empty array of n rows for a column, in files of `shard_rows` rows."""
    attributes = {"unit": column.unit, "description": column.description}
    kind = np.dtype(column.dtype).kind
    # rows that were never written must not look like data
    fill: Any = np.nan if kind == "f" else (-1 if kind == "i" else 0xFFFFFFFF)
    common: dict[str, Any] = {"dtype": column.dtype, "fill_value": fill, "attributes": attributes}
    if column.width is None:
        # no compression: noise hardly shrinks, and single rows stay cheap to read
        group.create_array(name, shape=(n,), chunks=(shard_rows,), compressors=None, **common)
    else:
        group.create_array(
            name,
            shape=(n, column.width),
            chunks=(math.gcd(CHUNK_ROWS, shard_rows), column.width),
            shards=(shard_rows, column.width),
            compressors=None,
            **common,
        )
