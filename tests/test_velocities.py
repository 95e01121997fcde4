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


def velocities_of(ids: list, rv: list, warned: list | None = None) -> Velocities:
    flags = np.zeros(len(ids), bool) if warned is None else np.array(warned)
    return Velocities(np.array(ids, np.int64), np.array(rv, float), flags)


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
    nothing = velocities_of([], [])
    np.testing.assert_array_equal(nothing.lookup(ids, default), default)
    assert not nothing.warns_of(ids).any()


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
    one = velocities_of([1, 2], [3.0, 4.0])
    assert one.fingerprint == velocities_of([1, 2], [3.0, 4.0]).fingerprint
    assert one.fingerprint != velocities_of([1, 2], [3.0, 5.0]).fingerprint
    assert one.fingerprint != velocities_of([1, 3], [3.0, 4.0]).fingerprint
    lacking = velocities_of([1, 2], [3.0, np.nan])
    assert lacking.fingerprint != velocities_of([1, 2], [3.0, np.nan], [False, True]).fingerprint


# -- what its own pipeline warns of ----------------------------------------------------------------------------


def write_hdu(path: Path, name: str, **columns: list) -> Path:
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU(Table({"TARGETID": [1], "SUCCESS": [0]}), name="SPTAB")]
    fits.HDUList([*hdus, fits.BinTableHDU(Table(columns), name=name)]).writeto(path)
    return path


def test_velocities_that_are_warned_of_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_hdu(
        tmp_path / "rv.fits",
        "RVTAB",
        TARGETID=[BIG_ID, BIG_ID + 1, BIG_ID + 2, 4, 5],
        VRAD=[10.0, -1449.0, 30.0, np.nan, 50.0],
        RVS_WARN=[0, 2, 0, 4, 0],
        SUCCESS=[True, True, True, True, False],
    )
    velocities = Velocities.read(path)
    ids = np.array([BIG_ID, BIG_ID + 1, BIG_ID + 2, 4, 5, 6])
    own = np.array([1.0, 2.0, 3.0, 4.0, np.nan, 6.0])
    np.testing.assert_array_equal(velocities.lookup(ids, own), [10, 2, 30, 4, np.nan, 6])
    np.testing.assert_array_equal(velocities.warns_of(ids), [False, True, False, False, True, False])
    part = velocities.of(ids[:2])
    np.testing.assert_array_equal(part.warns_of(ids), [False, True, False, False, False, False])
    assert capsys.readouterr().err == ""
    velocities.tell_joined([ids])
    joined, passed = capsys.readouterr().err.splitlines()
    assert joined == f"velocities for 2 of 6 spectra come from '{path}'."
    assert f"2 of 4 velocities of these spectra in '{path}' are passed over" in passed
    assert "(RVS_WARN and SUCCESS)" in passed


def test_only_spectra_that_are_there_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rv.csv"
    Table({"id": np.arange(100), "rv": np.ones(100), "rvs_warn": np.arange(100) % 2}).write(path)
    velocities = Velocities.read(path)
    velocities.tell_joined([np.array([1, 2, 4]), np.array([], np.int64), np.array([200, 6])])
    assert "velocities for 3 of 5 spectra" in (said := capsys.readouterr().err)
    assert "note: 1 of 4 velocities of these spectra" in said
    velocities.tell_joined([np.array([2, 4, 6])])
    assert capsys.readouterr().err == f"velocities for 3 of 3 spectra come from '{path}'.\n"


def test_a_catalogue_of_other_ids_is_refused(tmp_path: Path) -> None:
    table().write(tmp_path / "rv.csv")
    velocities = Velocities.read(tmp_path / "rv.csv")
    with pytest.raises(InputError, match=r"none of the 3 spectra is in '.*rv\.csv': their ids, such as 5, .* as 7;"):
        velocities.tell_joined([np.array([], np.int64), np.array([5, 6]), np.array([8])])
    with pytest.raises(InputError, match="are not those there; give a catalogue"):
        velocities_of([], []).tell_joined([np.array([5])])


def test_redrocks_redshifts_are_velocities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_hdu(
        tmp_path / "redrock.fits", "REDSHIFTS", TARGETID=[7, 8, 9], Z=[1e-4, -2e-4, -9999.0], ZWARN=[0, 4, 0]
    )
    velocities = Velocities.read(path)
    rv = velocities.lookup(np.array([7, 8, 9]), np.zeros(3))
    np.testing.assert_allclose(rv, [29.9792458, 0, 0])
    velocities.tell_joined([np.array([7, 8, 9])])
    assert "1 of 2 velocities" in capsys.readouterr().err
    # without a pipeline's warning beside it, z may as well be a magnitude
    Table({"id": [1], "z": [15.0]}).write(tmp_path / "z.csv")
    with pytest.raises(InputError, match="has no column vrad or rv or radial_velocity; it has id, z"):
        Velocities.read(tmp_path / "z.csv")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", ["rvs_warn", "ZWARN", "ZWARNING"])
def test_of_rows_with_one_id_a_trustworthy_one_counts(name: str, suffix: str, tmp_path: Path) -> None:
    ids = [5, 5, 5, 4, 4, 3, 3]
    rv = [900.0, None, 1.0, 2.0, 800.0, 700.0, None]
    warn = [1, 0, 0, 0, 4, 2, None]
    pq.write_table(pa.table({"id": ids, "rv": rv, name: warn}), tmp_path / "rv.parquet")
    cells = [",".join("" if cell is None else str(cell) for cell in row) for row in zip(ids, rv, warn, strict=True)]
    (tmp_path / "rv.csv").write_text("\n".join([f"id,rv,{name}", *cells]))
    velocities = Velocities.read(tmp_path / f"rv{suffix}")
    np.testing.assert_array_equal(velocities.ids, [3, 4, 5])
    np.testing.assert_array_equal(velocities.rv, [np.nan, 2.0, 1.0])
    np.testing.assert_array_equal(velocities.warned, [True, False, False])


def test_success_of_another_pipeline_says_nothing(tmp_path: Path) -> None:
    joined = {"id": [1, 2], "vrad": [10.0, 20.0], "SUCCESS": [0, 1]}
    Table(joined).write(tmp_path / "own.csv")
    Table({**joined, "BESTGRID": ["s_rdesi1", "s_rdesi2"]}).write(tmp_path / "joined.csv")
    np.testing.assert_array_equal(Velocities.read(tmp_path / "own.csv").rv, [np.nan, 20.0])
    np.testing.assert_array_equal(Velocities.read(tmp_path / "joined.csv").rv, [10.0, 20.0])


def test_minus_9999_is_no_velocity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Table({"obsid": [1, 2, 3], "rv": [-9999.0, -20.0, 5000.0]}).write(tmp_path / "rv.csv")
    velocities = Velocities.read(tmp_path / "rv.csv")
    np.testing.assert_array_equal(velocities.lookup(np.array([1, 2, 3]), np.full(3, 7.0)), [7, -20, 5000])
    assert capsys.readouterr().err == ""


def test_files_that_cannot_be_used_are_one_sentence(tmp_path: Path) -> None:
    Table({"x": [1], "rv": [1.0]}).write(tmp_path / "no-id.csv")
    Table({"id": [1], "x": [1.0]}).write(tmp_path / "no-rv.csv")
    Table({"id": [1.0], "rv": [1.0]}).write(tmp_path / "float-id.csv")
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "image.fits")
    (tmp_path / "text.fits").write_text("no table")
    (tmp_path / "text.parquet").write_text("no table")
    for name, sentence in {
        "none.fits": "does not exist; check the path",
        "none.parquet": "does not exist; check the path",
        "no-id.csv": r"has no column of ids \(targetid, id, .*; it has x, rv",
        "float-id.csv": "only integers keep all 64 bits",
        "no-rv.csv": r"has no column vrad or rv or radial_velocity; it has id, x",
        "image.fits": "holds no table in any of its HDUs",
        "text.fits": "cannot be read as a table",
        "text.parquet": "cannot be read as a table",
    }.items():
        with pytest.raises(InputError, match=sentence):
            Velocities.read(tmp_path / name)
