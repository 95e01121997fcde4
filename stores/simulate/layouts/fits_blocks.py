"""FITS files put together as bytes: the same values give the same bytes, in a hundredth of astropy's time.

Standard: Pence et al. 2010 (A&A 524, A42). A file is a primary header, then images and tables, each a header and
data padded to blocks of 2880 bytes. Data are big-endian.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 2880
TYPES = {"K": ">i8", "J": ">i4", "I": ">i2", "B": "u1", "D": ">f8", "E": ">f4", "A": "S"}
BITPIX = {np.dtype("f4"): -32, np.dtype("f8"): -64, np.dtype("i4"): 32, np.dtype("i2"): 16, np.dtype("u1"): 8}

Value = str | int | float | bool


def card(key: str, value: Value, comment: str = "") -> str:
    """One header card of 80 characters; comments are cut where they do not fit."""
    if isinstance(value, bool | np.bool_):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, int | np.integer):
        text = f"{int(value):>20}"
    elif isinstance(value, float | np.floating):
        shown = repr(float(value)).upper()
        text = f"{shown if '.' in shown else shown.replace('E', '.0E'):>20}"
    else:
        text = "{:<20}".format("'" + value.replace("'", "''").ljust(8) + "'")
    if len(text) > 70 or len(key) > 8 or not text.isascii():
        raise ValueError(f"{key} = {value!r} does not fit a header card")
    return (f"{key:<8}= {text}" + (f" / {comment}" if comment else ""))[:80].ljust(80)


def header(cards: Iterable[str]) -> bytes:
    """Cards and the end of a header, padded."""
    return _padded("".join([*cards, "END".ljust(80)]).encode("ascii"), b" ")


def primary(cards: Iterable[str]) -> bytes:
    """A primary header without data."""
    start = [("SIMPLE", True, "conforms to FITS standard"), ("BITPIX", 8, ""), ("NAXIS", 0, ""), ("EXTEND", True, "")]
    return header([*(card(*one) for one in start), *cards])


def image(name: str, data: NDArray[Any], unit: str = "") -> bytes:
    """An image extension of float32, float64, int32, int16 or uint8."""
    axes = {f"NAXIS{i}": size for i, size in enumerate(reversed(data.shape), 1)}
    cards = {"BITPIX": BITPIX[data.dtype.newbyteorder("=")], "NAXIS": data.ndim, **axes, "PCOUNT": 0, "GCOUNT": 1}
    texts = {"EXTNAME": name, **({"BUNIT": unit} if unit else {})}
    start = [card("XTENSION", "IMAGE"), *(card(*one) for one in cards.items()), *(card(*one) for one in texts.items())]
    return header(start) + _padded(np.ascontiguousarray(data, data.dtype.newbyteorder(">")).tobytes(), b"\0")


def table(name: str, columns: str, n: int, values: Mapping[str, ArrayLike]) -> bytes:
    """A table extension of n rows.

    columns: names and FITS formats, "TARGETID K, OBJTYPE 3A"; values: arrays (n,) or (n, width), or one value, by
    column; what it lacks is 0 or empty
    """
    dtype = _dtype(columns)
    rows = np.zeros(n, dtype=dtype)
    for column, value in values.items():
        rows[column] = value
    return header(_table_cards(name, columns, n)) + _padded(rows.tobytes(), b"\0")


@lru_cache(maxsize=32)
def _dtype(columns: str) -> np.dtype[Any]:
    fields: list[Any] = []
    for column, code in _entries(columns):
        width = int(code[:-1] or 1)
        if code[-1] == "A":
            fields.append((column, f"S{width}"))
        else:
            fields.append((column, TYPES[code[-1]], width) if width > 1 else (column, TYPES[code[-1]]))
    return np.dtype(fields)


@lru_cache(maxsize=32)
def _table_cards(name: str, columns: str, n: int) -> Sequence[str]:
    cards = [
        card("XTENSION", "BINTABLE"),
        card("BITPIX", 8),
        card("NAXIS", 2),
        card("NAXIS1", _dtype(columns).itemsize),
    ]
    entries = _entries(columns)
    counts = {"NAXIS2": n, "PCOUNT": 0, "GCOUNT": 1, "TFIELDS": len(entries)}
    cards += [card(key, value) for key, value in counts.items()]
    for number, (column, code) in enumerate(entries, 1):
        cards += [card(f"TTYPE{number}", column), card(f"TFORM{number}", code)]
    return [*cards, card("EXTNAME", name)]


def _entries(columns: str) -> list[tuple[str, str]]:
    return [(words[0], words[1]) for words in map(str.split, columns.split(","))]


def _padded(data: bytes, filler: bytes) -> bytes:
    return data + filler * (-len(data) % BLOCK)
