"""Tables at rest: columns with units and descriptions, and what they are, as Parquet, FITS, ECSV or CSV.

    form = TableForm("parameters", columns, rows=n, about={...}, cards=[("HEADFP", "f00d", "fingerprint of the head")])
    write_table(Path("parameters.parquet"), form, parts)    # parts: one after the other, {column: (rows,) values}

The suffix tells the format. TOPCAT opens all four; Parquet, FITS and CSV are written part by part, whatever their
size, ECSV is held in memory. CSV has no place for units and what the table is.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from stores.atomic import replacing
from stores.command import say
from stores.errors import OptionError
from stores.provenance import header_text

if TYPE_CHECKING:
    from stores.column import Column
    from stores.store import Array

KEY = "spectrabridge"  # of the attributes in Parquet and ECSV
# names of numpy types in VOTable; it has no unsigned 32-bit integer
VOTABLE_TYPES = {"int64": "long", "float64": "double", "float32": "float", "uint32": "long"}
FITS_TYPES = {"int64": "K", "float64": "D", "float32": "E", "uint32": "J"}
FITS_BLOCK = 2880  # bytes


@dataclass(frozen=True)
class TableForm:
    """All of a table but its values.

    name, extension: of the table, and of the FITS extension it becomes
    columns: by name, each (rows,) or (rows, width), of int64, uint32, float32 or float64
    about: what it is and where it comes from, as JSON can hold it; in Parquet and ECSV under the key `spectrabridge`
    cards: the same for a FITS header: keyword, value, comment; comments: lines of text there
    """

    name: str
    columns: Mapping[str, Column]
    rows: int
    about: Mapping[str, Any]
    extension: str = "TABLE"
    cards: Sequence[tuple[str, Any, str]] = ()
    comments: Sequence[str] = ()


Parts = Iterable[Mapping[str, "Array"]]
Writer = Callable[[Path, TableForm, Parts], None]


def refuse_out(path: Path, *, overwrite: bool) -> None:
    """Raise an OptionError if no table can be written to `path`: an unknown suffix, or a file that is to stay."""
    if path.suffix.lower() not in WRITERS:
        raise OptionError(f"'{path}' has no suffix of a table; use one of {', '.join(WRITERS)}.")
    if path.exists() and not overwrite:
        raise OptionError(f"'{path}' exists; choose another --out or add --overwrite.")


def write_table(path: Path, form: TableForm, parts: Parts) -> None:
    """Write the table, whole or not at all; a file of that name is replaced.

    parts: {column: (m,) or (m, width) values}, in all as many rows as the form says

    Raises OptionError for an unknown suffix and for vectors in CSV, ValueError for parts that are not of the form.
    """
    refuse_out(path, overwrite=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        WRITERS[path.suffix.lower()](temporary, form, _typed(form, parts))


def _typed(form: TableForm, parts: Parts) -> Iterator[dict[str, Array]]:
    """The parts with the types of the columns; raises ValueError if they are not the rows of the form."""
    import numpy as np

    total = 0
    for part in parts:
        values = {name: np.asarray(part[name]).astype(column.dtype) for name, column in form.columns.items()}
        rows = len(next(iter(values.values())))
        for name, column in form.columns.items():
            wanted = (rows,) if column.width is None else (rows, column.width)
            if values[name].shape != wanted:
                raise ValueError(f"column {name} has shape {values[name].shape}, not {wanted}")
        total += rows
        if total > form.rows:
            break
        yield values
    if total != form.rows:
        raise ValueError(f"the table '{form.name}' was given {total} rows or more, not {form.rows}")


# -- Parquet and CSV ---------------------------------------------------------------------------------------


def write_parquet(path: Path, form: TableForm, parts: Parts) -> None:
    """A row group a part; vectors are fixed-size lists; metadata for Arrow and, as VOParquet, for TOPCAT."""
    import pyarrow.parquet as pq

    schema = arrow_schema(form)
    with pq.ParquetWriter(path, schema) as writer:
        for values in parts:
            writer.write_table(_arrow_table(values, schema))


def write_csv(path: Path, form: TableForm, parts: Parts) -> None:
    """Plain values; refuses vectors."""
    import pyarrow.csv as pc

    vectors = [name for name, column in form.columns.items() if column.width is not None]
    if vectors:
        raise OptionError(f"CSV cannot hold the vectors of {', '.join(vectors)}; use .parquet, or leave them out.")
    schema = arrow_schema(form)
    with pc.CSVWriter(path, schema) as writer:
        for values in parts:
            writer.write_table(_arrow_table(values, schema))
    say("CSV has no place for units and provenance; .parquet, .fits and .ecsv keep them.")


def arrow_schema(form: TableForm) -> Any:
    """The Arrow schema of a table, with units, descriptions and what it is."""
    import numpy as np
    import pyarrow as pa

    fields = []
    for name, column in form.columns.items():
        kind = pa.from_numpy_dtype(np.dtype(column.dtype))
        if column.width is not None:
            kind = pa.list_(pa.field("element", kind, nullable=False), column.width)
        about = {"unit": column.unit, "description": column.description}
        fields.append(pa.field(name, kind, nullable=False, metadata=about))
    whole = {
        KEY: json.dumps(form.about),
        "IVOA.VOTable-Parquet.version": "1.0",
        "IVOA.VOTable-Parquet.content": _votable(form),
    }
    return pa.schema(fields, metadata=whole)


def _arrow_table(values: Mapping[str, Array], schema: Any) -> Any:
    import pyarrow as pa

    arrays = []
    for field in schema:
        value = values[field.name]
        if value.ndim == 1:
            arrays.append(pa.array(value, type=field.type))
        else:
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(value.ravel()), type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _votable(form: TableForm) -> str:
    """A VOTable without data that describes the columns of the Parquet file it lies in."""
    fields = []
    for name, column in form.columns.items():
        unit = f" unit={quoteattr(column.unit)}" if column.unit else ""
        size = "" if column.width is None else f' arraysize="{column.width}"'
        fields.append(
            f'<FIELD name={quoteattr(name)} datatype="{VOTABLE_TYPES[column.dtype]}"{size}{unit}>'
            f"<DESCRIPTION>{escape(column.description)}</DESCRIPTION></FIELD>"
        )
    return (
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE>'
        f'<TABLE name={quoteattr(form.name)} nrows="{form.rows}">{"".join(fields)}</TABLE>'
        "</RESOURCE></VOTABLE>\n"
    )


# -- FITS --------------------------------------------------------------------------------------------------


def write_fits(path: Path, form: TableForm, parts: Parts) -> None:
    """A binary table with TUNIT and TCOMM, and provenance in its header.

    Units that the FITS standard lacks, as it does dex, stand in TCOMM: as TUNIT readers stumble over them.
    """
    import numpy as np
    from astropy.io import fits

    made = [
        fits.Column(
            name=name,
            format=f"{column.width or ''}{FITS_TYPES[column.dtype]}",
            unit=column.unit if is_fits_unit(column.unit) else None,
            # FITS has no unsigned integers but those that are shifted
            bzero=2**31 if column.dtype == "uint32" else None,
        )
        for name, column in form.columns.items()
    ]
    table = fits.BinTableHDU.from_columns(made, nrows=0, name=form.extension)
    table.header["NAXIS2"] = form.rows
    for number, column in enumerate(form.columns.values(), 1):
        about = column.description
        if column.unit and not is_fits_unit(column.unit):
            about += f" ({column.unit})"
        table.header.append(_card(f"TCOMM{number}", about, ""))
    for one in form.cards:
        table.header.append(_card(*one))
    for comment in form.comments:
        table.header.add_comment(header_text(comment))
    packed = np.dtype(
        [
            (name, np.dtype(column.dtype).newbyteorder(">"), () if column.width is None else (column.width,))
            for name, column in form.columns.items()
        ]
    )
    with path.open("wb") as file:
        for header in (fits.PrimaryHDU().header, table.header):
            file.write(header.tostring().encode("ascii"))
        for values in parts:
            rows = np.empty(len(next(iter(values.values()))), dtype=packed)
            for name, column in form.columns.items():
                # the shift of unsigned integers is that of their highest bit
                rows[name] = values[name] ^ np.uint32(2**31) if column.dtype == "uint32" else values[name]
            file.write(rows.tobytes())
        file.write(bytes(-form.rows * packed.itemsize % FITS_BLOCK))


def is_fits_unit(unit: str) -> bool:
    """Whether a unit is one of the FITS standard (4.0, tables 3 to 6); none at all is not."""
    from astropy import units

    with warnings.catch_warnings():
        warnings.simplefilter("error", units.UnitsWarning)
        try:
            return bool(unit) and units.Unit(unit, format="fits") is not None
        except (ValueError, units.UnitsWarning):
            return False


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


# -- ECSV, in memory ---------------------------------------------------------------------------------------


def write_ecsv(path: Path, form: TableForm, parts: Parts) -> None:
    """Text with a YAML header of units, descriptions and what the table is."""
    from astropy.table import Table

    table = Table(_whole(form, parts), copy=False)
    for name, column in form.columns.items():
        table[name].unit = column.unit or None
        table[name].description = column.description
    table.meta[KEY] = dict(form.about)
    table.write(path, format="ascii.ecsv")


def _whole(form: TableForm, parts: Parts) -> dict[str, Array]:
    """All rows in memory."""
    import numpy as np

    whole: dict[str, Array] = {
        name: np.empty((form.rows,) if column.width is None else (form.rows, column.width), dtype=column.dtype)
        for name, column in form.columns.items()
    }
    start = 0
    for values in parts:
        for name, value in values.items():
            whole[name][start : start + len(value)] = value
        start += len(value)
    return whole


WRITERS: dict[str, Writer] = {
    ".parquet": write_parquet,
    ".fits": write_fits,
    ".ecsv": write_ecsv,
    ".csv": write_csv,
}
