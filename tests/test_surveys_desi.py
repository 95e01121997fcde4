import shutil

import numpy as np
import pytest
from astropy.io import fits
from files import BIG_ID, DATA, compress, truncate, write_desi_coadd

from stores.errors import InputError
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT
from stores.surveys import ReadOptions, get_survey

DESI = get_survey("desi")
OPTIONS = ReadOptions()


def test_values_equal_the_files(tmp_path):
    path = write_desi_coadd(tmp_path / "coadd-main-dark-1.fits", n=4)
    batch = DESI.read(path, OPTIONS)
    with fits.open(path) as file:
        for arm, name in zip(batch.arms, "BRZ", strict=True):
            np.testing.assert_array_equal(arm.flux, file[f"{name}_FLUX"].data)
            np.testing.assert_array_equal(arm.wavelength, file[f"{name}_WAVELENGTH"].data)
            np.testing.assert_array_equal(arm.ivar, 1.0)
            assert arm.flux.dtype.isnative
        np.testing.assert_array_equal(batch.ra, file["FIBERMAP"].data["TARGET_RA"])
    np.testing.assert_allclose(batch.rv, SPEED_OF_LIGHT * 1e-4 * np.arange(1, 5))
    assert not batch.flags.any()


def test_redshifts_are_joined_by_id(tmp_path):
    path = write_desi_coadd(
        tmp_path / "coadd-x.fits",
        n=6,
        seed=3,
        zwarn=[0, 4, 0, 0, 0, 0],
        spectype=["STAR", "STAR", "GALAXY", "STAR", "QSO", "STAR"],
    )
    batch = DESI.read(path, OPTIONS)
    with fits.open(tmp_path / "redrock-x.fits") as file:
        assert not np.array_equal(file["REDSHIFTS"].data["TARGETID"], batch.id)
    np.testing.assert_allclose(batch.rv, SPEED_OF_LIGHT * 1e-4 * np.arange(1, 7))
    np.testing.assert_array_equal(batch.flags & Flag.SURVEY_WARNING != 0, [0, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(batch.flags & Flag.NOT_A_STAR != 0, [0, 0, 1, 0, 1, 0])


def test_without_redrock_the_velocity_is_missing(tmp_path):
    batch = DESI.read(write_desi_coadd(tmp_path / "coadd-x.fits", redrock=False), OPTIONS)
    assert np.all(batch.flags == Flag.RV_MISSING)
    path = write_desi_coadd(tmp_path / "coadd-y.fits", ids=[7, 8])
    write_desi_coadd(tmp_path / "coadd-z.fits", ids=[8, 9])
    (tmp_path / "redrock-z.fits").rename(tmp_path / "redrock-y.fits")
    np.testing.assert_array_equal(DESI.read(path, OPTIONS).flags, [Flag.RV_MISSING, 0])


@pytest.mark.parametrize("sigma", [0.6, 0.9])
def test_width_is_the_second_moment(tmp_path, sigma):
    batch = DESI.read(write_desi_coadd(tmp_path / "coadd-x.fits", sigma=sigma), OPTIONS)
    for arm in batch.arms:
        np.testing.assert_allclose(arm.sigma, sigma, rtol=0.01)


def test_masked_pixels_and_objects_only(tmp_path):
    mask = np.zeros(201)
    mask[3] = 4
    path = write_desi_coadd(
        tmp_path / "coadd-x.fits",
        ids=[5, 6, 7, 8],
        objtype=["SKY", "TGT", "BAD", "TGT"],
        mask=mask,
        status=[1, 0, 1, 9],
    )
    batch = DESI.read(path, OPTIONS)
    np.testing.assert_array_equal(batch.id, [6, 8])
    np.testing.assert_array_equal(DESI.ids(path), batch.id)
    np.testing.assert_array_equal(batch.arms[1].ivar[:, 2:5], [[1, 0, 1]] * 2)
    np.testing.assert_array_equal(batch.flags, [0, Flag.SURVEY_WARNING])


def test_exposures_are_added_with_ivar_as_weights(tmp_path):
    flux = np.array([[2.0], [5.0], [4.0], [9.0]])
    ivar = np.array([[1.0], [1.0], [3.0], [0.0]])
    path = write_desi_coadd(tmp_path / "spectra-x.fits", ids=[9, 3, 9, 9], flux=flux, ivar=ivar, status=[0, 1, 3, 1])
    batch = DESI.read(path, OPTIONS)
    np.testing.assert_array_equal(batch.id, [9, 3])
    np.testing.assert_array_equal(batch.id, DESI.ids(path))
    np.testing.assert_allclose(batch.arms[0].flux[:, 0], [(2 + 3 * 4) / 4, 5.0])
    np.testing.assert_allclose(batch.arms[0].ivar[:, 0], [4.0, 1.0])
    np.testing.assert_allclose(batch.arms[0].sigma, 0.7, rtol=0.01)
    np.testing.assert_array_equal(batch.flags, [0, Flag.SURVEY_WARNING])  # 0 & 3 & 1 == 0
    part = DESI.read(path, OPTIONS, slice(1, 2))
    np.testing.assert_array_equal(part.id, [3])
    np.testing.assert_allclose(part.arms[0].flux, 5.0)


def test_a_bad_exposure_does_not_spoil_the_others(tmp_path):
    flux = np.array([[2.0], [np.nan]])
    batch = DESI.read(write_desi_coadd(tmp_path / "spectra-x.fits", ids=[9, 9], flux=flux), OPTIONS)
    np.testing.assert_allclose(batch.arms[0].flux, 2.0)
    assert batch.flags[0] == Flag.BAD_VALUES


@pytest.mark.parametrize("rows", [slice(0, 2), slice(2, 5), slice(3, 99), slice(None, None, 2), slice(2, 2)])
def test_rows_are_those_of_the_whole(tmp_path, rows):
    path = write_desi_coadd(tmp_path / "coadd-x.fits", n=6, objtype=["TGT", "SKY", "TGT", "TGT", "TGT", "TGT"])
    whole, part = DESI.read(path, OPTIONS), DESI.read(path, OPTIONS, rows)
    np.testing.assert_array_equal(part.id, whole.id[rows])
    np.testing.assert_array_equal(part.rv, whole.rv[rows])
    np.testing.assert_array_equal(part.arms[2].flux, whole.arms[2].flux[rows])


def test_a_missing_arm_is_flagged(tmp_path):
    path = write_desi_coadd(tmp_path / "coadd-x.fits", arms={"R": (5760.0, 5920.0)})
    batch = DESI.read(path, OPTIONS)
    assert len(batch.arms) == 1
    assert np.all(batch.flags == Flag.MISSING_ARM)


def test_dead_resolution_is_mended(tmp_path):
    path = write_desi_coadd(tmp_path / "coadd-x.fits", n=2)
    with fits.open(path, mode="update") as file:
        file["B_RESOLUTION"].data[0, :, 10:14] = 0
        file["R_RESOLUTION"].data[:] = 0
        file["Z_RESOLUTION"].data[1] = 0
    arms = DESI.read(path, OPTIONS).arms
    np.testing.assert_allclose(arms[0].sigma, 0.7, rtol=0.01)
    assert arms[1].sigma is None
    np.testing.assert_allclose(arms[2].sigma, 0.7, rtol=0.01)


def test_big_ids_gzip_and_bad_values(tmp_path):
    flux = np.full((2, 201), 3.0)
    flux[0, 5] = np.nan
    ivar = np.ones((2, 201))
    ivar[1, 6] = -1.0
    path = write_desi_coadd(tmp_path / "coadd-x.fits", ids=[BIG_ID, BIG_ID + 1], flux=flux, ivar=ivar)
    packed = compress(path)
    for file in (path, packed):
        batch = DESI.read(file, OPTIONS)
        assert [int(i) for i in batch.id] == [int(i) for i in DESI.ids(file)] == [BIG_ID, BIG_ID + 1]
        assert np.all(batch.flags == Flag.BAD_VALUES)
        assert batch.rv[0] != 0
        assert all(np.isfinite(arm.flux).all() and (arm.ivar >= 0).all() for arm in batch.arms)


@pytest.mark.parametrize("share", [0.0, 0.002, 0.02, 0.3, 0.6, 0.9, 0.98])
@pytest.mark.parametrize("gzipped", [False, True])
def test_truncated_files(tmp_path, share, gzipped):
    path = write_desi_coadd(tmp_path / "coadd-x.fits", redrock=False)
    path = compress(path) if gzipped else path
    truncate(path, int(share * path.stat().st_size))
    with pytest.raises(InputError, match=r"'.*coadd-x\.fits(\.gz)?'"):
        DESI.read(path, OPTIONS)


@pytest.mark.parametrize("hdu", ["FIBERMAP", "B_IVAR", "R_WAVELENGTH"])
def test_missing_hdu(tmp_path, hdu):
    path = write_desi_coadd(tmp_path / "coadd-x.fits", drop=(hdu,))
    with pytest.raises(InputError, match=rf"coadd-x\.fits' has no HDU {hdu}"):
        DESI.read(path, OPTIONS)


def test_no_objects_wrong_shape_and_bad_wavelength(tmp_path):
    with pytest.raises(InputError, match=r"coadd-x\.fits' holds no object"):
        DESI.ids(write_desi_coadd(tmp_path / "coadd-x.fits", n=2, objtype=["SKY", "SKY"]))
    for name, data in (("B_WAVELENGTH", np.full(201, 4000.0)), ("B_FLUX", np.ones((3, 201), "f4"))):
        path = write_desi_coadd(tmp_path / "coadd-x.fits", n=2)
        with fits.open(path, mode="update") as file:
            file[name].data = data
        with pytest.raises(InputError, match=r"coadd-x\.fits'"):
            DESI.read(path, OPTIONS)
    path = write_desi_coadd(tmp_path / "coadd-x.fits", arms={})
    with pytest.raises(InputError, match="none of the arms"):
        DESI.read(path, OPTIONS)


@pytest.mark.skipif(not (DATA / "desi").is_dir(), reason="needs the real files in shared/data/desi")
@pytest.mark.parametrize("name", ["coadd-4-80613-thru20210324", "coadd-sv3-dark-26065", "spectra-5-169-thru20210419"])
def test_real_files(tmp_path, name):
    path = DATA / "desi" / f"{name}.fits"
    batch = DESI.read(path, OPTIONS)
    np.testing.assert_array_equal(batch.id, DESI.ids(path))
    with fits.open(path) as file:
        objects = np.flatnonzero(file["FIBERMAP"].data["OBJTYPE"] == "TGT")
        np.testing.assert_array_equal(batch.id, file["FIBERMAP"].data["TARGETID"][objects])
        for arm, band in zip(batch.arms, "BRZ", strict=True):
            np.testing.assert_array_equal(arm.flux, file[f"{band}_FLUX"].data[objects])
            dead = (file[f"{band}_MASK"].data[objects] != 0) | (file[f"{band}_IVAR"].data[objects] == 0)
            np.testing.assert_array_equal(arm.ivar == 0, dead)
            power = arm.wavelength / (2.3548 * np.median(arm.sigma, axis=0))
            assert 1800 < power[10] < power[-10] < 6000
    packed = tmp_path / f"{name}.fits"
    shutil.copy(path, packed)
    np.testing.assert_array_equal(DESI.read(compress(packed), OPTIONS).arms[0].flux, batch.arms[0].flux)
    if name == "coadd-4-80613-thru20210324":
        assert batch.flags[0] == Flag.NOT_A_STAR | Flag.RV_ABSURD
