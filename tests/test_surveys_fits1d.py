import numpy as np
import pytest
from astropy.io import fits
from files import BIG_ID, DATA, compress, truncate, write_fits1d

from stores.errors import InputError
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT
from stores.surveys import ReadOptions, get_survey
from stores.surveys.air import air_to_vacuum, vacuum_to_air
from stores.surveys.noise import estimate_ivar

FITS1D = get_survey("fits1d")
VACUUM = ReadOptions(medium="vacuum")
LINEAR = 4000.0 + 0.9 * np.arange(400)
LOG = 10.0 ** (3.602 + 1e-4 * np.arange(400))


def test_air_and_vacuum():
    vacuum = np.linspace(3000.0, 11000.0, 1001)
    np.testing.assert_allclose(air_to_vacuum(vacuum_to_air(vacuum)), vacuum, atol=1e-5)
    # H alpha as listed by SDSS (vacuum) and in Moore's tables (air)
    np.testing.assert_allclose(vacuum_to_air([6564.61, 4862.68]), [6562.80, 4861.33], atol=0.02)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, LINEAR),
        ({"CRPIX1": 11}, LINEAR - 9.0),
        ({"CDELT1": None, "CD1_1": 0.9}, LINEAR),
        ({"CRVAL1": 400.0, "CDELT1": 0.09, "CUNIT1": "nm"}, LINEAR),
        ({"CRVAL1": 0.4, "CDELT1": 0.9e-4, "CUNIT1": "um"}, LINEAR),
        ({"CRVAL1": 3.602, "CDELT1": 1e-4}, LOG),
        ({"CRVAL1": 3.602, "CDELT1": 1e-4, "DC_FLAG": 1, "CTYPE1": "LINEAR"}, LOG),
        ({"CRVAL1": 3.602, "CDELT1": 1e-4, "CTYPE1": "LOG-LAMBDA"}, LOG),
        (
            {"CRVAL1": 4000.0, "CDELT1": 0.9, "CTYPE1": "WAVE-LOG"},
            4000.0 * np.exp(0.9 * np.arange(400) / 4000.0),
        ),
        ({"CTYPE1": "AWAV"}, air_to_vacuum(LINEAR)),
        ({"AIRORVAC": "air"}, air_to_vacuum(LINEAR)),
        ({"VACUUM": False}, air_to_vacuum(LINEAR)),
        ({"VACUUM": True}, LINEAR),
    ],
)
def test_wavelengths(tmp_path, header, expected):
    batch = FITS1D.read(write_fits1d(tmp_path / "star7.fits", **header), VACUUM)
    np.testing.assert_allclose(batch.wavelength, expected, rtol=1e-9)


def test_the_medium_is_asked_for(tmp_path):
    path = write_fits1d(tmp_path / "star7.fits")
    with pytest.raises(InputError, match=r"star7\.fits'.*`--medium air` or `--medium vacuum`"):
        FITS1D.read(path, ReadOptions())
    np.testing.assert_allclose(FITS1D.read(path, ReadOptions("air")).wavelength, air_to_vacuum(LINEAR))


def test_the_medium_of_a_library_is_not_contradicted(tmp_path):
    path = write_fits1d(tmp_path / "star7.fits", TPLLIB="MILES")
    for options in (ReadOptions(), ReadOptions("air")):
        np.testing.assert_allclose(FITS1D.read(path, options).wavelength, air_to_vacuum(LINEAR))
    sentence = r"^'.*star7\.fits' is of the library MILES, whose wavelengths are in air; leave `--medium vacuum` out, "
    with pytest.raises(InputError, match=sentence):
        FITS1D.read(path, VACUUM)
    # a header that says it was changed is believed
    changed = write_fits1d(tmp_path / "star8.fits", TPLLIB="MILES", VACUUM=True)
    for options in (ReadOptions(), ReadOptions("air"), VACUUM):
        np.testing.assert_allclose(FITS1D.read(changed, options).wavelength, LINEAR)


@pytest.mark.parametrize(
    ("name", "header", "expected"),
    [
        ("MILES_res2.50_star_m0081V.fits", {}, 81),
        ("a12_b34.fits", {}, 34),
        ("a12_b34.fits", {"STARID": BIG_ID}, BIG_ID),
        (f"star_{BIG_ID}.fits", {}, BIG_ID),
        ("a12.fits", {"ID": "HD 1"}, 12),
    ],
)
@pytest.mark.parametrize("gzipped", [False, True])
def test_ids(tmp_path, name, header, expected, gzipped):
    path = write_fits1d(tmp_path / name, **header)
    path = compress(path) if gzipped else path
    assert int(FITS1D.ids(path)[0]) == int(FITS1D.read(path, VACUUM).id[0]) == expected


def test_ids_of_names_without_digits(tmp_path):
    paths = [write_fits1d(tmp_path / f"{name}.fits") for name in ("sun", "vega")]
    first, second = (int(FITS1D.ids(path)[0]) for path in paths)
    assert first != second
    assert all(0 <= value < 2**62 for value in (first, second))


def test_velocity_width_and_rest(tmp_path):
    path = write_fits1d(tmp_path / "star7.fits", VRAD=12.5, FWHM=2.3548, RA=10.0, DEC=-5.0, VHELIO=99.0)
    batch = FITS1D.read(path, VACUUM)
    assert (batch.rv[0], batch.ra[0], batch.dec[0]) == (12.5, 10.0, -5.0)
    np.testing.assert_allclose(batch.arms[0].sigma, 1.0, rtol=1e-5)
    assert FITS1D.read(path, ReadOptions("vacuum", at_rest=True)).rv[0] == 0.0
    batch = FITS1D.read(write_fits1d(tmp_path / "star7.fits", Z=1e-4), VACUUM)
    np.testing.assert_allclose(batch.rv, 1e-4 * SPEED_OF_LIGHT)
    batch = FITS1D.read(write_fits1d(tmp_path / "star7.fits", VHELIO=99.0), VACUUM)
    assert batch.flags[0] == Flag.RV_MISSING | Flag.NO_COORDINATES | Flag.NO_ERRORS
    assert batch.arms[0].sigma is None


@pytest.mark.parametrize("name", ["ERR", "SIGMA", "VAR", "STAT", "IVAR"])
def test_given_errors(tmp_path, name):
    values = np.full(400, 0.5 if name in ("ERR", "SIGMA") else 4.0 if name == "IVAR" else 0.25)
    values[3] = 0.0
    batch = FITS1D.read(write_fits1d(tmp_path / "star7.fits", extra={name: values}), VACUUM)
    np.testing.assert_allclose(batch.ivar[0], np.where(np.arange(400) == 3, 0.0, 4.0))
    assert not batch.flags[0] & Flag.NO_ERRORS


def test_estimated_errors():
    rng = np.random.default_rng(1)
    slope = np.linspace(1.0, 3.0, 20000)
    ivar = estimate_ivar(np.stack([slope + 0.02 * rng.normal(size=20000), slope]))
    np.testing.assert_allclose(ivar[0] ** -0.5, 0.02, rtol=0.05)
    np.testing.assert_allclose(ivar[1] ** -0.5, 2.0 / 1000.0)  # noiseless: S/N 1000
    assert np.all(estimate_ivar(np.zeros((1, 100))) == 0)
    assert estimate_ivar(np.array([[1.0, np.nan, 2.0, 1.0, 3.0, 1.0, 4.0]]))[0, 1] == 0
    assert np.all(estimate_ivar(np.ones((1, 3))) > 0)


def test_images_of_rows_and_bad_values(tmp_path):
    flux = np.stack([np.linspace(1, 2, 400), np.full(400, 7.0)])
    flux[0, 5] = np.nan
    batch = FITS1D.read(write_fits1d(tmp_path / "star7.fits", flux), VACUUM)
    np.testing.assert_allclose(batch.flux[0, 6:], flux[0, 6:])
    assert batch.ivar[0, 5] == 0
    assert np.isfinite(batch.flux).all()


@pytest.mark.parametrize(
    "header", [{"CDELT1": 0.0}, {"CDELT1": None}, {"CDELT1": -0.9}, {"CUNIT1": "Hz"}, {"CRVAL1": 8.0}]
)
def test_unusable_axes(tmp_path, header):
    with pytest.raises(InputError, match=r"star7\.fits'"):
        FITS1D.read(write_fits1d(tmp_path / "star7.fits", **header), VACUUM)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.9])
@pytest.mark.parametrize("gzipped", [False, True])
def test_truncated_files(tmp_path, share, gzipped):
    path = write_fits1d(tmp_path / "star7.fits", flux=np.random.default_rng(0).normal(size=720))
    path = compress(path) if gzipped else path
    truncate(path, int(share * path.stat().st_size))
    with pytest.raises(InputError, match=r"'.*star7\.fits(\.gz)?'"):
        FITS1D.read(path, VACUUM)


def test_a_last_block_without_padding_is_fine(tmp_path):
    path = write_fits1d(tmp_path / "star7.fits", flux=np.arange(400.0))
    truncate(path, 2880 + 400 * 8)
    np.testing.assert_array_equal(FITS1D.read(path, VACUUM).flux[0], np.arange(400.0))


def test_faulty_files(tmp_path):
    path = tmp_path / "star7.fits"
    path.write_bytes(b"SIMPLE  = nonsense" * 400)
    with pytest.raises(InputError, match=r"star7\.fits'"):
        FITS1D.read(path, VACUUM)
    fits.PrimaryHDU().writeto(path, overwrite=True)
    with pytest.raises(InputError, match=r"star7\.fits': the file has no one-dimensional image"):
        FITS1D.read(path, VACUUM)
    with pytest.raises(InputError, match=r"star7\.fits'.*HDU ERR has 3 pixels"):
        FITS1D.read(write_fits1d(path, extra={"ERR": np.ones(3)}), VACUUM)


MILES = sorted((DATA / "miles/fits").glob("*.fits.gz"))[::20]


@pytest.mark.skipif(not MILES, reason="needs the real files in shared/data/miles")
def test_real_files():
    for path in MILES:
        batch = FITS1D.read(path, ReadOptions())
        assert batch.id[0] == FITS1D.ids(path)[0] == int(path.name.split("_m")[1][:4])
        with fits.open(path) as file:
            np.testing.assert_array_equal(batch.flux[0], file[0].data)
        np.testing.assert_allclose(batch.wavelength, air_to_vacuum(3540.5 + 0.9 * np.arange(4300)))
        np.testing.assert_allclose(batch.arms[0].sigma, 2.5 / 2.3548, rtol=1e-4)
        assert batch.flags[0] == Flag.NO_ERRORS | Flag.NO_COORDINATES
        assert 20 < np.median(batch.flux * np.sqrt(batch.ivar)) <= 1000
