"""Plain tables of values by id: the same from every format, ids to the last bit, one sentence for what is no table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from files import BIG_ID, compress, truncate

from stores.errors import InputError
from stores.id_table import IdTable

FORMATS = (".csv", ".csv.gz", ".ecsv", ".parquet", ".fits", ".fits.gz")
IDS = [BIG_ID + 2, None, BIG_ID, 7]
FEH = [-1.5, 0.0, None, -0.25]
COUNT = [3, 5, 8, None]
GOOD = [True, True, False, True]


def masked(values: list, fill: object) -> MaskedColumn:
    return MaskedColumn([fill if value is None else value for value in values], mask=[v is None for v in values])


def write(path: Path) -> Path:
    """The table above in the format of the path's suffix; FITS says with TNULL what has no value."""
    plain = {"ObsID": masked(IDS, -1), "feh": masked(FEH, 0.0), "count": masked(COUNT, -9), "Good": GOOD}
    if path.suffix == ".parquet":
        names = pa.array(list("abcd")).dictionary_encode()
        pq.write_table(pa.table({"ObsID": IDS, "feh": FEH, "count": COUNT, "Good": GOOD, "name": names}), path)
    elif ".fits" in path.suffixes:
        columns = [
            fits.Column("ObsID", "K", array=plain["ObsID"].data, null=-1),
            fits.Column("feh", "D", array=plain["feh"].filled(np.nan)),
            fits.Column("count", "J", array=plain["count"].data, null=-9),
            fits.Column("Good", "L", array=GOOD),
            fits.Column("vector", "3E", array=np.ones((4, 3))),
        ]
        fits.BinTableHDU.from_columns(columns).writeto(path)
    elif path.suffix == ".gz":
        Table(plain).write(path.with_suffix(""), format="ascii.csv")
        compress(path.with_suffix(""))
    else:
        Table(plain).write(path)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"labels{suffix}")
    table = IdTable.read(path, ("id", "obsid"), ("feh", "count", "good", "absent"))
    assert table.ids.dtype == np.int64
    assert table.ids.tolist() == [BIG_ID + 2, BIG_ID, 7]  # the row without an id is nobody's
    np.testing.assert_array_equal(table.numbers("feh"), [-1.5, np.nan, -0.25])
    np.testing.assert_array_equal(table.numbers("absent", "count"), [3, 8, np.nan])
    np.testing.assert_array_equal(table.false("good"), [False, True, False])
    assert list(table.columns) == ["feh", "count", "good"]
    assert list(table.names[:4]) == ["ObsID", "feh", "count", "Good"]


def test_the_first_id_column_counts_and_text_is_an_id(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2], "targetid": [str(BIG_ID), None]}), tmp_path / "a.parquet")
    assert IdTable.read(tmp_path / "a.parquet", ("targetid", "id"), ()).ids.tolist() == [BIG_ID]
    assert IdTable.read(tmp_path / "a.parquet", ("id", "targetid"), ()).ids.tolist() == [1, 2]


def test_the_first_table_is_read_unless_another_is_named(tmp_path: Path) -> None:
    hdus = [fits.BinTableHDU(Table({"id": [i], "x": [10.0 * i]}), name=name) for i, name in enumerate("ABC")]
    image = fits.ImageHDU(np.ones((2, 2)), name="IMAGE")
    fits.HDUList([fits.PrimaryHDU(), image, *hdus]).writeto(tmp_path / "x.fits")
    for parts, part, value in (((), "A", 0), (("C", "B"), "C", 20), (("IMAGE", "Z"), "A", 0)):
        table = IdTable.read(tmp_path / "x.fits", ("id",), ("x",), parts)
        assert (table.part, table.numbers("x").tolist()) == (part, [value])


@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files_are_one_sentence(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"labels{suffix}")
    for share in (0.0, 0.02, 0.5, 0.6):
        cut = truncate(path, int(share * path.stat().st_size), f"cut{suffix}")
        if suffix in (".csv", ".ecsv") and share > 0.1:
            continue  # text that ends early may still be a table
        with pytest.raises(InputError, match=r"^'.*cut.*'[^\n]*\.$"):
            IdTable.read(cut, ("id", "obsid"), ("feh",))
    with pytest.raises(InputError, match=r"absent.*' does not exist; check the path\.$"):
        IdTable.read(tmp_path / f"absent{suffix}", ("id",), ())


def _text(path: Path) -> None:
    path.write_text("no table")


@pytest.mark.parametrize(
    ("name", "make", "sentence"),
    [
        ("text.fits", _text, "cannot be read as a table; give FITS, CSV, ECSV or Parquet"),
        ("text.parquet", _text, "cannot be read as a table; give FITS, CSV, ECSV or Parquet"),
        ("folder.csv", Path.mkdir, "is a folder and no table; name a file"),
        ("image.fits", lambda path: fits.PrimaryHDU(np.zeros((2, 2))).writeto(path), "holds no table in any of its"),
        ("bytes.csv", lambda path: path.write_bytes(bytes(range(128, 256))), "cannot be read as a table"),
        ("half.parquet", lambda path: path.write_bytes(b"PAR1 and no more"), "cannot be read as a table"),
        ("other.csv", lambda path: path.write_text("x,y\n1,2\n"), r"no column of ids \(id, obsid\); it has x, y\."),
        ("float.csv", lambda path: path.write_text("id\n1.5\n"), "only integers keep all 64 bits"),
        ("large.csv", lambda path: path.write_text(f"id\n{2**64}\n"), f"id '{2**64}' is not a 64-bit integer"),
        ("lists.fits", lambda path: write(path), "column vector does not hold one value in every row"),
    ],
)
def test_what_is_no_catalogue_is_one_sentence(
    name: str, make: Callable[[Path], object], sentence: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=rf"^'.*{name}'[^\n]*{sentence}"):
        IdTable.read(tmp_path / name, ("id", "obsid"), ("vector",))


def test_columns_that_cannot_be_used_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,word\n1,metal\n2,poor\n")
    table = IdTable.read(tmp_path / "a.csv", ("id",), ("word", "absent"))
    with pytest.raises(InputError, match=r"a\.csv': column word does not hold numbers\.$"):
        table.numbers("word")
    with pytest.raises(InputError, match=r"a\.csv' has no column absent or gone; it has id, word\.$"):
        table.numbers("absent", "gone")


def test_text_can_say_no(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,good,number\n1,True,1\n2,False,0\n3,,\n4,f,2\n")
    table = IdTable.read(tmp_path / "a.csv", ("id",), ("good", "number"))
    assert table.false("good").tolist() == [False, True, False, True]
    assert table.false("number").tolist() == [False, True, False, False]
