"""stores-export: a store -> one table for other tools.

    stores-export desi-emb.zarr --out desi-emb.parquet
    stores-export desi-emb.zarr --out desi-emb.fits --limit 100000
    stores-export desi.zarr --out rows.csv

The suffix tells the format: .parquet (streamed, for any size), .fits, .ecsv, or .csv (no vectors, no units).
Units, descriptions and where the rows come from go along. TOPCAT opens all four.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import tyro

from stores.atomic import replacing
from stores.command import run_command, say
from stores.errors import OptionError
from stores.progress import progress
from stores.provenance import header_text

if TYPE_CHECKING:
    from stores.column import Column
    from stores.store import Array, Store

VECTORS = {"embeddings": ("embedding",), "spectra": ("flux", "ivar")}
SCALARS = ("id", "ra", "dec", "rv", "snr", "flags")
# names of numpy types in VOTable; it has no unsigned 32-bit integer
VOTABLE_TYPES = {"int64": "long", "float64": "double", "float32": "float", "uint32": "long"}


@dataclass(kw_only=True)
class ExportOptions:
    """Write the rows of a store as one table, with units, descriptions and provenance."""

    path: tyro.conf.Positional[Path]
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

    write = WRITERS.get(options.out.suffix.lower())
    if write is None:
        raise OptionError(f"'{options.out}' has no suffix of a table; use one of {', '.join(WRITERS)}.")
    if options.out.exists() and not options.overwrite:
        raise OptionError(f"'{options.out}' exists; choose another --out or add --overwrite.")
    if options.limit is not None and options.limit < 1:
        raise OptionError(f"--limit {options.limit} must be 1 or more.")
    store = open_store(options.path)
    if options.spectra and "flux" not in store.columns:
        raise OptionError(f"'{store.path}' is a store of {store.KIND} and has no flux; leave --spectra out.")
    columns = exported_columns(store, embeddings=options.embeddings, spectra=options.spectra)
    n = len(store) if options.limit is None else min(options.limit, len(store))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.out) as temporary:
        write(temporary, store, columns, n)
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


def _whole(store: Store, columns: dict[str, Column], n: int) -> dict[str, Array]:
    """The values of the first n rows in memory."""
    import numpy as np

    whole = {
        name: np.empty((n,) if column.width is None else (n, column.width), dtype=column.dtype)
        for name, column in columns.items()
    }
    start = 0
    for values in _shards(store, columns, n):
        for name, value in values.items():
            whole[name][start : start + len(value)] = value
        start += len(value)
    return whole


# -- Parquet and CSV, streamed -----------------------------------------------------------------------------


def write_parquet(path: Path, store: Store, columns: dict[str, Column], n: int) -> None:
    """A row group a shard; vectors are fixed-size lists; metadata for Arrow and, as VOParquet, for TOPCAT."""
    import pyarrow.parquet as pq

    schema = arrow_schema(store, columns, n)
    with pq.ParquetWriter(path, schema) as writer:
        for values in _shards(store, columns, n):
            writer.write_table(_arrow_table(values, schema))


def write_csv(path: Path, store: Store, columns: dict[str, Column], n: int) -> None:
    """Plain values; refuses vectors."""
    import pyarrow.csv as pc

    vectors = [name for name, column in columns.items() if column.width is not None]
    if vectors:
        raise OptionError(
            f"CSV cannot hold the vectors of {', '.join(vectors)}; use .parquet, or leave them out (--no-embeddings)."
        )
    schema = arrow_schema(store, columns, n)
    with pc.CSVWriter(path, schema) as writer:
        for values in _shards(store, columns, n):
            writer.write_table(_arrow_table(values, schema))
    say("CSV has no place for units and provenance; .parquet, .fits and .ecsv keep them.")


def arrow_schema(store: Store, columns: dict[str, Column], n: int) -> Any:
    """The Arrow schema of a table of n rows, with units, descriptions and the store's attributes."""
    import numpy as np
    import pyarrow as pa

    fields = []
    for name, column in columns.items():
        kind = pa.from_numpy_dtype(np.dtype(column.dtype))
        if column.width is not None:
            kind = pa.list_(pa.field("element", kind, nullable=False), column.width)
        about = {"unit": column.unit, "description": column.description}
        fields.append(pa.field(name, kind, nullable=False, metadata=about))
    whole = {
        "spectrabridge": json.dumps(_attributes(store)),
        "IVOA.VOTable-Parquet.version": "1.0",
        "IVOA.VOTable-Parquet.content": _votable(store, columns, n),
    }
    return pa.schema(fields, metadata=whole)


def _arrow_table(values: dict[str, Array], schema: Any) -> Any:
    import pyarrow as pa

    arrays = []
    for field in schema:
        value = values[field.name]
        if value.ndim == 1:
            arrays.append(pa.array(value, type=field.type))
        else:
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(value.ravel()), type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _votable(store: Store, columns: dict[str, Column], n: int) -> str:
    """A VOTable without data that describes the columns of the Parquet file it lies in."""
    fields = []
    for name, column in columns.items():
        unit = f" unit={quoteattr(column.unit)}" if column.unit else ""
        size = "" if column.width is None else f' arraysize="{column.width}"'
        about = column.description.replace("&", "&amp;").replace("<", "&lt;")
        fields.append(
            f'<FIELD name="{name}" datatype="{VOTABLE_TYPES[column.dtype]}"{size}{unit}>'
            f"<DESCRIPTION>{about}</DESCRIPTION></FIELD>"
        )
    return (
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE>'
        f'<TABLE name={quoteattr(store.path.stem)} nrows="{n}">{"".join(fields)}</TABLE>'
        "</RESOURCE></VOTABLE>\n"
    )


# -- FITS and ECSV, in memory ------------------------------------------------------------------------------


def write_fits(path: Path, store: Store, columns: dict[str, Column], n: int) -> None:
    """A binary table with TUNIT and TCOMM, and provenance in its header."""
    import numpy as np
    from astropy.io import fits

    codes = {"int64": "K", "float64": "D", "float32": "E", "uint32": "J"}
    values = _whole(store, columns, n)
    made = [
        fits.Column(
            name=name,
            format=f"{column.width or ''}{codes[column.dtype]}",
            unit=column.unit or None,
            # FITS has no unsigned integers but those that are shifted
            bzero=2**31 if np.dtype(column.dtype).kind == "u" else None,
            array=values[name],
        )
        for name, column in columns.items()
    ]
    table = fits.BinTableHDU.from_columns(made, name=store.KIND.upper())
    for number, column in enumerate(columns.values(), 1):
        table.header.append(_card(f"TCOMM{number}", column.description, ""))
    for one in _cards(store):
        table.header.append(_card(*one))
    for entry in store.attributes["flag_bits"]:
        table.header.add_comment(header_text(f"flags bit {entry['bit']}: {entry['name']}, {entry['reason']}"))
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)


def _card(key: str, value: Any, about: str) -> Any:
    """A header card with the whole value, in several if it is long; a comment that has no room is left out."""
    from astropy.io import fits

    text = header_text(str(value))
    with warnings.catch_warnings():
        warnings.simplefilter("error", fits.verify.VerifyWarning)
        try:
            card = fits.Card(key, text, about)
            str(card)  # only this tells whether there is room
            return card
        except fits.verify.VerifyWarning:
            return fits.Card(key, text)


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


def write_ecsv(path: Path, store: Store, columns: dict[str, Column], n: int) -> None:
    """Text with a YAML header of units, descriptions and attributes."""
    from astropy.table import Table

    table = Table(_whole(store, columns, n), copy=False)
    for name, column in columns.items():
        table[name].unit = column.unit or None
        table[name].description = column.description
    table.meta["spectrabridge"] = _attributes(store)
    table.write(path, format="ascii.ecsv")


Writer = Callable[[Path, "Store", "dict[str, Column]", int], None]
WRITERS: dict[str, Writer] = {
    ".parquet": write_parquet,
    ".fits": write_fits,
    ".ecsv": write_ecsv,
    ".csv": write_csv,
}


def main() -> None:
    """Entry point of stores-export."""
    run_command(ExportOptions, export, "stores-export")


if __name__ == "__main__":
    main()
