import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from files import BIG_ID, DATA, compress, truncate, write_table

from stores.errors import InputError
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT
from stores.surveys import ReadOptions, get_survey
from stores.surveys.air import air_to_vacuum
from stores.surveys.fits import open_fits

TABLE = get_survey("table")
OPTIONS = ReadOptions()
NAMES = ["t.fits", "t.fits.gz", "t.ecsv", "t.parquet"]
GRID = 4000.0 + np.arange(50)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_values(tmp_path, name):
    flux = np.arange(250.0).reshape(5, 50)
    path = write_table(tmp_path / name, columns={"flux": flux}, ids=[BIG_ID, 3, 2, 1, -5])
    batch = TABLE.read(path, OPTIONS)
    assert [int(value) for value in batch.id] == [BIG_ID, 3, 2, 1, -5]
    np.testing.assert_array_equal(batch.id, TABLE.ids(path))
    np.testing.assert_array_equal(batch.flux, flux)
    np.testing.assert_array_equal(batch.ivar, 1.0)
    np.testing.assert_array_equal(batch.wavelength, GRID)
    np.testing.assert_array_equal(batch.rv, 5.0 * np.arange(5))
    np.testing.assert_array_equal(batch.dec, 20.0 + np.arange(5))
    assert not batch.flags.any()
    np.testing.assert_allclose(TABLE.read(path, ReadOptions("air")).wavelength, air_to_vacuum(GRID))
    assert np.all(TABLE.read(path, ReadOptions(at_rest=True)).rv == 0)


@pytest.mark.parametrize("rows", [slice(0, 1), slice(1, 4), slice(3, 99), slice(None, None, 2), slice(2, 2)])
def test_rows_are_those_of_the_whole(tmp_path, name, rows):
    path = write_table(tmp_path / name)
    whole, part = TABLE.read(path, OPTIONS), TABLE.read(path, OPTIONS, rows)
    np.testing.assert_array_equal(part.id, whole.id[rows])
    if len(part):
        np.testing.assert_array_equal(part.flux, whole.flux[rows])
        np.testing.assert_array_equal(part.rv, whole.rv[rows])


def test_other_columns(tmp_path, name):
    error, mask = np.full((5, 50), 0.5), np.zeros((5, 50), dtype=np.int32)
    error[1, 2], mask[3, 4] = 0.0, 8
    columns = {"ivar": None, "rv": None, "ra": None, "ERROR": error, "mask": mask}
    columns |= {"Redshift": np.array([1e-4, -9999.0, np.nan, 0.0, 1e-5])}
    columns |= {"loglam": np.tile(np.log10(5000.0 + np.arange(50)), (5, 1))}
    batch = TABLE.read(write_table(tmp_path / name, columns=columns), OPTIONS)
    expected = np.full((5, 50), 4.0)
    expected[1, 2] = expected[3, 4] = 0.0
    np.testing.assert_array_equal(batch.ivar, expected)
    np.testing.assert_allclose(batch.wavelength, 5000.0 + np.arange(50))
    np.testing.assert_allclose(batch.rv, SPEED_OF_LIGHT * np.array([1e-4, 0, 0, 0, 1e-5]))
    np.testing.assert_array_equal(batch.flags & Flag.RV_MISSING != 0, [0, 1, 1, 0, 0])
    assert np.all(batch.flags & Flag.NO_COORDINATES)


@pytest.mark.parametrize("warning", ["RVS_WARN", "zwarn"])
def test_velocities_that_are_warned_of(tmp_path, name, warning):
    columns = {"rv": np.array([10.0, 1449.0, 30.0, -9999.0, 50.0]), warning: np.array([0, 2, 0, 0, 0])}
    path = write_table(tmp_path / name, columns=columns)
    batch = TABLE.read(path, OPTIONS)
    np.testing.assert_array_equal(batch.rv, [10, 0, 30, 0, 50])
    missing = Flag.RV_MISSING
    np.testing.assert_array_equal(batch.flags, [0, missing | Flag.SURVEY_WARNING, 0, missing, 0])
    at_rest = TABLE.read(path, ReadOptions(at_rest=True))
    np.testing.assert_array_equal(at_rest.flags, [0, Flag.SURVEY_WARNING, 0, 0, 0])


def test_log_wavelengths_and_estimated_errors(tmp_path, name):
    path = write_table(tmp_path / name, wavelength=np.log10(GRID), columns={"ivar": None})
    batch = TABLE.read(path, OPTIONS)
    np.testing.assert_allclose(batch.wavelength, GRID)
    assert np.all(batch.flags == Flag.NO_ERRORS)
    assert np.all((batch.ivar > 0.3) & (batch.ivar < 5.0))


def test_bad_values_are_masked(tmp_path, name):
    flux, ivar = np.ones((5, 50)), np.ones((5, 50))
    flux[1, 3], ivar[2, 4] = np.nan, -1.0
    batch = TABLE.read(write_table(tmp_path / name, columns={"flux": flux, "ivar": ivar}), OPTIONS)
    np.testing.assert_array_equal(batch.flags == Flag.BAD_VALUES, [0, 1, 1, 0, 0])
    assert batch.ivar[1, 3] == batch.ivar[2, 4] == 0
    assert np.isfinite(batch.flux).all()


@pytest.mark.parametrize("share", [0.0, 0.003, 0.2, 0.6, 0.9])
def test_truncated_files(tmp_path, name, share):
    path = write_table(tmp_path / name, n=20)
    truncate(path, int(share * path.stat().st_size))
    with pytest.raises(InputError, match=rf"'.*{name}'"):
        TABLE.read(path, OPTIONS)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"obsid": None}, "no column id or obsid"),
        ({"flux": None}, "column flux"),
        ({"obsid": np.arange(5.0)}, "only integers"),
        ({"flux": np.arange(5.0)}, "column flux does not hold an array"),
        ({"rv": np.ones((5, 3))}, "column rv does not hold one number"),
        ({"ivar": np.ones((5, 3))}, "do not fit together"),
        ({"wavelength": np.arange(250.0).reshape(5, 50)}, "column wavelength of row 1 differs"),
        ({"wavelength": np.full((5, 50), 4000.0)}, "wavelength does not rise"),
    ],
)
def test_faulty_columns(tmp_path, name, columns, sentence):
    path = write_table(tmp_path / name, columns=columns)
    with pytest.raises(InputError, match=rf"{name}'.*{sentence}|{name}'.*no HDU.*{sentence}"):
        TABLE.read(path, OPTIONS)


def test_files_that_are_no_tables(tmp_path, name):
    path = tmp_path / name
    for content in (b"", b"nothing", b"# nothing", b"PAR1 nothing"):
        path.write_bytes(content)
        for look in (TABLE.ids, lambda p: TABLE.read(p, OPTIONS)):
            with pytest.raises(InputError, match=rf"{name}'"):
                look(path)
    with pytest.raises(InputError, match="does not exist"):
        TABLE.ids(tmp_path / "absent")


def test_resolving_power(tmp_path):
    path = write_table(tmp_path / "t.fits")
    with fits.open(path, mode="update") as file:
        file[1].header["RESPOWER"] = 2000.0
    for file in (path, compress(path)):
        np.testing.assert_allclose(TABLE.read(file, OPTIONS).arms[0].sigma, GRID / 2000 / 2.3548, rtol=1e-4)


@pytest.mark.parametrize(
    ("ids", "flux", "sentence"),
    [
        ([1, 2], [[1.0, 2.0], [1.0]], "column flux has rows of different lengths"),
        ([1, 2], [[1.0, 2.0], None], "column flux has an empty row"),
        ([1, None], [[1.0, 2.0], [1.0, 3.0]], "only integers"),
        ([], [], "the table has no rows"),
    ],
)
def test_faulty_parquet_rows(tmp_path, ids, flux, sentence):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": ids, "flux": flux}), path)
    with pytest.raises(InputError, match=rf"t\.parquet': {sentence}|t\.parquet'.*{sentence}"):
        TABLE.read(path, OPTIONS)


@pytest.mark.skipif(not (DATA / "lamost").is_dir(), reason="needs the real file in shared/data/lamost")
def test_real_file():
    path = DATA / "lamost/lamost_dr10_table.fits.gz"
    batch = TABLE.read(path, OPTIONS)
    np.testing.assert_array_equal(batch.id, TABLE.ids(path))
    with fits.open(path) as file:
        data = file["SPECTRA"].data
        np.testing.assert_array_equal(batch.id, data["OBSID"])
        np.testing.assert_array_equal(batch.flux, data["FLUX"])
        np.testing.assert_array_equal(batch.ivar, data["IVAR"])
        np.testing.assert_allclose(batch.rv, SPEED_OF_LIGHT * data["Z"])
    np.testing.assert_allclose(batch.wavelength, 10.0 ** (3.5675 + 1e-4 * np.arange(3350)))
    assert not batch.flags.any()


def test_a_large_fits_table_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 50
    columns = {
        "uint": fits.Column("uint", "J", bzero=2**31, array=np.arange(n) + 2**31),
        "scaled": fits.Column("scaled", "I", array=np.arange(n)),
        "name": fits.Column("name", "5A", array=[f"s{i}" for i in range(n)]),
        "good": fits.Column("good", "L", array=np.arange(n) % 3 == 0),
        "flux": fits.Column("flux", "12E", dim="(4, 3)", array=np.arange(n * 12).reshape(n, 3, 4)),
    }
    path = tmp_path / "a.fits"
    first = fits.BinTableHDU.from_columns([fits.Column("x", "K", array=np.arange(2000))], name="FIRST")
    second = fits.BinTableHDU.from_columns(list(columns.values()), name="SECOND")
    fits.HDUList([fits.PrimaryHDU(), first, second]).writeto(path)
    fits.setval(path, "TSCAL2", value=0.5, ext=2)
    fits.setval(path, "TZERO2", value=3.0, ext=2)
    wholes = {}
    for size in (2**25, 1, 200, 1000):
        monkeypatch.setattr("stores.surveys.fits.PART_BYTES", size)
        with open_fits(path) as file:
            for rows in (slice(None), slice(7, 31), slice(49, 90), slice(5, 5), slice(20, 10), slice(-3, None)):
                for name in columns:
                    value = file.column(file.hdu("second"), name, rows=rows)
                    whole = wholes.setdefault((name, str(rows)), value)
                    assert value.dtype == whole.dtype
                    np.testing.assert_array_equal(value, whole)
            np.testing.assert_array_equal(file.column(file.hdu("first"), "x"), np.arange(2000))
    np.testing.assert_array_equal(wholes["uint", str(slice(7, 31))], np.arange(7, 31) + 2**31)
    np.testing.assert_array_equal(wholes["scaled", str(slice(7, 31))], np.arange(7, 31) * 0.5 + 3)


def test_a_large_fits_table_is_not_copied_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_table(tmp_path / "a.fits", n=2000, n_pix=500)
    monkeypatch.setattr("stores.surveys.fits.PART_BYTES", 2**18)
    TABLE.read(path, OPTIONS, slice(0, 10))
    tracemalloc.start()
    np.testing.assert_array_equal(TABLE.ids(path)[:5], 100 + np.arange(5))
    for start in range(0, 2000, 500):
        TABLE.read(path, OPTIONS, slice(start, start + 10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 8e6
    assert peak < 3e6


def test_a_large_ascii_table_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = fits.TableHDU.from_columns([fits.Column("x", "I6", array=np.arange(100)), fits.Column("flux", "F8.2")])
    table.writeto(tmp_path / "a.fits")
    monkeypatch.setattr("stores.surveys.fits.PART_BYTES", 100)
    with open_fits(tmp_path / "a.fits") as file:
        np.testing.assert_array_equal(file.column(file.hdus[1], "x", rows=slice(3, 60)), np.arange(3, 60))
