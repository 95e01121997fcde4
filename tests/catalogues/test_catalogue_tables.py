"""Any table as a catalogue, of whatever format, by the names of its columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from files import BIG_ID, compress

from stores.catalogue import Cut
from stores.catalogues import read_catalogue
from stores.errors import InputError, OptionError

# -- any table ----------------------------------------------------------------------------------------------

ROWS = {
    "ID": np.array([BIG_ID, 5, 6]),
    "GAIAEDR3_SOURCE_ID": np.array([BIG_ID + 2, 0, BIG_ID + 4]),
    "RA": np.array([1.0, 2.0, 3.0]),
    "DEC": np.array([-1.0, 2.0, 3.0]),
    "Teff": np.array([5000.0, np.nan, 6000.0]),
    "e_Teff": np.array([50.0, 60.0, 70.0]),
    "FE_H": np.array([-0.5, -1.5, -9999.0]),
    "FE_H_ERR": np.array([0.1, 0.2, 0.3]),
    "C_FE": np.array([0.0, 0.1, 0.2]),
}


def write_fits(path: Path) -> None:
    Table(ROWS).write(path)


def write_csv(path: Path) -> None:
    Table(ROWS).write(path, format="ascii.csv")


def write_ecsv(path: Path) -> None:
    Table(ROWS).write(path, format="ascii.ecsv")


def write_parquet(path: Path) -> None:
    pq.write_table(pa.table(ROWS), path)


WRITERS: dict[str, Callable[[Path], None]] = {
    ".fits": write_fits,
    ".csv": write_csv,
    ".ecsv": write_ecsv,
    ".parquet": write_parquet,
}


@pytest.mark.parametrize("suffix", [*WRITERS, ".fits.gz", ".csv.gz"])
def test_tables_of_every_format_are_alike(suffix: str, tmp_path: Path) -> None:
    plain = suffix.removesuffix(".gz")
    path = tmp_path / f"t{plain}"
    WRITERS[plain](path)
    read = read_catalogue("table", path if suffix == plain else compress(path), columns={"cfe": "c_fe"})
    assert read.id is not None
    assert read.gaia is not None
    assert read.id.tolist() == [BIG_ID, 5, 6]
    assert read.gaia.tolist() == [BIG_ID + 2, 0, BIG_ID + 4]
    assert read.labels == ("teff", "feh", "cfe")
    np.testing.assert_array_equal(read.values["teff"], [5000, np.nan, 6000])
    np.testing.assert_array_equal(read.values["feh"], [-0.5, -1.5, np.nan])
    np.testing.assert_array_equal(read.sigmas["teff"], [50, np.nan, 70])
    np.testing.assert_array_equal(read.sigmas["feh"], [0.1, 0.2, np.nan])
    np.testing.assert_array_equal(read.values["cfe"], [0.0, 0.1, 0.2])
    np.testing.assert_array_equal(read.dec, [-1, 2, 3])
    assert read.cuts == (Cut("feh is a number that cannot be: taken as unknown", 1),)


def test_named_columns_win(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv")
    named = {"feh": "C_FE", "id": "GAIAEDR3_SOURCE_ID", "sigma_feh": "FE_H_ERR"}
    read = read_catalogue("table", tmp_path / "t.csv", columns=named)
    np.testing.assert_array_equal(read.values["feh"], [0.0, 0.1, 0.2])
    np.testing.assert_array_equal(read.sigmas["feh"], [0.1, 0.2, 0.3])
    assert read.id is not None
    assert read.id.tolist() == [BIG_ID + 2, 0, BIG_ID + 4]
    with pytest.raises(OptionError, match=r"has no column 'FEH2' for feh; it has ID, GAIAEDR3_SOURCE_ID"):
        read_catalogue("table", tmp_path / "t.csv", columns={"feh": "FEH2"})


def test_nulls_are_no_ids_and_no_floats(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": pa.array([BIG_ID, None]), "feh": pa.array([None, 0.5])}), tmp_path / "t.parquet")
    masked = MaskedColumn([BIG_ID, 7], mask=[False, True], name="id")
    Table([masked, MaskedColumn([0.0, 0.5], mask=[True, False], name="feh")]).write(tmp_path / "t.ecsv")
    null = fits.Column("ID", "K", array=[BIG_ID, 987_654_321], null=987_654_321)
    fits.BinTableHDU.from_columns([null, fits.Column("FEH", "D", array=[np.nan, 0.5])]).writeto(tmp_path / "t.fits")
    for name in ("t.parquet", "t.ecsv", "t.fits"):
        read = read_catalogue("table", tmp_path / name)
        assert read.id is not None
        assert read.id.tolist() == [BIG_ID, 0], name
        np.testing.assert_array_equal(read.values["feh"], [np.nan, 0.5])


def test_a_column_of_names_is_no_id_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,ra,dec,feh\nHD 1,12 30 00,-0 30 00,-1\n")
    read = read_catalogue("table", tmp_path / "t.csv")
    assert read.id is None
    assert (read.ra[0], read.dec[0]) == (187.5, -0.5)
    assert read.cuts == (Cut("an integer as id, unlike 'HD 1': not matched by it", 1),)
    with pytest.raises(
        InputError, match=r"t\.csv': id 'HD 1' is not a 64-bit integer, and neither is any other; name"
    ):
        read_catalogue("table", tmp_path / "t.csv", columns={"id": "id"})


@pytest.mark.parametrize("columns", [{}, {"id": "id"}])
def test_text_among_ids_is_counted_and_left_out(columns: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"id,feh\n{BIG_ID},-1\nHD 2,-2\n,-3\nHD 4,-4\n-9,-5\n")
    read = read_catalogue("table", tmp_path / "t.csv", columns=columns)
    assert read.id is not None
    assert read.id.tolist() == [BIG_ID, 0, 0, 0, 0]
    assert read.cuts == (Cut("an integer as id, unlike 'HD 2': not matched by it", 2),)


def test_ids_that_are_all_text_or_floats_are_refused_where_nothing_else_matches(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,feh\nHD 1,-1\nHD 2,-2\n")
    pq.write_table(pa.table({"id": [1.0, 2.0], "feh": [0.0, 0.5]}), tmp_path / "t.parquet")
    for name, word in (("t.csv", "HD 1"), ("t.parquet", "1.0")):
        with pytest.raises(InputError) as error:
            read_catalogue("table", tmp_path / name)
        assert str(error.value) == (
            f"'{tmp_path / name}': id '{word}' is not a 64-bit integer, and neither is any other; name the right "
            "column with stores-labels --columns id=NAME."
        )
    (tmp_path / "gaia.csv").write_text(f"id,gaia,feh\nHD 1,{BIG_ID},-1\n")
    read = read_catalogue("table", tmp_path / "gaia.csv")
    assert read.gaia is not None
    assert read.gaia.tolist() == [BIG_ID]


def test_text_among_numbers_is_counted_and_unknown(tmp_path: Path) -> None:
    text = "id,teff,feh,sigma_feh,logg\n1,5000,<-2,0.1,nan\n2,hot,-1,,NaN\n3,,nan,big,\n4,4000,weak,0.2,\n"
    (tmp_path / "t.csv").write_text(text)
    pq.write_table(pa.table({"id": [1, 2], "feh": ["-1", "rich"], "teff": ["nan", ""]}), tmp_path / "t.parquet")
    read = read_catalogue("table", tmp_path / "t.csv")
    np.testing.assert_array_equal(read.values["teff"], [5000, np.nan, np.nan, 4000])
    np.testing.assert_array_equal(read.values["feh"], [np.nan, -1, np.nan, np.nan])
    assert np.isnan(read.values["logg"]).all()  # a column of nothing but nan is one of unknown labels
    assert read.cuts == (
        Cut("a number as teff, unlike 'hot': taken as unknown", 1),
        Cut("a number as feh, unlike '<-2': taken as unknown", 2),
        Cut("a number as sigma of feh, unlike 'big': taken as unknown", 1),
    )
    assert read_catalogue("table", tmp_path / "t.parquet").cuts[0].rows == 1
