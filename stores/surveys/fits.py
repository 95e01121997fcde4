"""FITS files, plain or gzip, opened so that every fault is one sentence that names the file.

astropy only warns about many truncated files and would go on with what is left, so lengths are checked here.
"""

from __future__ import annotations

import gzip
import io
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.surveys import ALL_ROWS
from stores.surveys.layout import Layout, layout_of

GZIP_MAGIC = b"\x1f\x8b"
FITS_MAGIC = b"SIMPLE  ="
PART_BYTES = 2**25  # of a table that is larger, no more than this is read at once


class FitsFile:
    """An open FITS file: HDUs and columns by name (any case), arrays in native byte order and as copies."""

    def __init__(self, path: Path, hdus: Any, raw: IO[bytes]) -> None:
        self.path = path
        self.hdus = hdus
        self._raw = raw
        self._part: tuple[Any, ...] = (None, 0, 0, None)
        self._layouts: dict[int, Layout | None] = {}

    @property
    def header(self) -> Any:
        """Header of the primary HDU."""
        return self.hdus[0].header

    @property
    def tables(self) -> list[Any]:
        """All HDUs that are tables; to astropy compressed images are tables too."""
        from astropy.io import fits

        kinds = (fits.BinTableHDU, fits.TableHDU)
        return [hdu for hdu in self.hdus if isinstance(hdu, kinds) and not isinstance(hdu, fits.CompImageHDU)]

    def find(self, *names: str) -> Any:
        """The first HDU with one of these names, else None."""
        wanted = {name.upper() for name in names}
        return next((hdu for hdu in self.hdus if hdu.name.upper() in wanted), None)

    def hdu(self, *names: str) -> Any:
        """The first HDU with one of these names."""
        hdu = self.find(*names)
        if hdu is None:
            held = ", ".join(hdu.name for hdu in self.hdus)
            raise InputError(f"'{self.path}' has no HDU {' or '.join(names)} (only {held}); check the survey.")
        return hdu

    def has_column(self, hdu: Any, name: str) -> bool:
        return name.upper() in (held.upper() for held in self._names(hdu))

    def column(self, hdu: Any, *names: str, rows: slice = ALL_ROWS) -> NDArray[Any]:
        """The chosen rows of the first of these columns; only they are read from a plain file."""
        from astropy.io import fits

        held = {name.upper(): name for name in self._names(hdu)}
        name = next((held[name.upper()] for name in names if name.upper() in held), None)
        if name is None:
            raise InputError(f"'{self.path}' has no column {' or '.join(names)} in HDU {hdu.name}.")
        with _blaming(self.path, f"column {name} of HDU {hdu.name}"):
            plain = self._plain(hdu, name, rows)
            if plain is not None:
                return plain
            whole = hdu.size <= PART_BYTES or not isinstance(hdu, fits.BinTableHDU)
            if whole or hdu.header.get("PCOUNT") or rows.step not in (None, 1):
                return _native(hdu.data[name][rows])
            start, stop, _ = rows.indices(hdu.header["NAXIS2"])
            many = max(1, PART_BYTES // hdu.header["NAXIS1"])
            starts = range(start, max(stop, start + 1), many)
            return np.concatenate([_native(self._rows(hdu, i, min(i + many, stop))[name]) for i in starts])

    def _plain(self, hdu: Any, name: str, rows: slice) -> NDArray[Any] | None:
        """The column straight from the bytes, if it is of numbers that stand there as they are; else None.

        astropy's own way describes every column of a table twice over, which takes most of the time that a small
        file costs; LAMOST has millions of them.
        """
        layout = self._layout(hdu)
        if layout is None or name not in layout.plain or rows.step not in (None, 1):
            return None
        start, stop, _ = rows.indices(layout.rows)
        width = layout.dtype.itemsize
        many = max(1, PART_BYTES // width)
        parts = []
        for first in range(start, max(stop, start + 1), many):
            count = max(0, min(many, stop - first))
            self._raw.seek(layout.start + first * width)
            data = np.frombuffer(self._raw.read(count * width), dtype=layout.dtype)
            parts.append(_native(data[name]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _layout(self, hdu: Any) -> Layout | None:
        """Where the columns of a table are, from the text of its header; None if that is not simple."""
        from astropy.io import fits

        if not isinstance(hdu, fits.BinTableHDU) or isinstance(hdu, fits.CompImageHDU):
            return None
        if id(hdu) not in self._layouts:  # the HDUs stay as long as this does
            place = hdu.fileinfo()
            self._raw.seek(place["hdrLoc"])
            self._layouts[id(hdu)] = layout_of(self._raw.read(place["datLoc"] - place["hdrLoc"]), place["datLoc"])
        return self._layouts[id(hdu)]

    def _names(self, hdu: Any) -> list[str]:
        """Names of a table's columns."""
        layout = self._layout(hdu)
        names: list[str] = list(layout.dtype.names or ()) if layout is not None else self.columns(hdu).names
        return names

    def _rows(self, hdu: Any, start: int, stop: int) -> Any:
        """Rows of a large table, as a table of their own.

        Not through hdu.data: when that goes, astropy may copy every column of the whole table into memory.
        """
        from astropy.io import fits

        if self._part[:3] != (hdu, start, stop):
            self._part = (None, 0, 0, None)  # one part at a time in memory
            header = hdu.header.copy()
            header["NAXIS2"] = max(stop - start, 0)
            self._raw.seek(hdu.fileinfo()["datLoc"] + start * header["NAXIS1"])
            data = self._raw.read(header["NAXIS2"] * header["NAXIS1"])
            data += bytes(-len(data) % 2880)
            part = fits.BinTableHDU.fromstring(header.tostring().encode("ascii") + data, uint=True)
            self._part = (hdu, start, stop, part.data)
        return self._part[3]

    def image(self, hdu: Any, rows: slice = ALL_ROWS) -> NDArray[Any]:
        """The chosen rows of an image (its first numpy axis); only they are read from a plain file."""
        if not hdu.is_image or not hdu.shape:
            raise InputError(f"'{self.path}' has no image in HDU {hdu.name}.")
        start, stop, step = rows.indices(hdu.shape[0])
        if step == 1 and stop <= start:
            return np.empty((0, *hdu.shape[1:]))
        with _blaming(self.path, f"HDU {hdu.name}"):
            if step != 1:
                return _native(hdu.section[:][rows])
            return _native(hdu.section[start:stop])

    def columns(self, hdu: Any) -> Any:
        """astropy's description of a table's columns."""
        if not hasattr(hdu, "columns"):
            raise InputError(f"'{self.path}' has no table in HDU {hdu.name}.")
        with _blaming(self.path, f"the columns of HDU {hdu.name}"):
            return hdu.columns


@contextmanager
def open_fits(path: Path) -> Iterator[FitsFile]:
    """Open a FITS file for reading; an InputError raised inside that names no file gets this one's name."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings(), open_raw(path) as raw:
        # headers of real survey files bend the standard harmlessly; what matters is checked in _check_length
        warnings.simplefilter("ignore", AstropyWarning)
        if raw.read(len(FITS_MAGIC)) != FITS_MAGIC:
            raise InputError(f"'{path}' is not a FITS file.")
        raw.seek(0)
        with _blaming(path, "its headers"):
            hdus = fits.open(raw, mode="readonly", memmap=False if isinstance(raw, io.BytesIO) else None)
        with hdus:
            with _blaming(path, "its headers"):
                len(hdus)  # reads all headers
            _check_length(path, hdus, raw)
            with naming(path):
                try:
                    yield FitsFile(path, hdus, raw)
                except fits.VerifyError as error:
                    raise InputError(f"has a header that cannot be read ({_first_line(error)}).") from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before the sentence of an InputError that names none."""
    try:
        yield
    except InputError as error:
        if str(error).startswith("'"):
            raise
        raise InputError(f"'{path}': {error}") from error


def open_raw(path: Path) -> IO[bytes]:
    """The bytes of a file, decompressed (in memory) if they are gzip whatever the file's name."""
    try:
        raw = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist.") from None
    except OSError as error:
        raise InputError(f"'{path}' cannot be opened ({error.strerror}).") from error
    if raw.read(2) != GZIP_MAGIC:
        raw.seek(0)
        return raw
    with raw:
        state = os.fstat(raw.fileno())
    return io.BytesIO(_decompressed(path, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=1)  # a large table is read in many parts
def _decompressed(path: Path, size: int, changed: int) -> bytes:
    """The content of a gzip file; size and time of its last change tell versions of it apart."""
    try:
        return gzip.decompress(path.read_bytes())
    except EOFError:
        raise InputError(f"'{path}' is truncated: its gzip stream ends early; fetch it again.") from None
    except (OSError, zlib.error) as error:
        raise InputError(f"'{path}' is damaged ({_first_line(error)}); fetch it again.") from error


def first_bytes(path: Path) -> bytes:
    """The first 9 bytes, decompressed if they are gzip; enough to tell formats apart."""
    if not path.is_file():
        raise InputError(f"'{path}' does not exist; check the path.")
    with _blaming(path, "its start"), open(path, "rb") as raw:
        packed = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        with gzip.open(raw) if packed else raw as plain:
            return plain.read(len(FITS_MAGIC))


def primary_header(path: Path) -> Any:
    """The primary header alone: much cheaper than `open_fits`, above all for gzip files."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        if not path.is_file():
            raise InputError(f"'{path}' does not exist.")
        with _blaming(path, "its first header"), open(path, "rb") as raw:
            packed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            with gzip.open(raw) if packed else raw as plain:
                if plain.read(len(FITS_MAGIC)) != FITS_MAGIC:
                    raise InputError(f"'{path}' is not a FITS file.")
                plain.seek(0)
                return fits.Header.fromfile(plain)


def number(header: Any, *keys: str) -> float:
    """The first of these keywords that holds a number, else NaN."""
    for key in keys:
        value = header.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return float("nan")


def integer(header: Any, *keys: str) -> int | None:
    """The first of these keywords that holds an integer of 64 bits, else None."""
    for key in keys:
        value = header.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
            return value
    return None


def text(header: Any, key: str) -> str:
    """A keyword as text in upper case, empty if absent."""
    return str(header.get(key, "")).strip().upper()


def _check_length(path: Path, hdus: Any, raw: IO[bytes]) -> None:
    """Refuse a file that ends inside an HDU; a last block that only lacks its padding is fine."""
    length = raw.seek(0, io.SEEK_END)
    end = 0
    for hdu in hdus:
        place = hdu.fileinfo()
        end = place["datLoc"] + place["datSpan"]
        # the size of a compressed image is that of its pixels, not of the file's bytes
        compressed = type(hdu).__name__ == "CompImageHDU"
        if length < end and (compressed or length < place["datLoc"] + hdu.size):
            raise InputError(f"'{path}' is truncated: the file ends inside HDU {hdu.name}; fetch it again.")
    raw.seek(end)
    if raw.read(8) == b"XTENSION":
        raise InputError(f"'{path}' is truncated: the file ends inside the header of an HDU; fetch it again.")


@contextmanager
def _blaming(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    # astropy and numpy meet damaged bytes with nearly every type of exception
    except Exception as error:
        raise InputError(f"'{path}' is damaged: {what} cannot be read ({_first_line(error)}).") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _native(values: Any) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind in "SU":
        return np.char.strip(array.astype(str))
    return array.astype(array.dtype.newbyteorder("="))
