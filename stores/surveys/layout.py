"""Layout: where the columns of a simple FITS table stand in its bytes, read from the text of its header.

Most of what a small file costs is astropy's description of its columns. This one knows tables whose columns have
names of their own and formats of a fixed size, as the standard has them (FITS 4.0, 7.3); for all others there is none,
and astropy has to be asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

CARD = 80  # bytes
TEXT = re.compile(r"([A-Z]+\d*) *= *'((?:[^']|'')*)'")
INTEGER = re.compile(r"([A-Z]+\d*) *= *(\d+) *(?:/.*)?$")
FORMAT = re.compile(r"(\d*)([LBIJKAEDCM])")
NUMBERS = {"I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}  # whose bytes are what they say
OTHERS = {"L": 1, "B": 1, "A": 1, "C": 8, "M": 16}  # bytes of one
CONVERTED = ("TSCAL", "TZERO", "TNULL", "TDIM")  # keywords of columns that are not what their bytes say


@dataclass(frozen=True)
class Layout:
    """dtype: of a row, all columns by name; plain: the columns that can be read as they stand there.

    start: byte of the file where the rows begin; rows: their number
    """

    dtype: np.dtype[Any]
    plain: frozenset[str]
    start: int
    rows: int


def layout_of(header: bytes, start: int) -> Layout | None:
    """The layout of a table by its header; None if that is not simple."""
    try:
        text = header.decode("ascii")
    except UnicodeDecodeError:
        return None
    words, numbers, keys = {}, {}, set()
    for place in range(0, len(text), CARD):
        card = text[place : place + CARD]
        keys.add(card[:8].rstrip())
        if found := TEXT.match(card):
            words[found[1]] = found[2].rstrip()
        elif found := INTEGER.match(card):
            numbers[found[1]] = int(found[2])
    if numbers.get("PCOUNT", 1) or words.get("XTENSION") != "BINTABLE" or "CONTINUE" in keys:
        return None
    columns: list[tuple[str, Any, tuple[int, ...]]] = []
    plain = set()
    for number in range(1, numbers.get("TFIELDS", 0) + 1):
        name, form = words.get(f"TTYPE{number}", ""), FORMAT.fullmatch(words.get(f"TFORM{number}", ""))
        if not name or form is None or name != name.strip() or "'" in name:
            return None
        count = int(form[1] or 1)
        columns.append((name, NUMBERS.get(form[2]) or f"V{OTHERS[form[2]]}", (count,) if count != 1 else ()))
        if form[2] in NUMBERS and count and not any(f"{key}{number}" in keys for key in CONVERTED):
            plain.add(name)
    if len({name.upper() for name, _, _ in columns}) != len(columns) or "NAXIS2" not in numbers:
        return None
    dtype = np.dtype(columns)
    return (
        Layout(dtype, frozenset(plain), start, numbers["NAXIS2"]) if dtype.itemsize == numbers.get("NAXIS1") else None
    )
