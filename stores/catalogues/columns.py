"""Columns of a catalogue, whatever its format: FITS (plain or gzip), Parquet, ECSV, or text with tabs, commas or ;.

Text stays text until a number or an id is asked for, so that ids keep all 64 bits. VizieR's two lines of units and
dashes below the names are left out.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.spectrum import Float, as_id
from stores.surveys.fits import FITS_MAGIC, GZIP_MAGIC, PART_BYTES, FitsFile, naming, open_fits

MINUS = str.maketrans({"\u2212": "-", "\u2013": "-"})  # what typesetters make of it
Choose = Callable[[list[str]], Iterable[str]]


@dataclass(frozen=True)
class Columns:
    """Columns of one table in memory, by name in any case.

    names: of all columns of the table; held: those that were asked for, (n, ...)
    """

    path: Path
    names: list[str]
    held: Mapping[str, NDArray[Any]]
    n: int

    def find(self, *names: str) -> NDArray[Any] | None:
        """The first of these columns that there is."""
        by_name = {name.lower(): name for name in self.held}
        found = next((by_name[name.lower()] for name in names if name.lower() in by_name), None)
        return None if found is None else self.held[found]

    def need(self, *names: str) -> NDArray[Any]:
        """The first of these columns; InputError if there is none."""
        found = self.find(*names)
        if found is None:
            shown = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
            raise InputError(f"'{self.path}' has no column {' or '.join(names)} (it has {shown}); check the kind.")
        return found

    def numbers(self, *names: str) -> Float:
        """The first of these columns as (n,) float64; NaN where blank or no number, and everywhere if none is there.

        Limits such as '<4.6' are no numbers. A column of nothing but such is refused, and one that is blank is not.
        """
        values = self.find(*names)
        if values is None:
            return np.full(self.n, np.nan)
        if values.ndim != 1:
            raise InputError(f"'{self.path}': column {names[0]} does not hold one number in every row.")
        if values.dtype.kind in "fiub":
            return values.astype(np.float64)
        parsed = np.array([_number(_plain(word)) for word in values.tolist()], dtype=np.float64)
        if not np.isfinite(parsed).any() and (texts := self.texts(*names)):
            raise InputError(f"'{self.path}': column {names[0]} holds no numbers, but '{texts[0]}'; check its name.")
        return parsed

    def texts(self, *names: str) -> list[str]:
        """What the first of these columns has in place of numbers, cell by cell; blank ones are left out."""
        values = self.find(*names)
        if values is None or values.dtype.kind in "fiub":
            return []
        return [word for word in map(_plain, values.tolist()) if word and not _is_number(word)]

    def bits(self, *names: str) -> NDArray[np.int64]:
        """The first of these columns as a bitmask (n,); 0 everywhere if none is there."""
        values = self.find(*names)
        if values is None:
            return np.zeros(self.n, dtype=np.int64)
        if values.dtype.kind not in "iub":
            raise InputError(f"'{self.path}': column {names[0]} holds no integers; check the file.")
        return values.astype(np.int64)

    def ids(self, *names: str) -> NDArray[np.int64] | None:
        """The first of these columns as ids (n,), 0 where blank or below 0; None if none is there."""
        values = self.find(*names)
        if values is None:
            return None
        if values.dtype.kind in "SUO":
            words = [_plain(word) for word in values.tolist()]
            values = np.array([word if word else "0" for word in words], dtype=object)
        with naming(self.path):
            ids = as_id(values)
        return np.where(ids > 0, ids, 0)

    def words(self, *names: str) -> NDArray[np.str_]:
        """The first of these columns as text (n,), empty everywhere if none is there."""
        values = self.find(*names)
        if values is None:
            return np.full(self.n, "")
        return np.array([_plain(word) for word in values.tolist()], dtype=str)

    def degrees(self, *names: str, hours: bool = False) -> Float:
        """The first of these columns as angles (n,) in deg; NaN where blank, and everywhere if none is there.

        A decimal number is in deg already; three of them are degrees (or hours), minutes and seconds.
        """
        values = self.find(*names)
        if values is None or values.dtype.kind in "fiu":
            return self.numbers(*names)
        return np.array([_angle(_plain(word), hours) for word in values.tolist()], dtype=np.float64)


def load_columns(path: Path, wanted: Iterable[str] | Choose, hdus: tuple[str, ...] = ()) -> Columns:
    """Read the wanted columns of a table that there are; its format is told by its first bytes.

    wanted: their names in any case, or a function that chooses among all names
    hdus: names of the HDU with the table in a FITS file; the first table where none is named
    """
    with naming(path):
        start = _start(path)
        if start.startswith(FITS_MAGIC):
            return _from_fits(path, wanted, hdus)
        if start[:4] == b"PAR1":
            return _from_parquet(path, wanted)
        if start.startswith(b"# %ECSV"):
            return _from_ecsv(path, wanted)
        return _from_text(path, wanted)


def has_hdu(path: Path, name: str) -> bool:
    """Whether a file is a FITS file with an HDU of this name."""
    if not _start(path).startswith(FITS_MAGIC):
        return False
    with open_fits(path) as file:
        return file.find(name) is not None


def _chosen(names: list[str], wanted: Iterable[str] | Choose) -> list[str]:
    asked = {name.lower() for name in (wanted(names) if callable(wanted) else wanted)}
    return [name for name in names if name.lower() in asked]


def _start(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"'{path}' does not exist; check the path.")
    with open(path, "rb") as raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        try:
            return gzip.open(raw).read(16) if packed else raw.read(16)
        except (OSError, EOFError) as error:
            raise InputError(f"'{path}' is damaged; fetch it again.") from error


def _from_fits(path: Path, wanted: Iterable[str] | Choose, hdus: tuple[str, ...]) -> Columns:
    with open_fits(path) as file:
        hdu = file.hdu(*hdus) if hdus else next((hdu for hdu in file.hdus if hasattr(hdu, "columns")), None)
        if hdu is None or not hasattr(hdu, "columns"):
            raise InputError(f"'{path}' has no table; check the file.")
        names = list(hdu.columns.names)
        chosen = _chosen(names, wanted)
        return Columns(path, names, read_fits(file, hdu, chosen), int(hdu.header["NAXIS2"]))


def read_fits(file: FitsFile, hdu: Any, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Columns of a table of any size; each part of a large one is read once for all of them."""
    names = list(names)
    n = int(hdu.header["NAXIS2"])
    if n == 0:
        raise InputError(f"'{file.path}' has no rows in HDU {hdu.name}.")
    if hdu.size <= PART_BYTES:
        return {name: _no_null(file, hdu, name, file.column(hdu, name)) for name in names}
    many = max(1, PART_BYTES // int(hdu.header["NAXIS1"]))
    parts = []
    for start in range(0, n, many):
        rows = slice(start, min(start + many, n))
        parts.append([_no_null(file, hdu, name, file.column(hdu, name, rows=rows)) for name in names])
    return {name: np.concatenate(part) for name, part in zip(names, zip(*parts, strict=True), strict=True)}


def _no_null(file: FitsFile, hdu: Any, name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Integers that stand for "no value" (TNULL) as 0, which is no id and no flag."""
    null = hdu.columns[name].null
    return np.where(values == null, 0, values) if null is not None and values.dtype.kind in "iu" else values


def _from_parquet(path: Path, wanted: Iterable[str] | Choose) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        table = pq.read_table(path, columns=_chosen(names, wanted))
        n = pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"'{path}' is damaged or truncated and no Parquet table; fetch it again.") from error
    held = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            column = column.fill_null(0 if pa.types.is_integer(kind) else False)  # a null would make floats of ids
        elif pa.types.is_dictionary(kind):
            column = column.cast(pa.string())
        if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            held[name] = np.asarray(column.to_numpy())
        else:
            held[name] = np.array(["" if word is None else str(word) for word in column.to_pylist()], dtype=str)
    return _whole(path, names, held, n)


def _from_ecsv(path: Path, wanted: Iterable[str] | Choose) -> Columns:
    from astropy.table import Table

    try:
        table = Table.read(path, format="ascii.ecsv")
    # the parser meets damaged text with nearly every type of exception
    except Exception as error:
        raise InputError(f"'{path}' cannot be read as an ECSV table; write it again.") from error
    held = {}
    for name in _chosen(table.colnames, wanted):
        values, mask = np.ma.getdata(table[name]), np.ma.getmaskarray(table[name])
        fill: Any = {"f": np.nan, "i": 0, "u": 0, "b": False}.get(values.dtype.kind, "")
        held[name] = np.where(mask, fill, values) if mask.any() else np.asarray(values)
    return _whole(path, list(table.colnames), held, len(table))


def _from_text(path: Path, wanted: Iterable[str] | Choose) -> Columns:
    raw = path.read_bytes()
    if raw[:2] == GZIP_MAGIC:
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError) as error:
            raise InputError(f"'{path}' is damaged; fetch it again.") from error
    if b"\0" in raw[:4096]:
        raise InputError(f"'{path}' is no FITS, Parquet, ECSV, CSV or tab-separated table.")
    text = raw.decode("utf-8-sig", errors="replace")
    lines = io.StringIO("".join(line for line in text.splitlines(keepends=True) if not line.startswith("#")))
    head = next((line for line in lines if line.strip()), "")
    delimiter = next((mark for mark in "\t;," if mark in head), ",")
    names = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
    rows = [row for row in csv.reader(lines, delimiter=delimiter) if any(cell.strip() for cell in row)]
    if len(rows) > 1 and all(set(cell.strip()) <= {"-"} for cell in rows[1]):
        rows = rows[2:]  # VizieR: units, dashes
    if len(set(names)) != len(names) or not names:
        raise InputError(f"'{path}' does not begin with a line of column names that differ.")
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise InputError(f"'{path}': row {number} has {len(row)} fields, not {len(names)}; check its separator.")
    place = {name: i for i, name in enumerate(names)}
    held = {name: np.array([row[place[name]] for row in rows], dtype=object) for name in _chosen(names, wanted)}
    return _whole(path, names, held, len(rows))


def _whole(path: Path, names: list[str], held: dict[str, NDArray[Any]], n: int) -> Columns:
    if n == 0:
        raise InputError(f"'{path}' has no rows.")
    return Columns(path, names, held, n)


def _plain(word: Any) -> str:
    if isinstance(word, bytes):
        word = word.decode("utf-8", errors="replace")
    return str(word).strip()


def _number(word: str) -> float:
    with suppress(ValueError):
        return float(word.translate(MINUS))
    return np.nan


def _is_number(word: str) -> bool:
    """Whether it is one to a reader of numbers, nan included."""
    with suppress(ValueError):
        float(word.translate(MINUS))
        return True
    return False


def _angle(word: str, hours: bool) -> float:
    parts = word.translate(MINUS).replace(":", " ").split()
    numbers = [_number(part) for part in parts]
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) != 3:
        return np.nan
    size = abs(numbers[0]) + numbers[1] / 60 + numbers[2] / 3600
    return (-size if parts[0].startswith("-") else size) * (15 if hours else 1)
