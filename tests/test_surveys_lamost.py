import numpy as np
import pytest
from astropy.io import fits
from files import BIG_ID, DATA, compress, truncate, write_lamost

from stores.errors import InputError
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT
from stores.surveys import ReadOptions, get_survey

LAMOST = get_survey("lamost")
OPTIONS = ReadOptions()
LAYOUTS = ["table", "image", "pilot"]
GRID = 10.0 ** (3.602 + 1e-4 * np.arange(400))


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout, gzipped):
    flux = np.linspace(1, 2, 400).astype("f4")
    andmask = np.zeros(400)
    andmask[7] = 1
    path = write_lamost(tmp_path / "spec-1.fits", layout, flux=flux, andmask=andmask, z=-2e-4)
    path = compress(path) if gzipped else path
    batch = LAMOST.read(path, OPTIONS)
    np.testing.assert_array_equal(batch.flux[0], flux)
    np.testing.assert_allclose(batch.wavelength, GRID, rtol=1e-7)
    np.testing.assert_array_equal(np.flatnonzero(batch.ivar[0] == 0), [7])
    np.testing.assert_allclose(batch.arms[0].sigma, GRID / 1800 / 2.3548, rtol=1e-4)
    assert (batch.id[0], batch.ra[0], batch.dec[0], batch.flags[0]) == (101017, 99.5, 27.25, 0)
    assert LAMOST.ids(path)[0] == 101017
    np.testing.assert_allclose(batch.rv, -2e-4 * SPEED_OF_LIGHT)
    assert len(LAMOST.read(path, OPTIONS, slice(1, 2))) == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_big_and_packed_ids(tmp_path, layout):
    path = write_lamost(tmp_path / "a.fits", layout, obsid=BIG_ID)
    assert int(LAMOST.ids(path)[0]) == int(LAMOST.read(path, OPTIONS).id[0]) == BIG_ID
    packed = {}
    for obsid, plan in ((None, "B6212"), (-28762, "B6212"), (0, "B6212"), (None, "B6213")):
        path = write_lamost(tmp_path / "a.fits", layout, obsid=obsid, PLANID=plan)
        packed[obsid, plan] = int(LAMOST.ids(path)[0])
        assert packed[obsid, plan] == int(LAMOST.read(path, OPTIONS).id[0])
        assert packed[obsid, plan] // 10**13 == 55862
        assert packed[obsid, plan] % 10**5 == 6005
    assert packed[None, "B6212"] == packed[-28762, "B6212"] == packed[0, "B6212"] != packed[None, "B6213"]


def test_velocity_and_class(tmp_path):
    assert LAMOST.read(write_lamost(tmp_path / "a.fits", z=-9999.0), OPTIONS).flags[0] == Flag.RV_MISSING
    batch = LAMOST.read(write_lamost(tmp_path / "a.fits", z=0.5, CLASS="GALAXY"), OPTIONS)
    assert batch.flags[0] == Flag.RV_ABSURD | Flag.NOT_A_STAR


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("card", ["FIBERMAS", "FIB_MASK"])
@pytest.mark.parametrize(("mask", "flag"), [(0, 0), (2, Flag.SURVEY_WARNING), (-1, Flag.SURVEY_WARNING), ("", 0)])
def test_warnings_of_the_fibre_are_flagged(tmp_path, layout, card, mask, flag):
    batch = LAMOST.read(write_lamost(tmp_path / "a.fits", layout, **{card: mask}), OPTIONS)
    assert batch.flags[0] == flag
    np.testing.assert_array_equal(batch.ivar, 1.0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bad_values_are_masked(tmp_path, layout):
    flux, ivar = np.ones(400), np.ones(400)
    flux[3], ivar[4], ivar[5] = np.nan, -1.0, np.inf
    batch = LAMOST.read(write_lamost(tmp_path / "a.fits", layout, flux=flux, ivar=ivar), OPTIONS)
    assert batch.flags[0] == Flag.BAD_VALUES
    np.testing.assert_array_equal(np.flatnonzero(batch.ivar[0] == 0), [3, 4, 5])
    assert np.isfinite(batch.flux).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6, 0.8])
@pytest.mark.parametrize("gzipped", [False, True])
def test_truncated_files(tmp_path, layout, share, gzipped):
    path = write_lamost(tmp_path / "a.fits", layout)
    path = compress(path) if gzipped else path
    truncate(path, int(share * path.stat().st_size))
    with pytest.raises(InputError, match=r"'.*a\.fits(\.gz)?'.*\.$"):
        LAMOST.read(path, OPTIONS)


@pytest.mark.parametrize("wavelength", [np.full(400, 5000.0), GRID[::-1]])
def test_wavelength_that_does_not_rise(tmp_path, wavelength):
    with pytest.raises(InputError, match=r"a\.fits': wavelength does not rise"):
        LAMOST.read(write_lamost(tmp_path / "a.fits", wavelength=wavelength), OPTIONS)


def test_faulty_files(tmp_path):
    path = tmp_path / "a.fits"
    with pytest.raises(InputError, match=r"a\.fits' does not exist"):
        LAMOST.read(path, OPTIONS)
    for content in (b"", b"not FITS at all", b"\x1f\x8bnot gzip"):
        path.write_bytes(content)
        for look in (LAMOST.ids, lambda p: LAMOST.read(p, OPTIONS)):
            with pytest.raises(InputError, match=r"a\.fits'"):
                look(path)
    with pytest.raises(InputError, match=r"a\.fits' has no column IVAR in HDU COADD"):
        LAMOST.read(write_lamost(path, drop=("IVAR",)), OPTIONS)
    with pytest.raises(InputError, match=r"a\.fits'.*neither HDU COADD nor"):
        LAMOST.read(write_lamost(path, "image", drop=("ORMASK", "ANDMASK")), OPTIONS)
    fits.PrimaryHDU().writeto(path, overwrite=True)
    with pytest.raises(InputError, match=r"a\.fits'"):
        LAMOST.ids(path)


REAL = sorted((DATA / "lamost_formats").glob("*/*.fits*")) + sorted((DATA / "lamost/fits").glob("*"))[::40]


@pytest.mark.skipif(not REAL, reason="needs the real files in shared/data/lamost_formats and lamost")
def test_real_files():
    seen = set()
    for path in REAL:
        batch = LAMOST.read(path, OPTIONS)
        assert batch.id[0] == LAMOST.ids(path)[0]
        seen.add(int(batch.id[0]))
        with fits.open(path) as file:
            image = file[0].data is not None
            flux = file[0].data[0] if image else file[1].data["FLUX"][0]
            ivar = file[0].data[1] if image else file[1].data["IVAR"][0]
            header = file[0].header
            np.testing.assert_array_equal(batch.flux[0], flux)
            np.testing.assert_array_equal(batch.ivar[0], ivar)  # ANDMASK is applied in all of them
            fitted = 10.0 ** (header["COEFF0"] + header["COEFF1"] * np.arange(len(flux)))
            np.testing.assert_allclose(batch.wavelength, fitted, atol=0.05)
            np.testing.assert_allclose(batch.rv, SPEED_OF_LIGHT * header["Z"])
            if header.get("OBSID", -1) > 0:
                assert batch.id[0] == header["OBSID"]
        mask = header.get("FIBERMAS", header.get("FIB_MASK", 0))
        assert batch.flags[0] == (Flag.SURVEY_WARNING if mask else 0)
    assert len(seen) >= len(REAL) - 3  # some files were handed on twice


@pytest.mark.skipif(not REAL, reason="needs the real files in shared/data/lamost_formats and lamost")
@pytest.mark.parametrize(("release", "warned"), [("dr5_image_gz", 3), ("dr6_image_gz", 1), ("dr7_image", 0)])
def test_real_fibre_masks(release, warned):
    flags = [LAMOST.read(path, OPTIONS).flags[0] for path in REAL if path.parent.name == release]
    assert flags.count(Flag.SURVEY_WARNING) == warned
