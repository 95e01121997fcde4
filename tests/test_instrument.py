import dataclasses
import json

import numpy as np
import pytest

from stores.errors import InputError, OptionError
from stores.grid import GRIDS
from stores.simulate.instrument import FOLDER, Instrument, interpolated

LAMOST = (FOLDER / "lamost.toml").read_text()


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def resolving_power(arm, wavelength):
    wavelength = np.array([wavelength])
    return float((wavelength / arm.sigma(wavelength) / 2.354820045)[0])


def test_lamost_is_as_published():
    blue, red = Instrument.load("lamost").arms
    assert resolving_power(blue, 5500.0) == pytest.approx(1800, rel=0.005)  # Zhao et al. 2012
    lattice = np.union1d(*(np.round(np.log10(arm.pixels) / 1e-4) for arm in (blue, red)))
    np.testing.assert_allclose(10 ** (1e-4 * lattice), GRIDS["optical"].wavelength, rtol=1e-9)


def test_desi_is_as_published():
    arms = Instrument.load("desi").arms
    ends = [(arm.pixels[0], arm.pixels[-1], len(arm.pixels)) for arm in arms]
    assert ends == [(3600.0, 5800.0, 2751), (5760.0, 7620.0, 2326), (7520.0, 9824.0, 2881)]  # Guy et al. 2023
    np.testing.assert_allclose(arms[0].pixels[-51:], arms[1].pixels[:51])  # overlaps share their pixels
    assert resolving_power(arms[0], 3600.0) == pytest.approx(2000, rel=0.01)
    assert resolving_power(arms[2], 9824.0) == pytest.approx(5500, rel=0.01)


def test_the_twins_differ_as_the_surveys_do():
    lamost, desi = Instrument.load("lamost"), Instrument.load("desi")
    assert resolving_power(lamost.arms[0], 5000.0) < resolving_power(desi.arms[0], 5000.0)
    assert lamost.flux_errors.shape > 2 * desi.flux_errors.shape
    assert lamost.velocities.floor > desi.velocities.floor
    assert lamost.noise.snr_range == (10.0, 150.0)
    assert desi.noise.snr_range == (5.0, 80.0)


def test_a_file_of_ones_own(tmp_path):
    text = LAMOST.replace('"lamost"', '"mine"').replace("fwhm = [[3700, 2.9], ", "fwhm = [[3700, 5], ")
    mine = Instrument.load(written(tmp_path, text))
    assert mine.name == "mine"
    assert mine.arms[0].sigma(np.array([3700.0]))[0] == pytest.approx(5 / 2.3548, rel=1e-4)
    assert dataclasses.replace(mine, name="lamost", arms=()) == dataclasses.replace(Instrument.load("lamost"), arms=())
    assert mine.settings["noise"]["gmag"] == 15.0


def test_tables_are_interpolated():
    np.testing.assert_allclose(interpolated(((4000, 1.0), (5000, 3.0)), np.array([3000, 4500, 6000.0])), [1, 2, 3])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("scatter = 0.5 ", "scater = 0.5 ", "noise.scater is unknown; known there are wavelength"),
        ("scatter = 0.5 ", "#", "noise.scatter is missing"),
        ("scatter = 0.5 ", "scatter = '0.5' ", "noise.scatter = '0.5' is not of the type"),
        ("order = 4 ", "order = 4.5 ", "flux_errors.order = 4.5 is not of the type"),
        ("snr_range = [10.0, 150.0]", "snr_range = [10.0]", "noise.snr_range = .* is not of the type"),
        ("snr_range = [10.0, 150.0]", "snr_range = [10.0, 5.0]", "snr_range must rise"),
        ('lattice = "log10"', 'lattice = "log"', r"arms\[0\].lattice = 'log' is not of the type"),
        ('lattice = "log10"\n', "", "arm blue must rise from start to stop|are joined need lattice"),
        ("unusable = 0.005", "unusable = 1.5", "unusable = 1.5 is not a share"),
        ("fwhm = [[5700", "resolving_power = [[5700, 1500]]\nfwhm = [[5700", "arm red needs either fwhm or"),
        ("throughput = [[5700", "throughput = [[6900", "tables of arm red must have rising"),
        ('name = "red"', 'name = "blue"', "two arms have the same name"),
        ("fibre_scatter = 0.08", "fibre_scatter = 0.5", "fibre_scatter must lie below 0.3"),
        ("[sky]", "[sky", "is not a TOML file"),
        ("[flux_errors]", "[other]", "other is unknown; known there are name"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, old, new, sentence):
    assert old in LAMOST
    with pytest.raises(InputError, match=rf"mine\.toml'.*({sentence}).*\.$"):
        Instrument.load(written(tmp_path, LAMOST.replace(old, new, 1)))


def test_unknown_instruments_are_refused():
    with pytest.raises(OptionError, match=r"'sdss' is neither .* \(desi, lamost, template\) nor a TOML file"):
        Instrument.load("sdss")


def test_an_instrument_comes_back_from_its_settings():
    instrument = Instrument.load("desi")
    settings = json.loads(json.dumps(instrument.settings))
    assert Instrument.from_settings(settings, "a store") == instrument
    settings["noise"]["gain"] = 1.0
    with pytest.raises(InputError, match=r"'a store': noise.gain is unknown"):
        Instrument.from_settings(settings, "a store")
