"""Plain tables of values by id: labels, velocities, names. FITS (plain or gzip), CSV, ECSV or Parquet."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.spectrum import Float, as_id
from stores.surveys.fits import FITS_MAGIC, FitsFile, first_bytes, naming, open_fits

Masked = Any  # a numpy masked array, for which numpy has no type of use


@dataclass(frozen=True)
class IdTable:
    """Columns of a table; rows without an id are left out.

    names: of all columns of the table; part: name of the HDU that holds it, empty where there are none
    ids: (n,) int64, in the order of the table, not unique
    columns: (n,) each, those that were asked for, by lower-case name; masked where the table has no value
    """

    path: Path
    names: Sequence[str]
    part: str
    ids: NDArray[np.int64]
    columns: Mapping[str, Masked]

    @classmethod
    def read(cls, path: Path, id_names: Sequence[str], wanted: Iterable[str], parts: Sequence[str] = ()) -> IdTable:
        """Read ids, from the first of these columns that is there, and the wanted columns, in any case.

        parts: HDUs of a FITS file to look for first; without one of them it is the first table
        Raises InputError, also where the table has no ids; wanted columns may be lacking.
        """
        if path.is_dir():
            raise InputError(f"'{path}' is a folder and no table; name a file.")
        start = first_bytes(path)
        if start == FITS_MAGIC:
            with open_fits(path) as file:
                return cls._of(path, _FitsTable(file, parts), id_names, wanted)
        if start[:4] == b"PAR1":
            return cls._of(path, _ParquetTable(path), id_names, wanted)
        if start.startswith(b"# %ECSV"):
            return cls._of(path, _TextTable(path, "ascii.ecsv"), id_names, wanted)
        if ".csv" in path.suffixes:
            return cls._of(path, _TextTable(path, "ascii.csv"), id_names, wanted)
        raise InputError(f"'{path}' cannot be read as a table; give FITS, CSV, ECSV or Parquet.")

    @classmethod
    def _of(cls, path: Path, table: _Table, id_names: Sequence[str], wanted: Iterable[str]) -> IdTable:
        held = {name.lower(): name for name in reversed(table.names)}  # of equals, the first
        id_name = next((held[name] for name in id_names if name in held), None)
        if id_name is None:
            raise InputError(f"'{path}' has no column of ids ({', '.join(id_names)}); it has {_some(table.names)}.")
        with naming(path):
            ids = table.load(id_name)
            named = ~np.ma.getmaskarray(ids)
            columns = {name: table.load(held[name])[named] for name in wanted if name in held}
            return cls(path, table.names, table.part, as_id(np.ma.getdata(ids)[named]), columns)

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, *names: str) -> str | None:
        """The first of these columns that was asked for and is there."""
        return next((name for name in names if name in self.columns), None)

    def numbers(self, *names: str) -> Float:
        """The first of these columns as float64 (n,), NaN where there is no value. Raises InputError."""
        name = self.first(*names)
        if name is None:
            raise InputError(f"'{self.path}' has no column {' or '.join(names)}; it has {_some(self.names)}.")
        try:
            return np.ma.filled(self.columns[name].astype(np.float64), np.nan)
        except (ValueError, TypeError):
            raise InputError(f"'{self.path}': column {name} does not hold numbers.") from None

    def false(self, name: str) -> NDArray[np.bool_]:
        """(n,) True where a column says no: False, 0, or text to that effect."""
        values = self.columns[name]
        if values.dtype.kind in "SUO":
            said = np.char.lower(np.char.strip(np.ma.filled(values, "").astype(str)))
            return np.isin(said, ("false", "f", "no", "0"))
        return np.asarray(np.ma.filled(values == 0, False))


class _Table:
    """Names of columns and what loads one, (n,) masked."""

    names: Sequence[str]
    part = ""

    def load(self, name: str) -> Masked:
        raise NotImplementedError


class _FitsTable(_Table):
    def __init__(self, file: FitsFile, parts: Sequence[str]) -> None:
        tables = file.tables
        named = [hdu for part in parts for hdu in tables if hdu.name.upper() == part]
        if not tables:
            raise InputError(f"'{file.path}' holds no table in any of its HDUs; check the file.")
        self.file, self.hdu = file, (named or tables)[0]
        self.names, self.part = list(file.columns(self.hdu).names), self.hdu.name.upper()

    def load(self, name: str) -> Masked:
        values = self.file.column(self.hdu, name)
        if values.ndim != 1:
            raise InputError(f"column {name} does not hold one value in every row.")
        column = self.hdu.columns[name]
        if column.null is None or values.dtype.kind not in "iu":
            return np.ma.MaskedArray(values)
        return np.ma.MaskedArray(values, values == int(column.null) + int(column.bzero or 0))


class _ParquetTable(_Table):
    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            self.path, self.names = path, list(pq.read_schema(path).names)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from None

    def load(self, name: str) -> Masked:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            column = pq.read_table(self.path, columns=[name]).column(0)
            # a null would turn 64-bit ids into floats
            plain = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
            values = (column.fill_null(0) if plain else column).to_numpy()
        except (pa.ArrowException, OSError, IndexError) as error:
            raise _unreadable(self.path, error) from None
        if pa.types.is_boolean(column.type):
            values = values == True  # noqa: E712 (elements, of which some may be None)
        return np.ma.MaskedArray(values, column.is_null().to_numpy())


class _TextTable(_Table):
    def __init__(self, path: Path, form: str) -> None:
        from astropy.table import Table
        from astropy.utils.exceptions import AstropyWarning

        try:
            with warnings.catch_warnings():
                # of ids beyond 64 bits, which are refused in words of our own
                warnings.simplefilter("ignore", AstropyWarning)
                self.table = Table.read(path, format=form)
        # the parsers meet damaged text with nearly every type of exception
        except Exception as error:
            raise _unreadable(path, error) from None
        self.names = list(self.table.colnames)

    def load(self, name: str) -> Masked:
        values = np.ma.MaskedArray(self.table[name])
        if values.ndim != 1:
            raise InputError(f"column {name} does not hold one value in every row.")
        return values


def _unreadable(path: Path, error: Exception) -> InputError:
    lines = str(error).strip().splitlines()
    reason = lines[0].rstrip(".:") if lines else type(error).__name__
    return InputError(f"'{path}' cannot be read as a table ({reason}); write or fetch it again.")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more if names else "none"
