"""Layouts of FITS tables are astropy's, or there is none."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from stores.surveys.layout import layout_of


def header_of(columns: list[fits.Column], **cards: Any) -> tuple[bytes, fits.BinTableHDU]:
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header.update(cards)
    return hdu.header.tostring().encode("ascii"), hdu


@pytest.mark.parametrize("form", ["L", "B", "I", "3J", "K", "4E", "D", "2C", "M", "16A", "0D"])
def test_rows_are_as_long_as_astropy_has_them(form: str) -> None:
    columns = [fits.Column("first", "I", array=[1, 2]), fits.Column("Middle one", form), fits.Column("last", "2D")]
    header, hdu = header_of(columns)
    layout = layout_of(header, 2880)
    assert layout is not None
    assert layout.dtype.names == ("first", "Middle one", "last")
    assert [layout.dtype.fields[name][1] for name in layout.dtype.names] == [  # type: ignore[index]
        hdu.columns.dtype.fields[name][1] for name in hdu.columns.names
    ]
    assert layout.dtype.itemsize == hdu.header["NAXIS1"]
    assert (layout.rows, layout.start) == (2, 2880)
    assert {"first", "last"} <= layout.plain
    assert ("Middle one" in layout.plain) == (form.strip("0123456789") in "IJKED" and form[0] != "0")


def test_numbers_are_read_as_astropy_reads_them() -> None:
    values = {"i": np.array([1, -2], ">i2"), "e": np.array([[1.5, 2], [np.nan, 4]], ">f4"), "k": np.array([2**60, 0])}
    forms = {"i": "I", "e": "2E", "k": "K"}
    columns = [fits.Column(name, forms[name], array=array) for name, array in values.items()]
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(file)
    content = file.getvalue()
    with fits.open(io.BytesIO(content)) as hdus:
        place = hdus[1].fileinfo()
        layout = layout_of(content[place["hdrLoc"] : place["datLoc"]], place["datLoc"])
        assert layout is not None
        rows = np.frombuffer(content, layout.dtype, layout.rows, layout.start)
        for name in values:
            np.testing.assert_array_equal(rows[name], hdus[1].data[name])


@pytest.mark.parametrize("key", ["TSCAL1", "TZERO1", "TNULL1", "TDIM1"])
def test_columns_that_are_converted_are_not_plain(key: str) -> None:
    value: Any = {"TNULL1": -99, "TDIM1": "(2,2)"}.get(key, 2.0)
    header, _ = header_of([fits.Column("a", "4J"), fits.Column("b", "J")], **{key: value})
    layout = layout_of(header, 0)
    assert layout is not None
    assert layout.plain == {"b"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'a       '", "'b       '"),  # one name twice
        ("'a       '", "'B       '"),
        ("'a       '", "'        '"),
        ("'a       '", "' a      '"),
        ("'a       '", "'a''s    '"),
        ("'J       '", "'1PJ(3)  '"),  # of variable length
        ("'J       '", "'5X      '"),
        ("'J       '", "'2J      '"),  # longer than the row
        ("'BINTABLE'", "'TABLE   '"),
        ("PCOUNT  =                    0", "PCOUNT  =                    8"),
    ],
)
def test_other_tables_have_none(old: str, new: str) -> None:
    header, _ = header_of([fits.Column("a", "J"), fits.Column("b", "D")])
    changed = header.decode().replace(old, new)
    assert changed != header.decode()
    assert layout_of(changed.encode(), 0) is None
    assert layout_of(header, 0) is not None
    assert layout_of(b"\xff" + header, 0) is None
