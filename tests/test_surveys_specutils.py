import sys

import numpy as np
import pytest
from astropy.io import fits
from files import BIG_ID, DATA, truncate, write_desi_coadd, write_fits1d

from stores.errors import InputError, OptionError
from stores.flags import Flag
from stores.surveys import ReadOptions, get_survey
from stores.surveys.air import air_to_vacuum

pytest.importorskip("specutils", reason="needs the extra spectrabridge[specutils]")

SPECUTILS = get_survey("specutils")
OPTIONS = ReadOptions()


def test_an_image(tmp_path):
    path = write_fits1d(tmp_path / "star7.fits", OBSID=BIG_ID, CUNIT1="Angstrom", CTYPE1="WAVE")
    batch = SPECUTILS.read(path, OPTIONS)
    assert int(batch.id[0]) == int(SPECUTILS.ids(path)[0]) == BIG_ID
    with fits.open(path) as file:
        np.testing.assert_array_equal(batch.flux[0], file[0].data)
    np.testing.assert_allclose(batch.wavelength, 4000.0 + 0.9 * np.arange(400))
    np.testing.assert_allclose(SPECUTILS.read(path, ReadOptions("air")).wavelength, air_to_vacuum(batch.wavelength))
    assert batch.flags[0] == Flag.RV_MISSING | Flag.NO_COORDINATES | Flag.NO_ERRORS
    assert SPECUTILS.read(path, ReadOptions(at_rest=True)).flags[0] & Flag.RV_MISSING == 0


@pytest.mark.parametrize("kind", ["StdDevUncertainty", "VarianceUncertainty", "InverseVariance"])
def test_uncertainties_masks_and_units(monkeypatch, tmp_path, kind):
    from astropy import nddata, units
    from specutils import Spectrum, SpectrumList

    flux = np.linspace(1, 2, 10)
    flux[4] = np.nan
    values = {"StdDevUncertainty": 0.5, "VarianceUncertainty": 0.25, "InverseVariance": 4.0}[kind]
    spectrum = Spectrum(
        flux=flux * units.Jy,
        spectral_axis=np.linspace(500, 400, 10) * units.nm,
        uncertainty=getattr(nddata, kind)(np.full(10, values)),
        mask=np.arange(10) == 2,
    )
    path = tmp_path / "star7.txt"
    path.write_text("anything")
    monkeypatch.setattr(SpectrumList, "read", lambda path: [spectrum])
    batch = SPECUTILS.read(path, OPTIONS)
    np.testing.assert_allclose(batch.wavelength, np.linspace(4000, 5000, 10))
    np.testing.assert_allclose(batch.flux[0, -1], 1.0)
    np.testing.assert_allclose(batch.ivar[0, ::-1], np.where(np.isin(np.arange(10), [2, 4]), 0.0, 4.0))
    assert batch.flags[0] & Flag.BAD_VALUES
    monkeypatch.setattr(SpectrumList, "read", lambda path: [spectrum, spectrum])
    with pytest.raises(InputError, match=r"star7\.txt': it holds 2 spectra"):
        SPECUTILS.read(path, OPTIONS)


def test_faulty_files(tmp_path):
    path = tmp_path / "star7.fits"
    for content in (b"", b"nothing"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"star7\.fits'"):
            SPECUTILS.read(path, OPTIONS)
    truncate(write_fits1d(path), 4000)
    with pytest.raises(InputError, match=r"star7\.fits'"):
        SPECUTILS.read(path, OPTIONS)
    with pytest.raises(InputError, match="coadd-x"):
        SPECUTILS.read(write_desi_coadd(tmp_path / "coadd-x.fits"), OPTIONS)


def test_without_specutils_the_extra_is_named(tmp_path, monkeypatch):
    path = write_fits1d(tmp_path / "star7.fits")
    monkeypatch.setitem(sys.modules, "specutils", None)
    with pytest.raises(OptionError, match=r"pip install 'spectrabridge\[specutils\]'"):
        SPECUTILS.read(path, OPTIONS)


@pytest.mark.skipif(not (DATA / "desi").is_dir(), reason="needs the real files in shared/data")
def test_real_files():
    path = DATA / "desi/coadd-4-80613-thru20210324.fits"
    batch, ours = SPECUTILS.read(path, OPTIONS), get_survey("desi").read(path, OPTIONS)
    for arm, expected in zip(batch.arms, ours.arms, strict=True):
        np.testing.assert_allclose(arm.flux, expected.flux, rtol=1e-6)  # a float32 unit conversion
        np.testing.assert_allclose(arm.ivar, expected.ivar, rtol=1e-6)
        np.testing.assert_array_equal(arm.wavelength, expected.wavelength)
    path = DATA / "sdss/spec-0266-51602-0031.fits"
    batch, ours = SPECUTILS.read(path, OPTIONS), get_survey("sdss").read(path, OPTIONS)
    np.testing.assert_array_equal(batch.flux, ours.flux)
    np.testing.assert_allclose(batch.wavelength, ours.wavelength, rtol=1e-6)
