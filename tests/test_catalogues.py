"""Readers of label catalogues: true layouts, exact ids, cuts that are told, and values that are no values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from files import BIG_ID, DATA, compress, truncate

from stores.catalogue import Catalogue, Cut
from stores.catalogues import CATALOGUES, CatalogueOptions, catalogue, load_catalogues, read_catalogue
from stores.catalogues.literature import median_and_scatter
from stores.errors import InputError, OptionError
from stores.simulate.catalogues import write_apogee, write_mwsall, write_pastel, write_saga
from stores.simulate.emulator import Emulator
from stores.simulate.population import Stars, draw

ALLSTAR = DATA / "catalogues/APOGEE-allStar-v603-Hipparcos.fits.gz"
JINABASE = DATA / "catalogues/JINAbase_2021.csv"
LABELS = ("teff", "logg", "feh", "alphafe")
real = pytest.mark.skipif(not DATA.exists(), reason="the shared real data are not on this machine")


@pytest.fixture(scope="module")
def stars() -> Stars:
    return draw(3000, 21, Emulator.load())


@pytest.fixture(scope="module")
def folder(stars: Stars, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogues")
    write_apogee(folder / "allStar.fits", stars, 1)
    write_mwsall(folder / "mwsall.fits", BIG_ID + np.arange(len(stars)), stars, 1)
    write_saga(folder / "saga.tsv", poor(stars), 1)
    write_pastel(folder / "pastel.tsv", bright(stars), 1)
    return folder


def poor(stars: Stars) -> Stars:
    return stars.take(stars.labels[:, 2] < -1.5)


def bright(stars: Stars) -> Stars:
    return stars.take(stars.gmag < 16)


def sigma(values: np.ndarray) -> float:
    return float(np.diff(np.nanpercentile(values, [15.865, 84.135]))[0] / 2)


# -- what a catalogue is ------------------------------------------------------------------------------------


def test_values_that_cannot_be_are_unknown_and_told() -> None:
    made = Catalogue(
        "made",
        {
            "teff": np.array([5000.0, 0.0, -9999.0, 2e5, np.nan]),
            "feh": np.array([-10.0, -9.9, -9999.0, 11, np.inf]),
            "cfe": np.array([-999.0, -9999.99, 2.5, 1.0, np.nan]),
        },
        {"teff": np.array([50.0, 50, 50, 50, 50]), "feh": np.array([0.1, -1.0, 0.1, 0.1, 0.1])},
    )
    np.testing.assert_array_equal(np.isfinite(made.values["teff"]), [True, False, False, False, False])
    np.testing.assert_array_equal(np.isfinite(made.values["feh"]), [False, True, False, False, False])
    np.testing.assert_array_equal(np.isfinite(made.values["cfe"]), [False, False, True, True, False])
    assert np.isfinite(made.sigmas["teff"]).tolist() == [True, False, False, False, False]
    assert not np.isfinite(made.sigmas["feh"]).any()  # the one that is known has an error of -1
    assert {cut.sentence.split()[0]: cut.rows for cut in made.cuts} == {"teff": 3, "feh": 3, "cfe": 2}
    assert made.take(slice(None)).cuts == made.cuts


def test_positions_and_ids_are_put_right() -> None:
    made = Catalogue(
        "made",
        {"feh": np.zeros(4)},
        gaia=np.array([BIG_ID, -1, 999_999, BIG_ID + 1]),
        ra=np.array([-10.0, 360.0, 999.0, 5.0]),
        dec=np.array([0.0, -90.0, 0.0, -9999.0]),
        pmra=np.array([1.0, np.nan, -9999.99, 1e9]),
        pmdec=np.array([1.0, 2.0, 1.0, 1.0]),
    )
    assert made.gaia is not None
    assert made.gaia.tolist() == [BIG_ID, 0, 0, BIG_ID + 1]
    np.testing.assert_array_equal(made.ra, [350.0, 0.0, np.nan, np.nan])
    np.testing.assert_array_equal(made.dec, [0.0, -90.0, np.nan, np.nan])
    assert np.isfinite(made.pmra).tolist() == np.isfinite(made.pmdec).tolist() == [True, False, True, False]
    assert made.id is None
    assert len(made) == 4


def test_columns_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="'made' has logg that is not one number in each of its 3 rows"):
        Catalogue("made", {"feh": np.zeros(3), "logg": np.zeros(2)})
    with pytest.raises(InputError, match="'made' has 2 id for 3 rows"):
        Catalogue("made", {"feh": np.zeros(3)}, id=np.arange(2))
    with pytest.raises(InputError, match="float64"):
        Catalogue("made", {"feh": np.zeros(2)}, gaia=np.array([1.0, 2.0]))  # type: ignore[arg-type]


def test_the_fingerprint_is_of_the_content() -> None:
    def made(value: float, gaia: int = BIG_ID) -> str:
        return Catalogue("made", {"feh": np.array([value])}, gaia=np.array([gaia])).fingerprint

    assert made(1.0) == made(1.0)
    assert len({made(1.0), made(2.0), made(1.0, BIG_ID + 1)}) == 3


# -- the registry -------------------------------------------------------------------------------------------


def test_kinds_are_known_by_name() -> None:
    known = load_catalogues()
    assert {"apogee", "pastel", "saga", "jinabase", "desi_rvs", "desi_sp", "lasp", "table"} <= set(known)
    assert all(kind.summary for kind in known.values())
    with pytest.raises(OptionError, match="catalogue 'simbad' is unknown; known ones are apogee, desi_rvs"):
        read_catalogue("simbad", "x.fits")
    with pytest.raises(OptionError, match="'lasp' has no cut 'star_bad' to turn off; its cuts are snr"):
        read_catalogue("lasp", "x.fits", off=["star_bad"])
    with pytest.raises(OptionError, match="name columns for the catalogue 'table' only"):
        read_catalogue("lasp", "x.fits", columns={"feh": "FE_H"})


def test_another_package_adds_a_kind(tmp_path: Path) -> None:
    before = dict(CATALOGUES)
    try:

        @catalogue("mine", cuts={"bad": "it is good"})
        def read(path: Path, options: CatalogueOptions) -> Catalogue:
            """Mine."""
            return Catalogue("mine", {"feh": np.array([0.0 if "bad" in options.off else np.nan])})

        assert read_catalogue("mine", tmp_path, off=["bad"]).values["feh"].tolist() == [0.0]
        with pytest.raises(InputError, match="gives no label; check the file"):
            read_catalogue("mine", tmp_path)
    finally:
        CATALOGUES.clear()
        CATALOGUES.update(before)


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


def write_allstar(path: Path, **columns: Any) -> Path:
    n = 4
    held: dict[str, tuple[str, Any]] = {
        "RA": ("D", np.arange(n) * 10.0),
        "DEC": ("D", np.arange(n) * 10.0),
        "SNR": ("E", np.full(n, 100.0)),
        "ASPCAPFLAG": ("J", np.zeros(n)),
        "EXTRATARG": ("J", np.zeros(n)),
        "FE_H_FLAG": ("J", np.zeros(n)),
        "TEFF": ("E", np.full(n, 5000.0)),
        "FE_H": ("E", np.full(n, -0.5)),
        **columns,
    }
    table = [fits.Column(name, code, array=np.asarray(array)) for name, (code, array) in held.items()]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(table)]).writeto(path)
    return path


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


# -- the literature -----------------------------------------------------------------------------------------


def test_the_median_of_papers_is_robust_and_unordered() -> None:
    random = np.random.default_rng(0)
    star = np.repeat(np.arange(4000), 3)
    values = random.normal(size=len(star))
    median, scatter = median_and_scatter(values, star, 4001)
    np.testing.assert_allclose(median[:4000], np.median(values.reshape(-1, 3), axis=1))
    assert np.isnan(median[4000])
    assert scatter[:4000].mean() == pytest.approx(1, abs=0.05)  # of three values, and not too small
    order = random.permutation(len(star))
    again = median_and_scatter(values[order], star[order], 4001)
    np.testing.assert_array_equal(again[0], median)
    np.testing.assert_allclose(again[1], scatter)
    pairs = median_and_scatter(values[:8000], np.repeat(np.arange(4000), 2), 4000)[1]
    assert pairs.mean() == pytest.approx(1, abs=0.05)
    alone = median_and_scatter(np.array([3.0, np.nan]), np.array([0, 0]), 1)
    assert (alone[0][0], alone[1][0]) == (3.0, 0.0)
    assert median_and_scatter(np.full(7, -2.1), np.zeros(7, int), 1)[1][0] == 0.0
    with_outlier = median_and_scatter(np.array([0.0, 0.1, -0.1, 0.05, 50.0]), np.zeros(5, int), 1)
    assert with_outlier[0][0] == pytest.approx(0.05)


def test_saga_is_one_row_a_star(folder: Path, stars: Stars) -> None:
    read = read_catalogue("saga", folder / "saga.tsv")
    few = poor(stars)
    assert len(read) == len(few) - read.cuts[1].rows
    lines = (folder / "saga.tsv").read_text().splitlines()
    assert read.cuts[0].rows == sum(not line.startswith(("#", "Object")) for line in lines) - len(few)
    np.testing.assert_array_equal(read.epoch, 2000.0)
    star = nearest(read, few, 2000.0)
    assert len(np.unique(star)) == len(read)
    for i, (label, noise) in enumerate(zip(LABELS, (90, 0.19, 0.12, 0.08), strict=True)):
        residual = read.values[label] - few.labels[star, i]
        assert sigma(residual) == pytest.approx(noise, rel=0.35)
        assert np.isfinite(read.values[label]).mean() > 0.85
    pull = (read.values["feh"] - few.labels[star, 2]) / read.sigmas["feh"]
    assert 0.7 < sigma(pull) < 1.8  # errors of papers know nothing of their offsets
    assert (np.isfinite(read.values["alphafe"]) < 1).any()


def test_pastel_is_one_row_a_star(folder: Path, stars: Stars) -> None:
    read = read_catalogue("pastel", folder / "pastel.tsv")
    few = bright(stars)
    assert len(read) == len(few)
    np.testing.assert_array_equal(read.epoch, 2000.0)
    star = nearest(read, few, 2000.0)
    assert len(np.unique(star)) == len(read)
    known = np.isfinite(read.values["feh"])
    assert 0.5 < known.mean() < 0.9
    assert np.isfinite(read.values["teff"]).all()
    assert sigma(read.values["feh"] - few.labels[star, 2]) == pytest.approx(0.07, rel=0.3)
    assert set(read.labels) == {"teff", "logg", "feh"}


def nearest(read: Catalogue, stars: Stars, epoch: float) -> np.ndarray:
    """The star that each row is at; all rows lie on one."""
    from stores.stars import directions

    gap = np.linalg.norm(
        directions(read.ra, read.dec)[:, None] - directions(*stars.at(epoch))[None, :],
        axis=2,
    )
    assert np.degrees(gap.min(axis=1)).max() * 3600 < 0.01
    return gap.argmin(axis=1)


def test_saga_in_other_words(tmp_path: Path) -> None:
    lines = [
        "Object\tReference\tRA\tDecl.\tTeff\tlog g\t[Fe/H]\t[Mg/Fe]",
        "CS22892-052\tA\t22 17 01.66\t-16 39 27.1\t4700\t1.5\t\u22123.0\t0.3",
        "cs22892-052\tB\t22 17 01.66\t-16 39 27.1\t4800\t1.3\t-3.1\t<0.5",
        "HE0107-5240\tC\t01:09:29.16\t-52:24:34.2\t5100\t2.2\t-5.3\t",
        "HE0107-5240\tD\t01:09:29.16\t-52:24:34.2\t5100\t2.2\t-3.0\t",
        "Zero\tD\t00 00 04.0\t-00 30 00.0\t---\t\t-2.0\t0.1",
    ]
    (tmp_path / "saga.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    read = read_catalogue("saga", tmp_path / "saga.tsv")
    assert len(read) == 2  # one is discordant
    assert read.cuts[:2] == (
        Cut("several measurements of a star are one row", 2),
        Cut("measurements of [Fe/H] scatter by no more than 0.5 dex", 1),
    )
    where = np.argsort(read.values["feh"])
    np.testing.assert_allclose(read.values["feh"][where], [-3.05, -2.0])
    np.testing.assert_allclose(read.values["alphafe"][where], [0.3, 0.1])
    np.testing.assert_allclose(read.sigmas["feh"][where], [0.1 * np.sqrt(np.pi) / 2, np.nan])
    np.testing.assert_allclose(read.values["teff"][where], [4750, np.nan])
    np.testing.assert_allclose(read.ra[where], [15 * (22 + 17 / 60 + 1.66 / 3600), 4 / 240])
    np.testing.assert_allclose(read.dec[where], [-(16 + 39 / 60 + 27.1 / 3600), -0.5])
    assert len(read_catalogue("saga", tmp_path / "saga.tsv", off=["discordant"])) == 3


def test_pastel_as_fits_and_with_semicolons(tmp_path: Path) -> None:
    Table(
        {
            "ID": ["HD 1", "HD 1", "HD 2"],
            "_RA": [1.0, 1.0, 2.0],
            "_DE": [1.0, 1.0, 2.0],
            "Teff": [5000, 5100, 6000],
            "logg": [4.0, 4.2, np.nan],
            "__Fe_H_": [-1.0, -1.2, np.nan],
            "e__Fe_H_": [0.3, 0.5, np.nan],
        }
    ).write(tmp_path / "pastel.fits")
    text = "#VizieR\n\n_RA;_DE;ID;Teff;logg;[Fe/H];e_[Fe/H]\ndeg;deg; ;K; ; ;\n---;---;---;---;---;---;---\n"
    text += "1;1;HD 1;5000;4.0;-1.0;0.3\n1;1;HD  1;5100;4.2;-1.2;0.5\n2;2;HD 2;6000; ; ; \n"
    (tmp_path / "pastel.tsv").write_text(text)
    for name in ("pastel.fits", "pastel.tsv"):
        read = read_catalogue("pastel", tmp_path / name)
        np.testing.assert_allclose(read.values["feh"], [-1.1, np.nan])
        np.testing.assert_allclose(read.sigmas["feh"], [0.4, np.nan])  # larger than their scatter of 0.18
        np.testing.assert_allclose(read.values["teff"], [5050, 6000])
        np.testing.assert_allclose(read.ra, [1, 2])


def test_positions_that_disagree_are_unknown(tmp_path: Path) -> None:
    lines = [
        "Object\tRAdeg\tDECdeg\t[Fe/H]",
        "A\t10\t10\t-1",
        "A\t11\t10\t-1",
        "B\t20\t10\t-1",
        "B\t20\t10\t-1",
        "B\t29\t9\t-1",
    ]
    (tmp_path / "saga.tsv").write_text("\n".join(lines))
    read = read_catalogue("saga", tmp_path / "saga.tsv")
    np.testing.assert_allclose(read.ra, [np.nan, 20.0])
    assert read.cuts[1] == Cut("positions of a star disagree: taken as unknown", 1)


@real
def test_the_real_jinabase() -> None:
    read = read_catalogue("jinabase", JINABASE)
    assert [cut.rows for cut in read.cuts] == [2725, 40, 27]
    assert len(read) == 5037
    at = np.hypot((read.ra - 210.632701) * np.cos(np.radians(9.686)), read.dec - 9.686093) * 3600 < 5  # HD 122563
    assert at.sum() == 1
    star = int(np.flatnonzero(at)[0])
    assert read.values["feh"][star] == pytest.approx(-2.75, abs=0.1)
    assert read.values["teff"][star] == pytest.approx(4560, abs=80)
    assert read.values["alphafe"][star] == pytest.approx(0.45, abs=0.15)
    assert 0.03 < read.sigmas["feh"][star] < 0.2
    metal_poor = read.values["feh"] < -1.5
    assert np.nanmedian(read.values["alphafe"][metal_poor]) == pytest.approx(0.35, abs=0.08)
    assert (read.dec < 0).sum() > 2000
    assert np.nanmin(read.values["feh"]) > -8


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


def test_faults_of_files_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    cases = {
        "ragged.csv": ("id,feh\n1,2,3\n", "row 1 has 3 fields, not 2"),
        "empty.csv": ("id,feh\n", "has no rows"),
        "twice.csv": ("id,id\n1,2\n", "column names that differ"),
        "words.csv": ("id,feh\n1,rich\n", "column feh holds no numbers, but 'rich'"),
        "nothing.csv": ("id,name\n1,a\n", "gives no label"),
    }
    for name, (text, message) in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message) as error:
            read_catalogue("table", tmp_path / name)
        assert "\n" not in str(error.value)
        assert name in str(error.value)
    with pytest.raises(InputError, match="does not exist"):
        read_catalogue("table", tmp_path / "none.csv")
    (tmp_path / "noise.bin").write_bytes(bytes(100))
    with pytest.raises(InputError, match="no FITS, Parquet, ECSV, CSV or tab-separated table"):
        read_catalogue("table", tmp_path / "noise.bin")
    cut = tmp_path / "cut.fits"
    cut.write_bytes((folder / "allStar.fits").read_bytes())
    with pytest.raises(InputError, match="truncated"):
        read_catalogue("apogee", truncate(cut, 100_000))
    table = Table.read(write_allstar(tmp_path / "x.fits"))
    table.remove_column("SNR")
    table.write(tmp_path / "y.fits")
    with pytest.raises(InputError, match=r"y\.fits' has no column SNR \(it has RA, DEC"):
        read_catalogue("apogee", tmp_path / "y.fits")
    (tmp_path / "fake.parquet").write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(InputError, match="no Parquet table"):
        read_catalogue("table", tmp_path / "fake.parquet")


def test_large_tables_are_read_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_catalogue("desi_sp", folder / "mwsall.fits")
    monkeypatch.setattr("stores.catalogues.columns.PART_BYTES", 2**16)
    monkeypatch.setattr("stores.surveys.fits.PART_BYTES", 2**16)
    assert read_catalogue("desi_sp", folder / "mwsall.fits").fingerprint == whole.fingerprint
