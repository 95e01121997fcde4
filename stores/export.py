"""stores-export: a store -> one table for other tools.

    stores-export desi-emb.zarr --out desi-emb.parquet
    stores-export desi-emb.zarr --out desi-emb.fits --limit 100000
    stores-export desi.zarr --out rows.csv

The suffix tells the format: .parquet (streamed, for any size), .fits, .ecsv, or .csv (no vectors, no units).
Units, descriptions and where the rows come from go along. TOPCAT opens all four.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from stores.command import run_command, say
from stores.errors import OptionError
from stores.location import Location
from stores.progress import progress
from stores.tables import TableForm, refuse_out, write_table

if TYPE_CHECKING:
    from stores.column import Column
    from stores.store import Array, Store

VECTORS = {"embeddings": ("embedding",), "spectra": ("flux", "ivar")}
SCALARS = ("id", "ra", "dec", "rv", "snr", "flags")


@dataclass(kw_only=True)
class ExportOptions:
    """Write the rows of a store as one table, with units, descriptions and provenance."""

    path: tyro.conf.Positional[Location]
    """The store."""
    out: Path
    """The table to write: .parquet, .fits, .ecsv or .csv."""
    embeddings: bool = True
    """With the embedding as a vector column, where the store has one."""
    spectra: bool = False
    """With flux and ivar as vector columns, where the store has them."""
    limit: int | None = None
    """Only the first so many rows."""
    overwrite: bool = False
    """Replace a file of that name."""


def export(options: ExportOptions) -> int:
    """Write the table; returns the exit status."""
    from stores.store import open_store

    refuse_out(options.out, overwrite=options.overwrite)
    if options.limit is not None and options.limit < 1:
        raise OptionError(f"--limit {options.limit} must be 1 or more.")
    store = open_store(options.path)
    if options.spectra and "flux" not in store.columns:
        raise OptionError(f"'{store.path}' is a store of {store.KIND} and has no flux; leave --spectra out.")
    columns = exported_columns(store, embeddings=options.embeddings, spectra=options.spectra)
    n = len(store) if options.limit is None else min(options.limit, len(store))
    vectors = [name for name, column in columns.items() if column.width is not None]
    if vectors and options.out.suffix.lower() == ".csv":
        raise OptionError(
            f"CSV cannot hold the vectors of {', '.join(vectors)}; use .parquet, or leave them out (--no-embeddings)."
        )
    write_table(options.out, _form(store, columns, n), _shards(store, columns, n))
    say(f"'{options.out}': {n} rows of {', '.join(columns)}.")
    return 0


def exported_columns(store: Store, *, embeddings: bool = True, spectra: bool = False) -> dict[str, Column]:
    """The columns of a table of the store, with their types, units, descriptions and widths."""
    from stores.column import Column

    names = [name for name in SCALARS if name in store.columns]
    for kind, wanted in (("embeddings", embeddings), ("spectra", spectra)):
        names += [name for name in VECTORS[kind] if wanted and name in store.columns]
    columns = {}
    for name in names:
        array = store.array(name)
        # half precision is unknown to FITS and to many a reader of Parquet
        dtype = "float32" if array.dtype == "float16" else str(array.dtype)
        width = None if array.ndim == 1 else int(array.shape[1])
        columns[name] = Column(dtype, str(array.attrs["unit"]), str(array.attrs["description"]), width)
    return columns


def _shards(store: Store, columns: dict[str, Column], n: int) -> Iterator[dict[str, Array]]:
    """The values of the first n rows, shard by shard."""
    shards = range(-(-n // store.shard_rows))
    for shard in progress(shards, "exporting", unit="shard"):
        rows = store.rows(shard)
        rows = slice(rows.start, min(rows.stop, n))
        yield {name: store.read(name, rows).astype(column.dtype) for name, column in columns.items()}


def _form(store: Store, columns: dict[str, Column], n: int) -> TableForm:
    """What a table of the store says of itself."""
    bits = store.attributes["flag_bits"]
    return TableForm(
        name=store.path.stem,
        columns=columns,
        rows=n,
        about=_attributes(store),
        extension=store.KIND.upper(),
        cards=list(_cards(store)),
        comments=[f"flags bit {entry['bit']}: {entry['name']}, {entry['reason']}" for entry in bits],
    )


def _cards(store: Store) -> Iterator[tuple[str, Any, str]]:
    attributes = store.attributes
    yield "ORIGIN", f"spectrabridge {attributes.get('version')}", "what wrote the store"
    yield "COMMIT", attributes.get("commit"), "of that code"
    yield "DATE-STO", attributes.get("created"), "when the store was begun (UTC)"
    yield "COMMAND", attributes.get("command"), "that wrote the store"
    yield "STORE", store.path.name, ""
    yield "STOREFP", store.fingerprint, "fingerprint of the store"
    yield "SURVEY", attributes.get("survey"), ""
    yield "GRID", json.dumps(attributes.get("grid")), ""
    yield "PREPROC", json.dumps(attributes.get("preprocessing")), ""
    if "model" in attributes:
        yield "MODEL", json.dumps(attributes["model"]), ""


def _attributes(store: Any) -> dict[str, Any]:
    """The store's attributes, without checksums of files that do not go along."""
    return {name: value for name, value in store.attributes.items() if name != "metadata"}


def main() -> None:
    """Entry point of stores-export."""
    run_command(ExportOptions, export, "stores-export")


if __name__ == "__main__":
    main()
