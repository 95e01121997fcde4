"""Files of simulated spectra: readers take them for the survey's own, and what they read is what was observed."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import test_surveys_desi
import test_surveys_lamost
from astropy.io import fits
from files import DATA

from stores.errors import InputError, OptionError
from stores.flags import Flag
from stores.grid import GRIDS, SPEED_OF_LIGHT
from stores.prepare import Preparation, prepare
from stores.simulate.emulator import Emulator
from stores.simulate.healpix import fitting_nside, pixel_of
from stores.simulate.instrument import Instrument
from stores.simulate.layouts import Group, blocks, fits_blocks, get_layout, spectral_class
from stores.simulate.layouts.desi_target import MOCK, SKY, bricks, target_ids
from stores.simulate.layouts.lamost_dr10 import designation
from stores.simulate.lsf import FIBRE_CLASSES
from stores.simulate.observe import Bad, Fates, Mislabelled, observe
from stores.simulate.population import draw
from stores.surveys import ReadOptions, get_survey

OPTIONS = ReadOptions()
CARDS = {"SIMULATD": True, "SIMVERS": "0.1.0", "SIMCOMIT": "none", "SIMSEED": 1, "SIMCONF": "0123456789abcdef"}
N = 12


@cache
def emulator():
    return Emulator.load()


@cache
def observed(name, faulty=True):
    """A dozen stars; the first ones each have a fault of their own, if any have."""
    stars = draw(N, 5, emulator(), gmag=(14.0, 17.0))
    instrument = Instrument.load(name)
    fates = Fates(stars, np.zeros(N, np.uint8), np.zeros(N, bool), np.full(N, -1, np.int8))
    if faulty:
        fates.mislabelled[0] = Mislabelled.WRONG_CLASS
        fates.unusable[1] = True
        fates.missing_arm[2] = 0
    return observe(stars, instrument, emulator(), 1, fates=fates)


def read(name, observation, folder, place=(0, 0)):
    """The files of an observation as the reader gives them, one batch a file."""
    get_layout(observation.instrument.layout).write(observation, place, folder, CARDS)
    survey = get_survey(name)
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("redrock"))
    return [(path, survey.read(path, OPTIONS)) for path in files]


def agrees(batch, expected, row=slice(None)):
    """A batch that was read equals the rows of one that never was a file."""
    np.testing.assert_array_equal(batch.id, expected.id[row])
    np.testing.assert_array_equal(batch.flags, expected.flags[row])
    np.testing.assert_allclose(batch.rv, expected.rv[row], rtol=1e-12)
    for name in ("ra", "dec"):
        np.testing.assert_allclose(getattr(batch, name), getattr(expected, name)[row], atol=1e-6)
    for own, other in zip(batch.arms, expected.arms, strict=True):
        np.testing.assert_array_equal(own.wavelength, other.wavelength)
        np.testing.assert_array_equal(own.flux, other.flux[row])
        np.testing.assert_array_equal(own.ivar, other.ivar[row])
        sigma = other.sigma if other.sigma.ndim == 1 else other.sigma[row]
        np.testing.assert_allclose(own.sigma, sigma, rtol=1e-4)


def test_lamost_files_are_read_as_observed(tmp_path):
    observation = observed("lamost")
    expected = get_layout("lamost_dr10").batch(observation)
    found = read("lamost", observation, tmp_path)
    assert len(found) == N
    rows = {int(one): row for row, one in enumerate(observation.id)}
    for path, batch in found:
        row = rows[int(batch.id[0])]
        agrees(batch, expected, slice(row, row + 1))
        with fits.open(path) as file:
            file.verify("exception")
            header = file[0].header
            assert path.name == f"{header['FILENAME']}.gz"
            assert header["OBJNAME"] == str(observation.stars.id[row])
            assert int(header["OBSID"]) % 1000 == header["FIBERID"]
            assert {key: header[key] for key in CARDS} == CARDS
            arm = observation.arms[0]
            table = file["COADD"].data[0]
            np.testing.assert_array_equal(table["ANDMASK"] != 0, arm.mask[row] != 0)
            assert np.all((table["ANDMASK"] == 0) | (table["ORMASK"] != 0))
            used = table["IVAR"] > 0
            if row > 2:
                assert np.median(table["NORMALIZATION"][used]) == pytest.approx(1.0, abs=0.05)
                green = used & (table["WAVELENGTH"] > 4000) & (table["WAVELENGTH"] < 5500)
                ratio = np.median((table["FLUX"] * np.sqrt(table["IVAR"]))[green])
                assert header["SNRG"] == pytest.approx(ratio, rel=0.25)
                velocity = SPEED_OF_LIGHT * header["Z"]
                assert velocity == pytest.approx(observation.rv[row], abs=0.002)
                assert header["SUBCLASS"] == spectral_class(observation.stars.labels[row, 0])
    flags = expected.flags
    assert flags[0] == Flag.NOT_A_STAR | Flag.RV_ABSURD
    assert flags[1] == Flag.NOT_A_STAR | Flag.RV_MISSING
    assert not flags[2:].any()


def test_desi_files_are_read_as_observed(tmp_path):
    observation = observed("desi")
    (path, batch), *more = read("desi", observation, tmp_path, place=(1, 3))
    assert not more
    assert path.name == "coadd-main-bright-3.fits"
    agrees(batch, get_layout("desi_coadd").batch(observation))
    assert batch.flags[0] == Flag.NOT_A_STAR | Flag.RV_ABSURD
    assert batch.flags[1] == Flag.SURVEY_WARNING
    assert not batch.flags[2:].any()
    with fits.open(path) as file:
        file.verify("exception")
        fibermap = file["FIBERMAP"].data
        sky = fibermap["OBJTYPE"] == "SKY"
        assert 0 < sky.sum() < N
        assert np.all(fibermap["TARGETID"][sky] & SKY != 0)
        assert np.all(fibermap["TARGETID"] & MOCK != 0)
        assert len(set(fibermap["TARGETID"])) == len(fibermap)
        np.testing.assert_array_equal(fibermap["REF_ID"][~sky], observation.stars.id)
        np.testing.assert_allclose(fibermap["PMRA"][~sky], observation.stars.pmra, rtol=1e-6)
        assert np.all(fibermap["REF_CAT"][~sky] == "G2")
        assert {key: file[0].header[key] for key in CARDS} == CARDS
        pull = (file["R_FLUX"].data * np.sqrt(file["R_IVAR"].data))[sky]
        assert np.std(pull[pull != 0]) == pytest.approx(1.0, abs=0.05)
        masks = file["B_MASK"].data[~sky]
        assert np.all(masks[2] == 2)  # a missing arm is ALLBADPIX
        np.testing.assert_array_equal((masks & 4) > 0, (observation.arms[0].mask & Bad.COSMIC) > 0)
        snr = file["SCORES"].data["MEDIAN_COADD_SNR_R"][~sky]
        arm = observation.arms[1]
        expected = [np.median((f / e)[m == 0]) for f, e, m in zip(arm.flux, arm.error, arm.mask, strict=True)]
        np.testing.assert_allclose(snr, expected, rtol=1e-4)
    with fits.open(tmp_path / "redrock-main-bright-3.fits") as file:
        file.verify("exception")
        redshifts = file["REDSHIFTS"].data
        np.testing.assert_array_equal(redshifts["TARGETID"], observation.id)
        assert redshifts["SPECTYPE"].tolist()[:3] == ["GALAXY", "STAR", "STAR"]
        assert redshifts["ZWARN"].tolist()[:3] == [0, 4, 0]
        good = slice(3, None)
        reduced = redshifts["CHI2"][good] / redshifts["NPIXELS"][good]
        assert np.all((reduced > 0.9) & (reduced < 1.5))


def test_resolution_matrices_are_the_line_spread(tmp_path):
    """R times the spectrum averaged over pixels is the spectrum that a sharper instrument's pixels hold, smoothed."""
    instrument = Instrument.load("desi")
    observation = observe(observed("desi").stars, instrument, emulator(), 1, noise=False)
    get_layout("desi_coadd").write(observation, (1, 0), tmp_path, CARDS)
    sharper = dataclasses.replace(instrument.arms[0], fwhm=((3600.0, 1.30), (5800.0, 1.30)))
    narrow = dataclasses.replace(instrument, arms=(sharper,), fibre_scatter=0.0)
    with fits.open(tmp_path / "coadd-main-bright-0.fits") as file:
        diagonals = file["B_RESOLUTION"].data[:N].astype(np.float64)
        wavelength = file["B_WAVELENGTH"].data
    window = slice(400, 900)  # 3920-4320 A
    sharp = observe(observation.stars, narrow, emulator(), 1, noise=False).arms[0].model.astype(np.float64)
    pixel = np.arange(window.start, window.stop)
    for row in range(N):
        total = np.zeros(len(pixel))
        for d, offset in enumerate(range(5, -6, -1)):
            # element [d, j] spreads pixel j into pixel j - offset
            total += diagonals[row, d, pixel + offset] * sharp[row, pixel + offset]
        arm = observation.arms[0]
        # R on top of the 1.30 A that are there already
        both = np.hypot(observation.width[row] * 1.8, 1.30) / 2.354820045
        own = observation.width[row] * arm.sigma[pixel]
        extra = np.sqrt(both**2 - own**2)
        kernel = np.exp(-0.5 * ((wavelength[pixel][:, None] - wavelength[pixel]) / extra[:, None]) ** 2)
        smooth = kernel @ arm.model[row, pixel].astype(np.float64) / kernel.sum(axis=1)
        inner = slice(20, -20)
        ratio = (total / smooth)[inner]
        assert np.std(ratio) / np.mean(ratio) < 5e-3
    assert len(np.unique(observation.width)) <= FIBRE_CLASSES


def test_the_checks_on_real_lamost_files_hold(tmp_path, monkeypatch):
    instrument = Instrument.load("lamost")
    stars = draw(N, 5, emulator(), gmag=(14.0, 17.0))
    quiet = dataclasses.replace(instrument.faults, mislabelled=0.0, unusable=0.0)
    observation = observe(stars, dataclasses.replace(instrument, faults=quiet), emulator(), 1)
    get_layout("lamost_dr10").write(observation, (0,), tmp_path, CARDS)
    monkeypatch.setattr(test_surveys_lamost, "REAL", sorted(tmp_path.iterdir()))
    test_surveys_lamost.test_real_files()


def test_the_checks_on_real_desi_files_hold(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "desi"
    folder.mkdir(parents=True)
    get_layout("desi_coadd").write(observed("desi"), (1, 3), folder, CARDS)
    monkeypatch.setattr(test_surveys_desi, "DATA", folder.parent)
    test_surveys_desi.test_real_files(tmp_path, "coadd-main-bright-3")


@pytest.mark.skipif(not (DATA / "desi").is_dir(), reason="needs the real files in shared/data/desi")
def test_desi_files_have_the_layout_of_real_ones(tmp_path):
    get_layout("desi_coadd").write(observed("desi"), (1, 3), tmp_path, CARDS)
    for kind, real in (("coadd", "coadd-sv3-dark-26065"), ("redrock", "redrock-4-80613-thru20210324")):
        with (
            fits.open(tmp_path / f"{kind}-main-bright-3.fits") as ours,
            fits.open(DATA / "desi" / f"{real}.fits") as theirs,
        ):
            assert [hdu.name for hdu in ours] == [hdu.name for hdu in theirs]
            for own, other in zip(ours[1:], theirs[1:], strict=True):
                if own.is_image:
                    assert own.shape[1:] == other.shape[1:]
                    assert own.header["BITPIX"] == other.header["BITPIX"]
                    assert own.header.get("BUNIT") == other.header.get("BUNIT")
                elif own.name != "FIBERMAP" or kind == "coadd":
                    formats = {c.name: c.format for c in own.columns}
                    real_formats = {c.name: c.format for c in other.columns if not c.name.startswith("SV3_")}
                    assert formats.pop("SCND_TARGET", "K") == "K"  # the main survey's name of SV3_SCND_TARGET
                    assert list(formats.items()) == list(real_formats.items())


@pytest.mark.skipif(not (DATA / "lamost").is_dir(), reason="needs the real files in shared/data/lamost")
def test_lamost_files_have_the_layout_of_real_ones(tmp_path):
    get_layout("lamost_dr10").write(observed("lamost"), (0,), tmp_path, CARDS)
    ours, theirs = (fits.open(sorted(folder.iterdir())[0]) for folder in (tmp_path, DATA / "lamost/fits"))
    with ours, theirs:
        assert [hdu.name for hdu in ours] == [hdu.name for hdu in theirs]
        assert [(c.name, c.format) for c in ours[1].columns] == [(c.name, c.format) for c in theirs[1].columns]
        missing = set(theirs[0].header) - set(ours[0].header) - {"NAXIS1", "NAXIS2"}
        assert not missing
        for key in ("OBSID", "RA", "Z", "SNRG", "CLASS", "DATE-OBS", "HELIO_RV", "LMJD", "COEFF1"):
            assert type(ours[0].header[key]) is type(theirs[0].header[key])


def test_tables_are_read_as_observed(tmp_path):
    instrument = dataclasses.replace(Instrument.load("lamost"), name="mine", layout="table")
    lamost = observed("lamost")
    observation = dataclasses.replace(lamost, instrument=instrument)
    ((path, batch),) = read("table", observation, tmp_path)
    assert path.name == "table-00000.fits"
    agrees(batch, get_layout("table").batch(observation))
    np.testing.assert_array_equal(batch.id, lamost.stars.id)
    assert batch.flags[1] == Flag.RV_MISSING
    desi = dataclasses.replace(observed("desi"), instrument=dataclasses.replace(instrument, name="mine"))
    with pytest.raises(InputError, match=r"instrument mine has 3 arms and its layout, table, holds one: join them"):
        get_layout("table").batch(desi)
    joined = dataclasses.replace(lamost, instrument=dataclasses.replace(instrument, layout="desi_coadd"))
    with pytest.raises(InputError, match=r"arms joined and its layout, desi_coadd, only knows B, R and Z; rename"):
        get_layout("desi_coadd").batch(joined)
    with pytest.raises(OptionError, match=r"layout 'fits' is unknown; known ones are desi_coadd, lamost_dr10, table"):
        get_layout("fits")


def test_spectra_of_twins_survive_preparation(tmp_path):
    """The same stars, through files and preparation, look alike in both surveys."""
    ready = []
    for name in ("lamost", "desi"):
        folder = tmp_path / name
        folder.mkdir()
        batches = [batch for _, batch in read(name, observed(name, faulty=False), folder, (1, 0))]
        one = prepare(batches, GRIDS["lrs"], Preparation(resolving_power=1500.0))
        ready.append(one.take(np.argsort(one.ra)))
    np.testing.assert_allclose(ready[0].ra, ready[1].ra, atol=1e-6)
    difference = np.abs(ready[0].flux - ready[1].flux)
    assert np.median(difference) < 0.02
    others = np.abs(ready[0].flux - np.roll(ready[1].flux, 1, axis=0))
    assert np.median(difference) < 0.5 * np.median(others)


# -- numbers of pixels, bricks, targets ------------------------------------------------------------------


def test_healpix_pixels_are_desis():
    # HEALPIX of targets in the public early data release
    ra, dec = (
        np.array([216.9519830524834, 245.954289, 268.108997]),
        np.array([3.301117339850041, 45.110618, 64.834587]),
    )
    np.testing.assert_array_equal(pixel_of(64, ra, dec), [26065, 10016, 10237])


def test_healpix_pixels_are_nested_and_of_equal_area():
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 120_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 120_000)))
    for nside in (1, 2, 4):
        pixel = pixel_of(nside, ra, dec)
        count = np.bincount(pixel, minlength=12 * nside**2)
        assert len(count) == 12 * nside**2
        assert np.abs(count / count.mean() - 1).max() < 5 / np.sqrt(count.mean())
        np.testing.assert_array_equal(pixel_of(2 * nside, ra, dec) // 4, pixel)
    assert fitting_nside(ra[:200], dec[:200], 200) == 1
    nside = fitting_nside(ra, dec, 500)
    assert np.bincount(pixel_of(nside, ra, dec)).max() <= 500 < np.bincount(pixel_of(nside // 2, ra, dec)).max()


def test_target_ids_are_encoded_as_desis():
    # a public target: release 9011, brick 607466 named 1054p567, object 2657
    brick, names = bricks(np.array([105.48977452]), np.array([56.66930006]))
    assert (brick[0], names[0]) == (607466, "1054p567")
    ours = int(target_ids(brick, np.array([2657]))[0])
    assert ours - int(MOCK) + (1 << 42) == 39633345008634465  # ours has release 9010 and the bit of mocks
    poles, _ = bricks(np.array([10.0, 10.0]), np.array([-90.0, 90.0]))
    assert poles[0] == 1
    assert poles[1] == 662174  # bricks in all, as the Legacy Surveys have


@pytest.mark.parametrize("name", ["lamost", "desi"])
def test_ids_are_unique_and_groups_whole(name):
    stars = draw(2000, 5, emulator(), gmag=(13.0, 18.0))
    layout = get_layout(Instrument.load(name).layout)
    assert len(set(layout.ids(stars, 1).tolist())) == 2000
    groups = layout.groups(stars)
    np.testing.assert_array_equal(np.sort(np.concatenate([group.rows for group in groups])), np.arange(2000))
    assert max(len(group.rows) for group in groups) <= 256
    assert len({group.place for group in groups}) == len(groups)
    part = stars.take(slice(500, 700))
    np.testing.assert_array_equal(layout.ids(part, 1), layout.ids(stars, 1)[500:700])


def test_small_helpers():
    assert [spectral_class(t) for t in (3000, 4000, 5772, 6500, 7500, 20000)] == ["M5", "K8", "G2", "F5", "A8", "A0"]
    assert designation(342.012043, 5.415568) == "224802.89+052456.0"
    assert designation(0.5, -12.5).endswith("-123000.0")
    assert [group.place for group in blocks(600)] == [(0,), (1,), (2,)]
    assert isinstance(blocks(1)[0], Group)


def test_header_cards_are_fits(tmp_path):
    values = {"LONG": 2**62 + 1, "SMALL": 1e-20, "WHOLE": 3.0, "MINUS": -1.5, "YES": True, "TEXT": "it's", "EMPTY": ""}
    path = tmp_path / "a.fits"
    image = np.arange(6, dtype=np.int16).reshape(2, 3)
    table = fits_blocks.table(
        "T", "A K, B 2E, C 4A", 2, {"A": [1, 2**62 + 1], "B": [[1, 2], [3, 4]], "C": ["ab", "c"]}
    )
    cards = [fits_blocks.card(key, value, "a comment") for key, value in values.items()]
    path.write_bytes(fits_blocks.primary(cards) + fits_blocks.image("I", image, "K") + table)
    with fits.open(path) as file:
        file.verify("exception")
        assert {key: file[0].header[key] for key in values} == values
        np.testing.assert_array_equal(file["I"].data, image)
        assert file["I"].header["BUNIT"] == "K"
        assert file["T"].data["A"].tolist() == [1, 2**62 + 1]
        assert file["T"].data["B"].tolist() == [[1, 2], [3, 4]]
        assert file["T"].data["C"].tolist() == ["ab", "c"]
    assert path.stat().st_size % 2880 == 0
    with pytest.raises(ValueError, match="does not fit a header card"):
        fits_blocks.card("TEXT", "x" * 80)
