"""Catalogues of surveys: APOGEE, DESI and LAMOST, their layouts and their cuts, which are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from catalogues_made import ALLSTAR, LABELS, real, sigma, write_allstar
from files import BIG_ID, DATA

from stores.catalogues import read_catalogue
from stores.errors import InputError
from stores.simulate.population import Stars

# -- APOGEE -------------------------------------------------------------------------------------------------


def test_apogee_is_cut_as_said(folder: Path, stars: Stars) -> None:
    whole = read_catalogue("apogee", folder / "allStar.fits", off=["all"])
    cut = read_catalogue("apogee", folder / "allStar.fits")
    data = fits.getdata(folder / "allStar.fits", 1)
    bad, twice = data["ASPCAPFLAG"] & (1 << 23) != 0, data["EXTRATARG"] & 16 != 0
    good = ~bad & ~twice & (data["SNR"] > 50)
    assert all("cannot be" in told.sentence for told in whole.cuts)
    assert len(whole) == len(data)
    assert len(cut) == good.sum()
    assert [told.rows for told in cut.cuts[:3]] == [bad.sum(), (twice & ~bad).sum(), (~bad & ~twice & ~good).sum()]
    assert cut.gaia is not None
    np.testing.assert_array_equal(cut.gaia, data["GAIAEDR3_SOURCE_ID"][good])
    assert len(np.unique(cut.gaia)) == len(cut)
    some = read_catalogue("apogee", folder / "allStar.fits", off=["snr", "duplicate"])
    assert len(some) == (~bad).sum()
    assert [told.sentence for told in some.cuts[:2]] == [told.sentence for told in (cut.cuts[0], cut.cuts[3])]


def test_apogee_labels_are_those_of_its_stars(folder: Path, stars: Stars) -> None:
    cut = read_catalogue("apogee", folder / "allStar.fits")
    assert cut.gaia is not None
    star = np.argsort(stars.id)[np.searchsorted(np.sort(stars.id), cut.gaia)]
    for i, (label, noise) in enumerate(zip(LABELS, (60, 0.06, 0.037, 0.025), strict=True)):
        assert np.isfinite(cut.values[label]).all()
        assert sigma(cut.values[label] - stars.labels[star, i]) == pytest.approx(noise, rel=0.25)
        assert (cut.sigmas[label] > 0).all()
    np.testing.assert_array_equal(cut.epoch, 2000.0)


def test_apogee_alpha_belongs_to_the_iron_beside_it(tmp_path: Path) -> None:
    new = write_allstar(
        tmp_path / "new.fits",
        ALPHA_M=("E", [0.2, 0.2, -9999.0, 0.2]),
        M_H=("E", [-0.4, -9999.0, -0.4, np.nan]),
        PARAM_ALPHA_M=("E", [0.9] * 4),
        ALPHA_M_ERR=("E", [0.01, 0.01, 0.01, -1.0]),
    )
    read = read_catalogue("apogee", new)
    np.testing.assert_allclose(read.values["alphafe"], [0.3, np.nan, np.nan, np.nan], atol=1e-6)
    np.testing.assert_allclose(read.sigmas["alphafe"], [0.01, np.nan, np.nan, np.nan])
    old = write_allstar(tmp_path / "old.fits", PARAM_ALPHA_M=("E", [0.2, 0.1, -9999.0, 0.2]), M_H=("E", [0.4] * 4))
    np.testing.assert_allclose(read_catalogue("apogee", old).values["alphafe"], [0.2, 0.1, np.nan, 0.2], atol=1e-6)


def test_apogee_iron_flags_take_iron_and_not_the_row(tmp_path: Path) -> None:
    path = write_allstar(
        tmp_path / "a.fits", FE_H_FLAG=("J", [0, 2, 32, 256]), PARAM_ALPHA_M=("E", [0.1, 0.1, 0.1, 0.1])
    )
    read = read_catalogue("apogee", path)
    for label in ("feh", "alphafe"):
        assert np.isfinite(read.values[label]).tolist() == [True, False, True, True]
    assert np.isfinite(read.values["teff"]).all()
    assert read.cuts[-1].rows == 1
    assert np.isfinite(read_catalogue("apogee", path, off=["feh_flag"]).values["feh"]).all()


@real
def test_the_real_old_allstar_file() -> None:
    read = read_catalogue("apogee", ALLSTAR)
    assert [cut.rows for cut in read.cuts] == [1531, 159, 0, 739]
    assert len(read) == 1554
    assert read.gaia is None
    assert {label: int(np.isfinite(read.values[label]).sum()) for label in LABELS} == {
        "teff": 769,
        "logg": 769,
        "feh": 767,
        "alphafe": 767,
    }
    assert np.nanmin(read.values["feh"]) > -2.5
    assert 0.2 < np.nanmedian(read.values["alphafe"][read.values["feh"] < -0.6]) < 0.4
    data = fits.getdata(ALLSTAR, 1)
    np.testing.assert_allclose(np.nanmedian(read.sigmas["feh"]), 0.034, atol=0.002)
    assert len(read_catalogue("apogee", ALLSTAR, off=["all"])) == len(data) == 3244


# -- DESI ---------------------------------------------------------------------------------------------------


def test_desi_labels_are_those_of_their_rows(folder: Path, stars: Stars) -> None:
    ids = BIG_ID + np.arange(len(stars))
    for kind, noise, left in (("desi_rvs", 0.09, 0.96), ("desi_sp", 0.18, 0.94)):
        read = read_catalogue(kind, folder / "mwsall.fits")
        assert read.id is not None
        assert read.gaia is not None
        row = read.id - BIG_ID
        np.testing.assert_array_equal(ids[row], read.id)
        np.testing.assert_array_equal(stars.id[row], read.gaia)
        np.testing.assert_array_equal(stars.ra[row], read.ra)
        np.testing.assert_allclose(stars.pmdec[row], read.pmdec, rtol=1e-6)
        np.testing.assert_array_equal(read.epoch, 2016.0)
        rich = stars.labels[row, 2] > -1.0
        assert sigma((read.values["feh"] - stars.labels[row, 2])[rich]) == pytest.approx(noise, rel=0.3)
        assert len(read) / len(stars) == pytest.approx(left, abs=0.02)
        assert len(stars) - len(read) == sum(cut.rows for cut in read.cuts)
        assert len(read_catalogue(kind, folder / "mwsall.fits", off=["all"])) == len(stars)
        assert set(read.labels) == set(LABELS)


def test_desi_sp_errors_are_of_the_covariance(folder: Path) -> None:
    read = read_catalogue("desi_sp", folder / "mwsall.fits", off=["all"])
    covar = fits.getdata(folder / "mwsall.fits", "SPTAB")["COVAR"]
    for label, place in (("feh", 0), ("alphafe", 1), ("teff", 3), ("logg", 4)):
        np.testing.assert_allclose(read.sigmas[label], np.sqrt(covar[:, place, place]))


def test_desi_cuts_are_those_of_the_columns(folder: Path) -> None:
    rv, sp = (fits.getdata(folder / "mwsall.fits", name) for name in ("RVTAB", "SPTAB"))
    good = (rv["RVS_WARN"] == 0) & (rv["RR_SPECTYPE"] == "STAR")
    np.testing.assert_array_equal(read_catalogue("desi_rvs", folder / "mwsall.fits").id, rv["TARGETID"][good])
    good = (sp["SUCCESS"] != 0) & (sp["BESTGRID"] != "s_rdesi1")
    np.testing.assert_array_equal(read_catalogue("desi_sp", folder / "mwsall.fits").id, sp["TARGETID"][good])
    assert len(read_catalogue("desi_sp", folder / "mwsall.fits", off=["grid"])) == (sp["SUCCESS"] != 0).sum()


def test_desi_hdus_that_do_not_match_are_refused(folder: Path, tmp_path: Path) -> None:
    with fits.open(folder / "mwsall.fits") as hdus:
        kept = [hdu for hdu in hdus if hdu.name != "GAIA"]
        fits.HDUList(kept).writeto(tmp_path / "without.fits")
        short = fits.BinTableHDU(hdus["GAIA"].data[:-1], name="GAIA")
        fits.HDUList([*kept, short]).writeto(tmp_path / "short.fits")
    assert read_catalogue("desi_rvs", tmp_path / "without.fits").gaia is None
    with pytest.raises(InputError, match="2999 rows in HDU GAIA, not 3000"):
        read_catalogue("desi_rvs", tmp_path / "short.fits")
    with pytest.raises(InputError, match="no HDU RVTAB"):
        read_catalogue("desi_rvs", folder / "allStar.fits")


# -- LAMOST -------------------------------------------------------------------------------------------------


def test_lasp_columns(tmp_path: Path) -> None:
    text = "obsid,gaia_source_id,ra,dec,teff,teff_err,logg,feh,feh_err,snrg\n"
    text += f"{BIG_ID},{BIG_ID + 2},1.5,2.5,5000,50,4.4,-0.5,0.05,30\n"
    text += "7,,1,2,-9999,-9999,4,0.1,-9999,20.5\n8,-9999,1,2,5000,1,4,0,1,20\n"
    (tmp_path / "lasp.csv").write_text(text)
    read = read_catalogue("lasp", tmp_path / "lasp.csv")
    assert read.id is not None
    assert read.gaia is not None
    assert read.id.tolist() == [BIG_ID, 7]
    assert read.gaia.tolist() == [BIG_ID + 2, 0]
    np.testing.assert_array_equal(read.values["teff"], [5000, np.nan])
    np.testing.assert_array_equal(read.sigmas["feh"], [0.05, np.nan])
    assert read.cuts[0].rows == 1
    assert np.isnan(read.epoch).all()
    assert read_catalogue("lasp", tmp_path / "lasp.csv", epoch=2000.0).epoch.tolist() == [2000.0, 2000.0]


@real
def test_the_real_lamost_tables() -> None:
    files = read_catalogue("lasp", DATA / "lamost/labels.csv")
    table = read_catalogue("lasp", DATA / "lamost/lamost_dr10_table.fits.gz")
    assert (len(files), files.cuts[0].rows) == (637, 142)
    assert (len(table), table.cuts[0].rows) == (997, 174)
    for read in (files, table):
        assert read.id is not None
        assert len(np.unique(read.id)) == len(read)
        assert all(np.isfinite(read.values[label]).all() for label in ("teff", "logg", "feh"))
        assert np.isfinite(read.ra).all()
    assert files.id is not None
    row = int(np.flatnonzero(files.id == 995109031)[0])
    assert files.values["feh"][row] == -0.4560000002384186


@real
def test_the_real_miles_labels_are_a_table() -> None:
    read = read_catalogue("table", DATA / "miles/labels.csv")
    assert read.id is not None
    assert read.id[0] == 81
    assert {label: int(np.isfinite(read.values[label]).sum()) for label in LABELS} == {
        "teff": 492,
        "logg": 492,
        "feh": 474,
        "alphafe": 185,
    }
    venn = {"feh": "__Fe_H_", "alphafe": "__a_Fe_", "ra": "_RA", "dec": "_DE"}
    stars = read_catalogue("table", DATA / "catalogues/venn04.fits", columns=venn, epoch=2000.0)
    assert np.isfinite(stars.values["feh"]).all()
    assert np.isfinite(stars.ra).sum() == 811
