"""Columns of a table, whatever its format: FITS (plain or gzip), ECSV or Parquet."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.surveys import ALL_ROWS
from stores.surveys.fits import FITS_MAGIC, FitsFile, first_bytes, naming, number, open_fits

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """A table of any format.

    names: of its columns
    load: the chosen rows of a column
    meta: header or metadata
    wavelength: (n_pix,) in Angstrom or its log10, if it stands outside the columns
    """

    names: list[str]
    load: Callable[[str, slice], NDArray[Any]]
    meta: Mapping[str, Any]
    wavelength: Float | None = None

    def name(self, wanted: tuple[str, ...]) -> str | None:
        held = {name.lower(): name for name in self.names}
        return next((held[name] for name in wanted if name in held), None)

    def column(self, wanted: tuple[str, ...], rows: slice = ALL_ROWS) -> NDArray[Any]:
        name = self.name(wanted)
        if name is None:
            raise InputError(f"the table has no column {' or '.join(wanted)}.")
        return self.load(name, rows)

    def numbers(self, wanted: tuple[str, ...], rows: slice, ndim: int) -> Float:
        """A column as float64, (n,) or (n, n_pix)."""
        values = self.column(wanted, rows)
        if values.dtype.kind == "O" and len(values):
            if len({np.shape(value) for value in values}) != 1:
                raise InputError(f"column {self.name(wanted)} has rows of different lengths.")
            values = np.stack([np.asarray(value) for value in values])
        if values.ndim != ndim or values.dtype.kind not in "fiub":
            shape = "an array" if ndim == 2 else "one number"
            raise InputError(f"column {self.name(wanted)} does not hold {shape} in every row.")
        return values.astype(np.float64)


@contextmanager
def open_table(path: Path) -> Iterator[Source]:
    """Open a table; its format is told by its first bytes. Faults are InputErrors that name the file."""
    start = first_bytes(path)
    if start == FITS_MAGIC:
        with open_fits(path) as file:
            yield _fits_source(file)
    elif start[:4] == b"PAR1":
        with naming(path), _parquet_source(path) as source:
            yield source
    elif start[:1] == b"#":
        with naming(path):
            yield _ecsv_source(path)
    else:
        raise InputError(f"'{path}' is not a FITS, ECSV or Parquet table.")


def _fits_source(file: FitsFile) -> Source:
    tables = [hdu for hdu in file.hdus if hasattr(hdu, "columns")]
    table = next((hdu for hdu in tables if any(file.has_column(hdu, name) for name in ("flux",))), None)
    if table is None:
        raise InputError("no HDU of the file is a table with a column flux; check the survey.")
    axis = file.find("WAVELENGTH")
    wavelength = None if axis is None else file.image(axis).astype(np.float64)
    power = number(table.header, "RESPOWER")
    meta = {"RESPOWER": number(file.header, "RESPOWER") if np.isnan(power) else power}
    names = list(table.columns.names)
    return Source(names, lambda name, rows: file.column(table, name, rows=rows), meta, wavelength)


def _ecsv_source(path: Path) -> Source:
    from astropy.table import Table
    from astropy.utils.exceptions import AstropyWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            table = Table.read(path, format="ascii.ecsv")
    # the parser meets damaged text with nearly every type of exception
    except Exception as error:
        raise InputError(f"'{path}' cannot be read as an ECSV table; write it again.") from error
    axis = table.meta.get("wavelength")
    return Source(
        list(table.colnames),
        lambda name, rows: _filled(table[name][rows]),
        table.meta,
        None if axis is None else _axis(axis),
    )


@contextmanager
def _parquet_source(path: Path) -> Iterator[Source]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"'{path}' is damaged or truncated and no Parquet table; fetch it again.") from error

    def load(name: str, rows: slice) -> NDArray[Any]:
        start, stop, step = rows.indices(file.metadata.num_rows)
        if step < 0:
            return load(name, ALL_ROWS)[rows]
        if file.metadata.num_rows == 0:
            raise InputError("the table has no rows.")
        if stop <= start:
            return load(name, slice(0, 1))[:0]
        groups, skipped, seen = [], 0, 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if seen + size <= start:
                skipped += size
            elif seen < stop:
                groups.append(group)
            seen += size
        try:
            chunk = file.read_row_groups(groups, columns=[name]).column(0)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"'{path}' is damaged: column {name} cannot be read; fetch it again.") from error
        return _from_arrow(chunk.slice(start - skipped, stop - start), name)[::step]

    with file:
        meta = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
        axis = meta.get("wavelength")
        try:
            wavelength = None if axis is None else _axis(json.loads(axis))
        except ValueError:
            raise InputError("metadata wavelength is not a JSON list of numbers.") from None
        yield Source(list(file.schema_arrow.names), load, meta, wavelength)


def _from_arrow(column: Any, name: str) -> NDArray[Any]:
    """A column of n > 0 rows as (n,), or (n, n_pix) for lists of one length."""
    import pyarrow.compute as pc

    if not hasattr(column.type, "value_type"):
        return np.asarray(column.to_numpy())
    if column.null_count:
        raise InputError(f"column {name} has an empty row.")
    if pc.min(pc.list_value_length(column)) != pc.max(pc.list_value_length(column)):
        raise InputError(f"column {name} has rows of different lengths.")
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(values).reshape(len(column), -1)


def _filled(column: Any) -> NDArray[Any]:
    """A column of an astropy table; a masked value is NaN, and no value at all among integers."""
    if np.any(getattr(column, "mask", False)):
        return np.asarray(np.ma.MaskedArray(column, dtype=np.float64).filled(np.nan))
    return np.asarray(column)


def _axis(values: Any) -> Float:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("metadata wavelength is not a list of numbers.") from None
