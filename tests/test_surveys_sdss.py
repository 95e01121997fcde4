import numpy as np
import pytest
from astropy.io import fits
from files import DATA, compress, truncate, write_sdss

from stores.errors import InputError
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT
from stores.surveys import ReadOptions, get_survey

SDSS = get_survey("sdss")
OPTIONS = ReadOptions()
NAME = "spec-0266-51602-0031.fits"


@pytest.mark.parametrize("gzipped", [False, True])
def test_values(tmp_path, gzipped):
    and_mask = np.zeros(400)
    and_mask[9] = 2**23
    path = write_sdss(tmp_path / NAME, and_mask=and_mask, z=-1e-4)
    path = compress(path) if gzipped else path
    batch = SDSS.read(path, OPTIONS)
    np.testing.assert_allclose(batch.wavelength, 10.0 ** (3.602 + 1e-4 * np.arange(400)), rtol=1e-6)
    np.testing.assert_allclose(batch.flux[0], 20.0 + np.sin(np.arange(400)), rtol=1e-6)
    np.testing.assert_array_equal(np.flatnonzero(batch.ivar[0] == 0), [9])
    np.testing.assert_allclose(batch.arms[0].sigma, 1.2e-4 * np.log(10) * batch.wavelength, rtol=1e-6)
    assert (batch.id[0], batch.ra[0], batch.dec[0], batch.flags[0]) == (266_51602_0031, 147.25, -0.5, 0)
    assert SDSS.ids(path)[0] == batch.id[0]
    np.testing.assert_allclose(batch.rv, -1e-4 * SPEED_OF_LIGHT, rtol=1e-6)


def test_ids(tmp_path):
    assert SDSS.ids(write_sdss(tmp_path / "a.fits", plate=15000, mjd=59000, fibre=1000))[0] == 15000_59000_1000
    path = write_sdss(tmp_path / NAME, drop=("ids",))
    assert SDSS.ids(path)[0] == SDSS.read(path, OPTIONS).id[0] == 266_51602_0031
    with pytest.raises(InputError, match=r"a\.fits': neither the header"):
        SDSS.ids(write_sdss(tmp_path / "a.fits", drop=("ids",)))
    with pytest.raises(InputError, match=r"a\.fits'.*out of range"):
        SDSS.ids(write_sdss(tmp_path / "a.fits", fibre=10000))


def test_flags_and_bad_values(tmp_path):
    batch = SDSS.read(write_sdss(tmp_path / NAME, zwarning=4, kind="QSO"), OPTIONS)
    assert batch.flags[0] == Flag.SURVEY_WARNING | Flag.NOT_A_STAR
    assert SDSS.read(write_sdss(tmp_path / NAME, z=np.nan), OPTIONS).flags[0] == Flag.RV_MISSING
    flux, wdisp = np.ones(400), np.full(400, 1.2)
    flux[5], wdisp[6] = np.nan, 0.0
    batch = SDSS.read(write_sdss(tmp_path / NAME, flux=flux, wdisp=wdisp), OPTIONS)
    assert batch.flags[0] == Flag.BAD_VALUES
    assert np.isfinite(batch.flux).all()
    np.testing.assert_allclose(batch.arms[0].sigma, 1.2e-4 * np.log(10) * batch.wavelength, rtol=1e-5)
    assert SDSS.read(write_sdss(tmp_path / NAME, wdisp=0.0), OPTIONS).arms[0].sigma is None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.7, 0.85])
@pytest.mark.parametrize("gzipped", [False, True])
def test_truncated_files(tmp_path, share, gzipped):
    path = write_sdss(tmp_path / NAME)
    path = compress(path) if gzipped else path
    truncate(path, int(share * path.stat().st_size))
    with pytest.raises(InputError, match=r"'.*spec-0266-51602-0031\.fits(\.gz)?'"):
        SDSS.read(path, OPTIONS)


def test_faulty_files(tmp_path):
    with pytest.raises(InputError, match="has no column ivar in HDU COADD"):
        SDSS.read(write_sdss(tmp_path / NAME, drop=("ivar",)), OPTIONS)
    with pytest.raises(InputError, match="has no HDU COADD"):
        SDSS.read(write_sdss(tmp_path / NAME, drop=("COADD",)), OPTIONS)
    with pytest.raises(InputError, match="has no HDU SPALL or SPECOBJ"):
        SDSS.read(write_sdss(tmp_path / NAME, drop=("SPECOBJ",)), OPTIONS)
    for loglam in (np.full(400, 3.7), 3.7 - 1e-4 * np.arange(400)):
        with pytest.raises(InputError, match=r"0031\.fits': wavelength does not rise"):
            SDSS.read(write_sdss(tmp_path / NAME, loglam=loglam), OPTIONS)


@pytest.mark.skipif(not (DATA / "sdss").is_dir(), reason="needs the real files in shared/data/sdss")
def test_real_files():
    for path in sorted((DATA / "sdss").glob("*.fits")):
        batch = SDSS.read(path, OPTIONS)
        assert batch.id[0] == SDSS.ids(path)[0]
        assert batch.id[0] == int("".join((path.name[5:9], path.name[10:15], path.name[16:20])))
        with fits.open(path) as file:
            coadd, about = file[1].data, file[2].data
            np.testing.assert_array_equal(batch.flux[0], coadd["flux"])
            np.testing.assert_array_equal(batch.ivar[0], np.where(coadd["and_mask"] != 0, 0, coadd["ivar"]))
            assert batch.ra[0] == about["PLUG_RA"][0]
            star = about["CLASS"][0] == "STAR"
            assert batch.flags[0] == (0 if star else Flag.NOT_A_STAR | Flag.RV_ABSURD)
            np.testing.assert_allclose(batch.rv, SPEED_OF_LIGHT * about["Z"][0] if star else 0.0, rtol=1e-6)
