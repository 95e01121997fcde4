"""Velocities: catalogues are joined by id, and what is missing stays missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from stores_made import BIG_ID

from stores.errors import InputError
from stores.velocities import Velocities

IDS = np.array([BIG_ID + 2, BIG_ID, 7, BIG_ID + 1])
RV = np.array([20.5, -3.25, np.nan, 100.0])


def table() -> Table:
    return Table({"id": IDS, "rv": RV})


@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".parquet", ".fits", ".fits.gz"])
def test_every_format_gives_the_same(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rv{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"id": IDS, "rv": RV, "name": list("abcd")}), path)
    else:
        table().write(path)
    velocities = Velocities.read(path)
    np.testing.assert_array_equal(velocities.ids, [7, BIG_ID, BIG_ID + 1, BIG_ID + 2])
    np.testing.assert_array_equal(velocities.rv, [np.nan, -3.25, 100.0, 20.5])
    assert velocities.ids.dtype == np.int64


@pytest.mark.parametrize("hdu", ["RVTAB", "REDSHIFTS"])
def test_the_right_hdu_of_a_survey_file_is_read(hdu: str, tmp_path: Path) -> None:
    other = fits.BinTableHDU(Table({"TARGETID": [1], "VRAD": [9.0]}), name="FIBERMAP")
    wanted = fits.BinTableHDU(Table({"TARGETID": IDS, "VRAD": RV, "PARAM": np.ones((4, 3))}), name=hdu)
    fits.HDUList([fits.PrimaryHDU(), other, wanted]).writeto(tmp_path / "rv.fits")
    velocities = Velocities.read(tmp_path / "rv.fits")
    np.testing.assert_array_equal(velocities.lookup(IDS[:2], np.zeros(2)), RV[:2])
    assert 1 not in velocities.ids


def test_lookup_keeps_the_default_where_nothing_is_known(tmp_path: Path) -> None:
    table().write(tmp_path / "rv.csv")
    velocities = Velocities.read(tmp_path / "rv.csv")
    ids = np.array([BIG_ID + 1, BIG_ID + 3, 7, BIG_ID, -5])
    default = np.array([1.0, 2.0, 3.0, np.nan, np.nan])
    np.testing.assert_array_equal(velocities.lookup(ids, default), [100.0, 2.0, 3.0, -3.25, np.nan])
    nothing = Velocities(np.zeros(0, np.int64), np.zeros(0))
    np.testing.assert_array_equal(nothing.lookup(ids, default), default)


def test_the_first_finite_velocity_of_an_id_counts(tmp_path: Path) -> None:
    Table({"id": [5, 4, 5, 5, 4], "rv": [np.nan, 1.0, 2.0, 3.0, 4.0]}).write(tmp_path / "rv.csv")
    velocities = Velocities.read(tmp_path / "rv.csv")
    np.testing.assert_array_equal(velocities.ids, [4, 5])
    np.testing.assert_array_equal(velocities.rv, [1.0, 2.0])


def test_masked_values_are_missing_and_masked_ids_nobodys(tmp_path: Path) -> None:
    masked = Table(
        {
            "id": MaskedColumn([BIG_ID, 1, BIG_ID + 2], mask=[False, True, False]),
            "rv": MaskedColumn([1.0, 2.0, 3.0], mask=[False, False, True]),
        }
    )
    masked.write(tmp_path / "rv.ecsv")
    columns = {"id": pa.array([BIG_ID, None, BIG_ID + 2]), "rv": pa.array([1.0, 2.0, None])}
    pq.write_table(pa.table(columns), tmp_path / "rv.parquet")
    for name in ("rv.ecsv", "rv.parquet"):
        velocities = Velocities.read(tmp_path / name)
        np.testing.assert_array_equal(velocities.ids, [BIG_ID, BIG_ID + 2], err_msg=name)
        np.testing.assert_array_equal(velocities.rv, [1.0, np.nan], err_msg=name)


def test_a_part_gives_the_same_velocities(tmp_path: Path) -> None:
    table().write(tmp_path / "rv.csv")
    velocities = Velocities.read(tmp_path / "rv.csv")
    some = np.array([BIG_ID + 1, 99])
    part = velocities.of(some)
    np.testing.assert_array_equal(part.ids, [BIG_ID + 1])
    np.testing.assert_array_equal(part.lookup(some, np.zeros(2)), velocities.lookup(some, np.zeros(2)))


def test_the_fingerprint_follows_values_and_not_their_order() -> None:
    one = Velocities(np.array([1, 2]), np.array([3.0, 4.0]))
    assert one.fingerprint == Velocities(np.array([1, 2]), np.array([3.0, 4.0])).fingerprint
    assert one.fingerprint != Velocities(np.array([1, 2]), np.array([3.0, 5.0])).fingerprint
    assert one.fingerprint != Velocities(np.array([1, 3]), np.array([3.0, 4.0])).fingerprint


def test_files_that_cannot_be_used_are_one_sentence(tmp_path: Path) -> None:
    Table({"x": [1], "rv": [1.0]}).write(tmp_path / "no-id.csv")
    Table({"id": [1.0], "rv": [1.0]}).write(tmp_path / "float-id.csv")
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "image.fits")
    (tmp_path / "text.fits").write_text("no table")
    (tmp_path / "text.parquet").write_text("no table")
    for name, sentence in {
        "none.fits": "does not exist; check the path",
        "none.parquet": "does not exist; check the path",
        "no-id.csv": r"has no column of ids \(targetid, id, .*; it has x, rv",
        "float-id.csv": "only integers keep all 64 bits",
        "image.fits": "cannot be read as a table of velocities",
        "text.fits": "cannot be read as a table of velocities",
        "text.parquet": "cannot be read as a table of velocities",
    }.items():
        with pytest.raises(InputError, match=sentence):
            Velocities.read(tmp_path / name)
