"""Simulated label catalogues: true layouts, the noise they are said to have, and rows that must not be believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from stores.errors import InputError
from stores.simulate.catalogues import write_apogee, write_mwsall, write_pastel, write_saga
from stores.simulate.emulator import Emulator
from stores.simulate.population import Stars, draw
from stores.velocities import Velocities

REAL_ALLSTAR = Path(__file__).resolve().parents[2] / "shared/data/catalogues/APOGEE-allStar-v603-Hipparcos.fits.gz"
STAR_BAD, CHI2_BAD, DUPLICATE = 1 << 23, 1 << 24, 1 << 4


@pytest.fixture(scope="module")
def stars() -> Stars:
    return draw(6000, 11, Emulator.load())


@pytest.fixture(scope="module")
def folder(stars: Stars, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogues")
    write_apogee(folder / "allStar.fits", stars, 1)
    write_mwsall(folder / "mwsall.fits", target_ids(stars), stars, 1)
    poor = stars.take(stars.labels[:, 2] < -1.5)
    write_saga(folder / "saga.tsv", poor, 1)
    write_pastel(folder / "pastel.tsv", stars.take(stars.gmag < 15), 1)
    return folder


def target_ids(stars: Stars) -> np.ndarray:
    return 2**62 + 1 + np.arange(len(stars))


def robust_sigma(values: np.ndarray) -> float:
    return float(np.diff(np.percentile(values, [15.865, 84.135]))[0] / 2)


# -- APOGEE ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def allstar(folder: Path) -> fits.FITS_rec:
    return fits.getdata(folder / "allStar.fits", 1)


def test_apogee_columns_are_those_of_allstar(allstar: fits.FITS_rec) -> None:
    needed = "APOGEE_ID GAIAEDR3_SOURCE_ID RA DEC TEFF TEFF_ERR LOGG LOGG_ERR FE_H FE_H_ERR FE_H_FLAG M_H ALPHA_M "
    needed += "ALPHA_M_ERR MG_FE MG_FE_ERR ASPCAPFLAG STARFLAG EXTRATARG SNR VHELIO_AVG"
    assert set(needed.split()) == set(allstar.names)
    if not REAL_ALLSTAR.exists():
        pytest.skip("the shared APOGEE allStar file is not on this machine")
    real = fits.getdata(REAL_ALLSTAR, 1)
    for name in ("APOGEE_ID", "RA", "DEC", "TEFF", "FE_H", "FE_H_ERR", "FE_H_FLAG", "SNR", "VHELIO_AVG"):
        assert allstar[name].dtype.kind == real[name].dtype.kind, name
    name = str(real["APOGEE_ID"][0])
    assert {len(name), name[:2]} == {len(allstar["APOGEE_ID"][0]), allstar["APOGEE_ID"][0][:2]}


def test_apogee_names_are_positions(folder: Path, stars: Stars) -> None:
    from stores.simulate.catalogues.apogee import designations

    # the name and the position of a star of the real catalogue
    assert designations(np.array([0.128669988]), np.array([59.55968094]))[0] == "2M00003088+5933348"
    assert designations(np.array([359.99999]), np.array([-0.5]))[0] == "2M23595999-0030000"
    data = fits.getdata(folder / "allStar.fits", 1)
    assert np.array_equal(data["GAIAEDR3_SOURCE_ID"][: len(stars)], stars.id)


def test_apogee_gives_nothing_below_minus_two(allstar: fits.FITS_rec, stars: Stars) -> None:
    feh = stars.labels[:, 2]
    measured = allstar["FE_H"][: len(stars)]
    assert np.nanmin(measured) >= -2.0
    bright = (allstar["SNR"][: len(stars)] > 50) & ((allstar["ASPCAPFLAG"][: len(stars)] & CHI2_BAD) == 0)
    assert np.isnan(measured[bright & (feh < -2.3)]).all()
    assert np.isfinite(measured[bright & (feh > -1.7)]).all()
    none = np.isnan(allstar["FE_H"])
    assert ((allstar["ASPCAPFLAG"][none] & STAR_BAD) > 0).all()
    assert (allstar["FE_H_FLAG"][none] == 1).all()
    assert np.isnan(allstar["TEFF"][none]).all()
    assert (allstar["FE_H_FLAG"][~none] == 0).all()


def test_apogee_labels_are_as_good_as_flagged(allstar: fits.FITS_rec, stars: Stars) -> None:
    star = allstar[: len(stars)]
    truth, bad = stars.labels, (star["ASPCAPFLAG"] & STAR_BAD) > 0
    good = ~bad & (star["SNR"] > 50)
    residual = star["FE_H"] - truth[:, 2]
    assert robust_sigma(residual[good]) == pytest.approx(0.037, abs=0.008)
    assert robust_sigma((star["TEFF"] - truth[:, 0])[good]) == pytest.approx(60, abs=15)
    wrong = bad & np.isfinite(residual) & (star["SNR"] > 50)
    assert wrong.mean() > 0.005
    assert robust_sigma(residual[wrong]) > 2 * robust_sigma(residual[good])
    alphafe = star["ALPHA_M"][good & (np.abs(truth[:, 2] + 0.45) < 0.15) & (stars.component < 2)]
    count = np.histogram(alphafe, np.arange(0, 0.37, 0.04))[0]
    assert count[4] < 0.7 * min(count[:4].max(), count[4:].max())  # both discs are still to be seen
    assert np.abs(star["VHELIO_AVG"] - stars.rv).std() < 0.2


def test_apogee_repeats_stars(allstar: fits.FITS_rec) -> None:
    extra = (allstar["EXTRATARG"] & DUPLICATE) > 0
    assert 0.03 < extra.mean() < 0.07
    assert len(np.unique(allstar["GAIAEDR3_SOURCE_ID"])) == len(allstar) - extra.sum()
    main = dict(zip(allstar["APOGEE_ID"][~extra], allstar["SNR"][~extra], strict=True))
    assert all(snr <= main[i] for i, snr in zip(allstar["APOGEE_ID"][extra], allstar["SNR"][extra], strict=True))


# -- DESI --------------------------------------------------------------------------------------------------


def test_mwsall_is_row_matched(folder: Path, stars: Stars) -> None:
    with fits.open(folder / "mwsall.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "RVTAB", "SPTAB", "FIBERMAP", "SCORES", "GAIA"]
        for name in ("RVTAB", "SPTAB", "FIBERMAP", "SCORES"):
            assert hdus[name].data["TARGETID"].dtype.kind == "i"
            assert np.array_equal(hdus[name].data["TARGETID"], target_ids(stars))
        assert np.array_equal(hdus["GAIA"].data["SOURCE_ID"], stars.id)
        assert hdus["SPTAB"].data["COVAR"].shape == (len(stars), 5, 5)
        needed = "VRAD VRAD_ERR TEFF LOGG FEH ALPHAFE VSINI RVS_WARN SN_B SN_R SN_Z RR_SPECTYPE TARGETID"
        assert set(needed.split()) <= set(hdus["RVTAB"].columns.names)
        needed = "TEFF LOGG FEH ALPHAFE COVAR SNR_MED CHISQ_TOT BESTGRID SUCCESS"
        assert set(needed.split()) <= set(hdus["SPTAB"].columns.names)
        gaia = hdus["GAIA"].data
        pull = (gaia["PARALLAX"] - stars.parallax) / gaia["PARALLAX_ERROR"]
        assert pull.std() == pytest.approx(1, abs=0.05)


def test_velocities_are_read_from_mwsall(folder: Path, stars: Stars, capsys: pytest.CaptureFixture[str]) -> None:
    table = fits.getdata(folder / "mwsall.fits", "RVTAB")
    warn = table["RVS_WARN"] != 0
    assert 0.02 < warn.mean() < 0.04
    assert np.median(np.abs(table["VRAD"] - stars.rv)[warn]) > 100
    velocities = Velocities.read(folder / "mwsall.fits")
    rv = velocities.lookup(target_ids(stars), np.full(len(stars), np.nan))
    residual = rv - stars.rv
    assert np.isnan(residual[warn]).all()
    assert 1.0 < robust_sigma(residual[~warn]) < 4.0
    assert np.abs(residual[~warn]).max() < 100
    np.testing.assert_array_equal(velocities.warns_of(target_ids(stars)), warn)
    velocities.tell_joined([target_ids(stars)])
    assert f"{warn.sum()} of {len(stars)} velocities" in capsys.readouterr().err


def test_sp_pipeline_is_worse_and_biased_for_poor_stars(tmp_path: Path) -> None:
    fractions = {"thin": 0.35, "thick": 0.35, "metal_poor": 0.3}
    stars = draw(12_000, 12, Emulator.load(), fractions=fractions)
    write_mwsall(tmp_path / "x.fits", target_ids(stars), stars, 1, snr=np.full((len(stars), 3), 40.0))
    rv, sp = (fits.getdata(tmp_path / "x.fits", name) for name in ("RVTAB", "SPTAB"))
    feh, alphafe = stars.labels[:, 2:4].T
    good = (sp["SUCCESS"] == 1) & (sp["BESTGRID"] != "s_rdesi1") & (rv["RVS_WARN"] == 0)
    rich, poor = good & (feh > -0.5), good & (np.abs(feh + 2.5) < 0.25)
    residual = sp["FEH"] - feh
    assert robust_sigma(residual[rich]) == pytest.approx(0.15, rel=0.05)
    assert robust_sigma(residual[poor]) == pytest.approx(0.35, rel=0.12)
    assert np.median(residual[rich]) == pytest.approx(0, abs=0.01)
    assert np.median(residual[poor]) == pytest.approx(0.20, abs=0.04)
    assert robust_sigma((rv["FEH"] - feh)[rich]) == pytest.approx(0.08, rel=0.05)
    assert robust_sigma((rv["FEH"] - feh)[poor]) == pytest.approx(0.144, rel=0.12)
    discs = good & (np.abs(feh + 0.45) < 0.15) & (stars.component < 2)
    thick = stars.component[discs] == 1

    def separation(values: np.ndarray) -> float:
        here = values[discs]
        return (np.median(here[thick]) - np.median(here[~thick])) / robust_sigma(here[thick])

    assert separation(alphafe) > 4  # two sequences in truth
    assert separation(sp["ALPHAFE"]) < 1  # one cloud in the pipeline
    lost = (sp["SUCCESS"] == 0) | (sp["BESTGRID"] == "s_rdesi1")
    assert 0.04 < lost.mean() < 0.08
    assert robust_sigma(residual[lost]) > 1.0


def test_mwsall_takes_the_spectra_s_own_snr(stars: Stars, tmp_path: Path) -> None:
    few = stars.take(slice(50))
    snr = np.linspace(5, 100, 150).reshape(50, 3)
    write_mwsall(tmp_path / "x.fits", np.arange(50), few, 1, snr=snr)
    table = fits.getdata(tmp_path / "x.fits", "RVTAB")
    assert table["SN_R"] == pytest.approx(snr[:, 1])
    assert (np.diff(table["VRAD_ERR"] / (1 + 1.5 * np.clip((-0.5 - few.labels[:, 2]) / 2, 0, None))) < 0).all()
    assert len(Velocities.read(tmp_path / "x.fits").ids) == 50


def test_ids_that_do_not_fit_are_refused(stars: Stars, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"49 target ids .* do not fit 50 stars"):
        write_mwsall(tmp_path / "x.fits", np.arange(49), stars.take(slice(50)), 1)
    with pytest.raises(InputError, match=r"S/N of shape \(50, 2\)"):
        write_mwsall(tmp_path / "x.fits", np.arange(50), stars.take(slice(50)), 1, snr=np.ones((50, 2)))
    assert not (tmp_path / "x.fits").exists()


# -- literature --------------------------------------------------------------------------------------------


def by_star(names: np.ndarray, star_of: Callable[[str], int]) -> np.ndarray:
    return np.array([star_of(str(name)) for name in names])


def test_saga_holds_papers_that_disagree(folder: Path, stars: Stars) -> None:
    table = Table.read(folder / "saga.tsv", format="ascii.csv", delimiter="\t", comment="#")
    names = ["Object", "Reference", "RAdeg", "DECdeg", "Teff", "log g", "Vturb", "[Fe/H]", "d(Fe)", "[Mg/H]", "d(Mg)"]
    assert table.colnames == names
    poor = stars.take(stars.labels[:, 2] < -1.5)
    star = by_star(table["Object"], lambda name: int(name.removeprefix("SIM")))
    assert set(star) == set(range(len(poor)))
    assert 1.7 < len(table) / len(poor) < 2.2
    assert len({*zip(star, table["Reference"], strict=True)}) == len(table)  # a paper has a star once
    residual = np.array(table["[Fe/H]"]) - poor.labels[star, 2]
    offsets = [np.median(residual[table["Reference"] == paper]) for paper in np.unique(table["Reference"])]
    assert len(offsets) == 8
    assert 0.05 < np.std(offsets) < 0.18
    assert 0.09 < residual.std() < 0.20
    assert 0.1 < np.ma.getmaskarray(table["[Mg/H]"]).mean() < 0.2
    _, dec = poor.at(2000.0)
    assert np.array(table["DECdeg"]) == pytest.approx(dec[star], abs=1e-6)


def test_pastel_is_laid_out_as_by_vizier(folder: Path, stars: Stars) -> None:
    lines = [line for line in (folder / "pastel.tsv").read_text().splitlines() if line and not line.startswith("#")]
    names, units, dashes = (line.split("\t") for line in lines[:3])
    assert " ".join(names) == "_RAJ2000 _DEJ2000 ID Teff e_Teff logg e_logg [Fe/H] e_[Fe/H] bibcode"
    assert units[3] == "K"
    assert all(set(field) == {"-"} for field in dashes)
    rows = [line.split("\t") for line in lines[3:]]
    assert {len(row) for row in rows} == {10}
    assert {tuple(map(len, row)) for row in rows} == {tuple(map(len, dashes))}  # fields of fixed width
    bright = stars.take(stars.gmag < 15)
    star = np.array([int(row[2].split()[1]) for row in rows])
    assert set(star) == set(range(len(bright)))
    feh = np.array([float(row[7]) if row[7].strip() else np.nan for row in rows])
    assert 0.3 < np.isnan(feh).mean() < 0.4
    assert {bool(row[5].strip()) == bool(row[7].strip()) for row in rows} == {True}
    for value, error in ((3, 4), (5, 6), (7, 8)):
        assert all(row[value].strip() for row in rows if row[error].strip())
        assert np.mean([not row[error].strip() for row in rows if row[value].strip()]) == pytest.approx(0.4, abs=0.06)
    residual = feh - bright.labels[star, 2]
    assert 0.06 < np.nanstd(residual) < 0.14
    assert {len(row[9]) for row in rows} == {19}


# -- all ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", [write_apogee, write_saga, write_pastel], ids=lambda writer: writer.__name__)
def test_text_of_origin_and_seed(writer: Callable, stars: Stars, tmp_path: Path) -> None:
    few = stars.take(slice(40))
    for name, seed in (("a.fits", 1), ("b.fits", 1), ("c.fits", 2)):
        writer(tmp_path / name, few, seed)
    a, b, c = ((tmp_path / f"{name}.fits").read_bytes() for name in "abc")

    def body(content: bytes) -> bytes:
        """Without what differs from second to second."""
        if content.startswith(b"SIMPLE"):
            return content[-2880:]
        return b"\n".join(line for line in content.split(b"\n") if not line.startswith(b"#"))

    assert body(a) == body(b) != body(c)
    head = a[:5760].decode("ascii")
    for word in ("simulated", "SEED", "VERSION", "COMMAND", "CREATED", "COMMIT"):
        assert word in head
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fits", "b.fits", "c.fits"]


def test_mwsall_says_where_it_comes_from(folder: Path) -> None:
    header = fits.getheader(folder / "mwsall.fits")
    assert header["CONTENT"] == "simulated stars in the layout of DESI mwsall-pix"
    assert {"SEED", "VERSION", "COMMIT", "COMMAND", "CREATED"} <= set(header)
