import dataclasses
from functools import cache

import numpy as np
import pytest

from stores.errors import InputError
from stores.grid import GRIDS, SPEED_OF_LIGHT, pixel_edges
from stores.prepare import Preparation, prepare
from stores.simulate.emulator import Emulator
from stores.simulate.extinction import R_V, extinction
from stores.simulate.instrument import FWHM, Instrument
from stores.simulate.layouts import get_layout
from stores.simulate.lsf import RESOLUTION, doppler, fibre_widths, log_step, reached, spread
from stores.simulate.observe import (
    G_WINDOW,
    SNR_BAND,
    ZERO_POINT,
    Bad,
    Fates,
    Mislabelled,
    observe,
    simulate_batch,
)
from stores.simulate.population import draw
from stores.simulate.truth import bounds
from stores.spectrum import Arm, SpectrumBatch

SURVEYS = ("lamost", "desi")


@cache
def emulator():
    return Emulator.load()


@cache
def stars(n=64, gmag=(14.0, 17.5)):
    return draw(n, 3, emulator(), gmag=gmag)


@cache
def quiet(name):
    """The instrument without faults, sky residuals and cosmic rays."""
    instrument = Instrument.load(name)
    faults = {field.name: 0.0 for field in dataclasses.fields(instrument.faults)}
    return dataclasses.replace(
        instrument,
        faults=dataclasses.replace(instrument.faults, **faults),
        sky=dataclasses.replace(instrument.sky, residual=0.0),
    )


def one_fate(population, **changes):
    n = len(population)
    fates = Fates(population, np.zeros(n, np.uint8), np.zeros(n, bool), np.full(n, -1, np.int8))
    return dataclasses.replace(fates, **changes)


# -- optics ----------------------------------------------------------------------------------------------


def test_extinction_is_the_published_law():
    # table 3 of Cardelli, Clayton & Mathis (1989), A / A(V) for R_V = 3.1 at 1 / lambda of U, V, R, I, J
    wavelength = 1e4 / np.array([2.78, 1.82, 1.43, 1.11, 0.80])
    np.testing.assert_allclose(extinction(wavelength) / R_V, [1.569, 1.000, 0.751, 0.479, 0.282], atol=0.0015)
    b, v = extinction(1e4 / np.array([2.27, 1.82]))
    assert b - v == pytest.approx(1.0, abs=0.001)  # what E(B-V) is
    joint = extinction(np.array([9090.0, 9092.0]))
    assert joint[0] == pytest.approx(joint[1], rel=0.01)


def sharp_lines(samples, velocity=0.0):
    """Lines of the emulator's own width, the sharpest that its samples hold."""
    rng = np.random.default_rng(5)
    centres = rng.uniform(3900, 7250, 200) * (1 + velocity / SPEED_OF_LIGHT)
    depths = rng.uniform(0.1, 0.9, 200)
    x = np.log(samples[:, None] / centres) * RESOLUTION * FWHM
    return 1 - (np.exp(-0.5 * x**2) * depths).sum(axis=1)


@pytest.mark.parametrize("velocity", [-550.0, -7.3, 10.0, 123.4])
def test_doppler_shift_is_exact(velocity):
    samples = emulator().wavelength
    shifted = doppler(sharp_lines(samples)[None].astype(np.float32), np.array([velocity]), samples)[0]
    error = shifted - sharp_lines(samples, velocity).astype(np.float32)
    assert np.abs(error).max() < 3e-3  # at 2.5 samples per FWHM; cubic interpolation errs by 0.013
    # it is at the highest frequency alone, so that not even DESI's line spread lets it through
    arm = Instrument.load("desi").arms[0]
    seen = (arm.pixels > 3850) & (arm.pixels < 5790)
    operator = spread(arm, 1.0, float(samples[0]), log_step(samples), len(samples))
    assert np.abs(operator @ error)[seen].max() < 2e-6


@pytest.mark.parametrize("name", SURVEYS)
def test_line_spread_has_its_width_and_conserves_flux(name):
    samples = emulator().wavelength
    for arm in Instrument.load(name).arms[:2]:
        for width in fibre_widths(0.05)[[0, 4]]:
            operator = spread(arm, float(width), float(samples[0]), log_step(samples), len(samples))
            pixels = arm.pixels
            seen = (pixels > samples[0] + 20) & (pixels < samples[-1] - 20)
            flat = operator @ np.ones(len(samples), np.float32)
            np.testing.assert_allclose(flat[seen], 1.0, rtol=1e-5)
            centre = float(np.median(pixels[seen])) + 0.21
            line = np.exp(-0.5 * (np.log(samples / centre) * RESOLUTION * FWHM) ** 2).astype(np.float32)
            size = np.diff(pixel_edges(pixels))
            out = (operator @ line) * size
            total = out.sum()
            assert total == pytest.approx(np.trapezoid(line, samples), rel=2e-3)
            mean = (out * pixels).sum() / total
            assert mean == pytest.approx(centre, abs=0.01)
            variance = (out * (pixels - mean) ** 2).sum() / total
            pixel = size[np.argmin(np.abs(pixels - centre))] ** 2 / 12
            wanted = (width * arm.sigma(np.array([centre]))[0]) ** 2 + pixel
            assert np.sqrt(variance) == pytest.approx(np.sqrt(wanted), rel=3e-3)


def brute_force(population, observation):
    """The same light on fine steps of 0.1 Angstrom, a kernel for each pixel of each star, no shortcuts; per arm."""
    import torch
    from scipy.interpolate import CubicSpline
    from scipy.signal import resample

    samples = emulator().wavelength
    finer = samples[0] * np.exp(log_step(samples) / 8 * np.arange(8 * len(samples)))
    rest = emulator().flux(torch.as_tensor(population.labels, dtype=torch.float32)).double().numpy()
    results = []
    for design, arm in zip(observation.instrument.arms, observation.parts, strict=True):
        edges = pixel_edges(design.pixels)
        flux = np.zeros(arm.flux.shape)
        for row in range(len(population)):
            stretch = 1 + population.rv[row] / SPEED_OF_LIGHT
            level = np.linspace(rest[row, 0], rest[row, -1], len(samples))  # so that the ends meet
            between = resample(rest[row] - level, 8 * len(samples)) + np.interp(finer, samples, level)
            spline = CubicSpline(np.log(finer), between)
            for j in np.flatnonzero(arm.mask[row] == 0):
                inner = edges[j] + (edges[j + 1] - edges[j]) * (np.arange(16) + 0.5) / 16
                width = observation.width[row] * design.sigma(design.pixels[j : j + 1])[0]
                width = np.sqrt(width**2 - (design.pixels[j] / RESOLUTION / FWHM) ** 2)
                x = np.arange(-5, 5.001, 0.1)
                kernel = np.exp(-0.5 * x**2)
                light = spline(np.log((inner[:, None] + width * x) / stretch))
                flux[row, j] = (light * kernel).sum() / (16 * kernel.sum())
        dust = 10 ** (-0.4 * population.ebv[:, None] * extinction(design.pixels))
        results.append(Arm(design.pixels, flux * dust, (arm.mask == 0).astype(float)))
    return results


@pytest.mark.parametrize("name", SURVEYS)
def test_without_noise_it_is_the_emulators_spectrum_degraded(name):
    population = stars().take(slice(3))
    observation = observe(population, quiet(name), emulator(), 1, noise=False)
    arms = brute_force(population, observation)
    batch = SpectrumBatch(arms, population.id, population.ra, population.dec, observation.rv)
    if name == "lamost":  # the arms' sensitivities differ, but not the light: any mean of them will do
        batch.arms = arms[:1]
    expected = prepare([batch], GRIDS["lrs"], Preparation())
    found = prepare([get_layout(observation.instrument.layout).batch(observation)], GRIDS["lrs"], Preparation())
    good = (expected.ivar > 0) & (found.ivar > 0)
    good[:, GRIDS["lrs"].wavelength > 5450] = False  # LAMOST's red arm and its wider line spread set in
    difference = np.abs(found.flux - expected.flux)
    assert good.mean() > 0.85
    assert np.median(difference[good]) < 0.003
    assert np.quantile(difference[good], 0.99) < 0.01
    for arm, part in zip(arms, observation.parts, strict=True):
        seen = (part.mask == 0) & (arm.ivar > 0)
        if seen.any():
            ratio = np.where(seen, part.model / np.where(seen, arm.flux, 1), np.nan)
            level = np.nanmedian(ratio, axis=1, keepdims=True)
            assert np.nanmax(np.abs(ratio / level - 1)) < 1e-3


def test_flux_has_the_magnitude_of_the_star():
    population = stars()
    instrument = dataclasses.replace(
        quiet("desi"), flux_errors=dataclasses.replace(quiet("desi").flux_errors, shape=0.0, grey=0.0)
    )
    b, r, _ = observe(population, instrument, emulator(), 1, noise=False).arms
    inside_b, inside_r = (b.wavelength > G_WINDOW[0]) & (b.wavelength < 5760), r.wavelength < G_WINDOW[1]
    mean = np.mean(np.concatenate([b.model[:, inside_b], r.model[:, inside_r]], axis=1), axis=1)
    np.testing.assert_allclose(mean, ZERO_POINT * 10 ** (-0.4 * population.gmag), rtol=0.01)


# -- noise -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SURVEYS)
def test_noise_is_what_ivar_says(name):
    observation = observe(stars(), quiet(name), emulator(), 1)
    for arm in observation.arms:
        ratio = ((arm.flux - arm.model) * np.sqrt(arm.ivar))[arm.ivar > 0]
        if len(ratio):
            assert np.std(ratio) == pytest.approx(1.0, abs=0.02)
            assert np.mean(ratio) == pytest.approx(0.0, abs=0.02)
    low, high = observation.instrument.noise.snr_range
    assert np.all((observation.snr_5000 > 0.8 * low) & (observation.snr_5000 < 1.3 * high))


@pytest.mark.parametrize("name", SURVEYS)
def test_faint_stars_are_noisier_and_so_is_the_blue_end(name):
    bright, faint = stars(gmag=(14.0, 14.5)), stars(gmag=(17.0, 17.5))
    bright, faint = (observe(some, quiet(name), emulator(), 1) for some in (bright, faint))
    assert np.median(bright.snr) > 2 * np.median(faint.snr)
    assert np.median(bright.rv_error) < np.median(faint.rv_error)
    arm = faint.arms[0]
    blue, green = (np.abs(arm.wavelength - w) < 40 for w in (3920, 5000))
    assert np.median((arm.model / arm.error)[:, blue]) < 0.7 * np.median((arm.model / arm.error)[:, green])


def test_measured_velocities_have_their_errors():
    population = stars(n=1000)
    observation = observe(population, quiet("desi"), emulator(), 1)
    pull = (observation.rv - population.rv) / observation.rv_error
    assert np.std(pull) == pytest.approx(1.0, abs=0.07)
    assert observation.rv_error.min() >= 1.0


def test_sky_lines_leave_residuals_and_noise():
    # the sky is of no account beside bright stars
    population = stars(gmag=(17.0, 17.5))
    sky = dataclasses.replace(quiet("desi").sky, residual=0.05)
    lines = observe(population, dataclasses.replace(quiet("desi"), sky=sky), emulator(), 1)
    b = lines.arms[0]
    pull = (b.flux - b.model) / b.error
    near, far = np.abs(b.wavelength - 5578.9) < 1.0, np.abs(b.wavelength - 5500) < 40
    assert np.std(pull[:, near]) > 1.5 * np.std(pull[:, far])
    assert np.median(b.error[:, near]) > 1.5 * np.median(b.error[:, far])
    # the barycentric correction moves the lines together with the star
    profile = (b.error**2)[:, np.abs(b.wavelength - 5578.9) < 4] - np.median(b.error[:, far] ** 2, axis=1)[:, None]
    centre = (profile * b.wavelength[np.abs(b.wavelength - 5578.9) < 4]).sum(axis=1) / profile.sum(axis=1)
    moved = (centre / 5578.9 - 1) * SPEED_OF_LIGHT
    assert np.corrcoef(moved, lines.helio)[0, 1] > 0.95
    assert np.abs(lines.helio).max() <= 30.0


def test_flux_errors_have_their_size():
    instrument = quiet("lamost")
    with_error = observe(stars(), instrument, emulator(), 1)
    without = observe(stars(), instrument, emulator(), 1, noise=False)
    blue = [observation.parts[0] for observation in (with_error, without)]
    seen = (blue[0].mask == 0).all(axis=0)
    shape = np.log(blue[0].model[:, seen] / blue[1].model[:, seen])
    assert np.sqrt(np.mean(shape**2)) == pytest.approx(0.10, rel=0.3)
    assert np.abs(np.diff(shape, axis=1)).max() < 5e-3  # of low order


def test_cosmic_rays_and_dead_pixels_have_their_shares():
    faults = dataclasses.replace(quiet("desi").faults, cosmic_rays=0.02, cosmic_rays_missed=0.25, dead_pixels=0.01)
    arm = observe(stars(), dataclasses.replace(quiet("desi"), faults=faults), emulator(), 1).arms[1]
    inside = (arm.mask & Bad.NO_DATA) == 0
    assert np.mean((arm.mask & Bad.DEAD)[inside] > 0) == pytest.approx(0.01, rel=0.15)
    assert np.mean((arm.mask & Bad.COSMIC)[inside] > 0) == pytest.approx(0.015, rel=0.15)
    assert np.all(arm.ivar[arm.mask > 0] == 0)
    height = ((arm.flux - arm.model) / arm.error)[arm.mask == 0]
    assert np.mean(height > 8) == pytest.approx(0.005, rel=0.2)  # those that were missed
    marked = (arm.mask == Bad.COSMIC) & inside
    assert np.median(((arm.flux - arm.model) / arm.error)[marked]) > 8


# -- fates -----------------------------------------------------------------------------------------------


def test_fates_have_their_shares_and_do_not_depend_on_the_rest():
    population = stars(n=1000)
    faults = dataclasses.replace(quiet("lamost").faults, mislabelled=0.1, unusable=0.05, missing_arm=0.2)
    instrument = dataclasses.replace(quiet("lamost"), faults=faults)
    fates = Fates.draw(population, instrument, 1)
    for kind in (Mislabelled.OTHER_STAR, Mislabelled.WRONG_CLASS):
        assert np.mean(fates.mislabelled == kind) == pytest.approx(0.05, abs=0.02)
    np.testing.assert_array_equal(fates.seen.id != population.id, fates.mislabelled == Mislabelled.OTHER_STAR)
    assert np.mean(fates.unusable) == pytest.approx(0.05, abs=0.02)
    assert np.mean(fates.missing_arm >= 0) == pytest.approx(0.2, abs=0.04)
    assert set(fates.missing_arm) == {-1, 0, 1}
    fewer = Fates.draw(population.take(slice(200, 500)), instrument, 1)
    np.testing.assert_array_equal(fewer.unusable, fates.unusable[200:500])
    np.testing.assert_array_equal(fewer.mislabelled, fates.mislabelled[200:500])
    assert not np.array_equal(Fates.draw(population, instrument, 2).unusable, fates.unusable)


def test_a_mislabelled_object_shows_the_light_of_the_other_star():
    population = stars().take(slice(2))
    swapped = one_fate(population, seen=population.take(np.array([1, 0])))
    instrument = dataclasses.replace(quiet("desi"), fibre_scatter=0.0)
    plain, other = (
        observe(population, instrument, emulator(), 1, fates=fates, noise=False)
        for fates in (one_fate(population), swapped)
    )
    for a, b in ((0, 1), (1, 0)):
        ratio = other.arms[0].model[a, 300:2700] / plain.arms[0].model[b, 300:2700]
        np.testing.assert_allclose(ratio / ratio[0], 1.0, rtol=1e-4)
    np.testing.assert_array_equal(other.id, plain.id)


def test_unusable_objects_and_missing_arms():
    population = stars().take(slice(4))
    fates = one_fate(population, unusable=np.array([1, 0, 0, 0], bool), missing_arm=np.array([-1, 0, 1, -1], np.int8))
    for name in SURVEYS:
        observation = observe(population, quiet(name), emulator(), 1, fates=fates)
        assert observation.snr[0] == 0
        assert np.all(observation.snr[[2, 3]] > 5)
        first, second = observation.parts[:2]
        assert np.all(first.mask[1] == Bad.NO_DATA)
        assert np.all(second.mask[2] == Bad.NO_DATA)
        pull = (first.flux / first.error)[0][first.mask[0] == 0]
        assert np.std(pull) == pytest.approx(1.0, abs=0.06)
        sigma = bounds(observation, emulator())
        assert np.all(np.isinf(sigma[0]))
        assert np.all(np.isfinite(sigma[3]) & (sigma[3] > 0))
    wrong = one_fate(population, mislabelled=np.full(4, Mislabelled.WRONG_CLASS, np.uint8))
    assert np.all(observe(population, quiet("desi"), emulator(), 1, fates=wrong).rv > 0.05 * SPEED_OF_LIGHT)


def test_better_spectra_have_tighter_bounds():
    bright, faint = (
        bounds(observe(stars(gmag=gmag).take(slice(8)), quiet("desi"), emulator(), 1), emulator())
        for gmag in ((14.0, 14.5), (17.0, 17.5))
    )
    assert np.all(np.median(bright, axis=0) < np.median(faint, axis=0))
    lamost = bounds(observe(stars(gmag=(17.0, 17.5)).take(slice(8)), quiet("lamost"), emulator(), 1), emulator())
    assert np.all(np.median(faint, axis=0) < np.median(lamost, axis=0))  # sharper, and of better S/N


# -- the whole -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SURVEYS)
def test_values_do_not_depend_on_the_batch(name):
    population = stars().take(slice(12))
    instrument = Instrument.load(name)
    fates = Fates.draw(population, instrument, 1)
    whole = observe(population, instrument, emulator(), 1, fates=fates)
    rows = np.array([7, 2, 9])
    part = observe(population.take(rows), instrument, emulator(), 1, fates=fates.take(rows))
    np.testing.assert_array_equal(part.id, whole.id[rows])
    for a, b in zip(part.arms, whole.arms, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask[rows])
        np.testing.assert_allclose(a.flux, b.flux[rows], rtol=1e-4, atol=1e-4 * np.median(b.error))
        np.testing.assert_array_equal(a.sigma, b.sigma)
    again = observe(population, instrument, emulator(), 1, fates=fates)
    np.testing.assert_array_equal(again.arms[0].flux, whole.arms[0].flux)
    other = observe(population, instrument, emulator(), 2, fates=fates)
    assert not np.array_equal(other.arms[0].flux, whole.arms[0].flux)


def test_outside_the_emulator_there_are_no_data():
    observation = observe(stars(), quiet("desi"), emulator(), 1)
    low, high = emulator().wavelength[[0, -1]]
    for arm in observation.arms:
        stretch = 1 + observation.stars.rv[:, None] / SPEED_OF_LIGHT
        outside = (arm.wavelength < low * stretch) | (arm.wavelength > high * stretch)
        assert np.all(arm.ivar[outside] == 0)
        assert np.all(arm.flux[outside] == 0)
        well_inside = (arm.wavelength > low * stretch + 10) & (arm.wavelength < high * stretch - 10)
        assert np.all(arm.ivar[well_inside] > 0)


def test_snr_is_the_median_per_pixel():
    observation = observe(stars(), quiet("lamost"), emulator(), 1)
    arm = observation.arms[0]
    band = (arm.wavelength >= SNR_BAND[0]) & (arm.wavelength <= SNR_BAND[1])
    np.testing.assert_allclose(observation.snr, np.median((arm.model / arm.error)[:, band], axis=1), rtol=1e-5)
    measured = np.median((arm.flux * np.sqrt(arm.ivar))[:, band], axis=1)
    np.testing.assert_allclose(measured, observation.snr, rtol=0.05, atol=0.5)


def test_batches_go_straight_into_preparation():
    batch = simulate_batch(stars(), Instrument.load("lamost"), emulator(), 1)
    ready = prepare([batch], GRIDS["lrs"], Preparation())
    usable = ready.flags == 0
    assert usable.mean() > 0.9
    assert np.median(ready.flux[usable]) == pytest.approx(1.0, abs=0.03)


def test_instruments_that_the_emulator_cannot_serve_are_refused():
    desi = quiet("desi")
    sharp = dataclasses.replace(desi, arms=(dataclasses.replace(desi.arms[0], fwhm=((3600.0, 0.7),)),))
    with pytest.raises(InputError, match=r"arm B has a resolving power of \d+ in its .* 6000; give it less"):
        observe(stars(), sharp, emulator(), 1)
    for wavelength in (9000.0, 3700.0):
        far = dataclasses.replace(desi, noise=dataclasses.replace(desi.noise, wavelength=wavelength))
        with pytest.raises(InputError, match=r"desi states its noise at .* choose another wavelength"):
            observe(stars(), far, emulator(), 1)


def test_sharpness_is_that_of_all_fibres_whichever_are_drawn():
    """Typical fibres would do here; the sharpest, which few stars get, would not."""
    desi = quiet("desi")
    arm = dataclasses.replace(desi.arms[0], start=4000.0, fwhm=(), resolving_power=((4000.0, 4500.0),))
    even, uneven = (dataclasses.replace(desi, arms=(arm,), fibre_scatter=scatter) for scatter in (0.0, 0.08))
    observe(stars().take(slice(1)), even, emulator(), 1)
    for row in range(4):
        with pytest.raises(InputError, match="arm B has a resolving power of 5114 in its sharpest fibres"):
            observe(stars().take(slice(row, row + 1)), uneven, emulator(), 1)


@pytest.mark.parametrize("velocity", [-400.0, 0.0, 400.0])
def test_pixels_beyond_the_emulators_light_are_not_covered(velocity: float) -> None:
    wavelength = np.exp(np.linspace(np.log(4000), np.log(5000), 3000))
    pixels = np.arange(3980.0, 5020.0, 1.0)
    light = doppler(np.ones((1, 3000), np.float32), np.array([velocity]), wavelength)
    covered = reached(pixels, np.full(len(pixels), 0.8), wavelength, np.array([velocity]))[0]
    low, high = pixels[covered][[0, -1]]
    stretch = 1 + velocity / 299792.458
    assert low - 0.5 > 4000 * max(stretch, 1)
    assert high + 0.5 < 5000 * min(stretch, 1)
    assert low < 4000 * max(stretch, 1) + 8
    assert high > 5000 * min(stretch, 1) - 8
    inside = (wavelength > low) & (wavelength < high)
    np.testing.assert_allclose(light[0, inside], 1, atol=1e-3)
