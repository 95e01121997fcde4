"""The payne: its model is that of the stars, and it reaches what noise allows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from baselines_made import GRID, N_TARGET, N_TUNING, PREPARATION, SEED, Float, Seen, check, faultless, make_task, truth

from benchmarks.baselines import get_baseline
from benchmarks.baselines.fitter import Fitter
from benchmarks.baselines.renderer import EXTRA, PARAMETERS, VELOCITY, Renderer
from benchmarks.baselines.spread import LineSpread
from benchmarks.baselines.starts import Starts
from benchmarks.baselines.survey import model_errors, typical_width
from stores.errors import InputError
from stores.prepare import Preparation, prepare
from stores.simulate.instrument import FWHM
from stores.simulate.layouts import get_layout
from stores.simulate.observe import Fates, observe
from stores.simulate.truth import fisher_matrices
from stores.simulate.twin import shared_emulator

# -- the payne -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spread() -> LineSpread:
    return LineSpread.of(faultless("desi"), GRID, PREPARATION)


@pytest.fixture(scope="module")
def renderer(spread: LineSpread) -> Renderer:
    return Renderer(shared_emulator(), GRID, PREPARATION, spread)


@pytest.fixture(scope="module")
def starts(renderer: Renderer, spread: LineSpread) -> Starts:
    return Starts(renderer, spread.extra)


@pytest.fixture(scope="module")
def noiseless(target: Seen) -> tuple[Float, Float]:
    """Prepared flux and ivar of a few stars without noise."""
    few = target.stars.take(np.arange(12))
    fates = Fates.draw(few, target.instrument, SEED)
    seen = observe(few, target.instrument, shared_emulator(), SEED, fates=fates, noise=False)
    batch = prepare([get_layout(target.instrument.layout).batch(seen)], GRID, PREPARATION)
    return batch.flux, batch.ivar


def parameters_of(target: Seen, rows: slice, spread: LineSpread) -> Float:
    seen = target.observation
    found = np.zeros((len(seen.rv[rows]), PARAMETERS))
    found[:, :VELOCITY] = target.stars.labels[rows]
    found[:, VELOCITY], found[:, EXTRA] = target.stars.rv[rows] - seen.rv[rows], spread.extra
    return found


def test_the_model_is_what_preparation_makes_of_a_star(
    target: Seen, renderer: Renderer, spread: LineSpread, noiseless: tuple[Float, Float]
) -> None:
    flux, ivar = noiseless
    at = parameters_of(target, slice(0, 12), spread)
    model = renderer.flux(at, renderer.weights(ivar, at))
    off = np.where(ivar > 0, model - flux, 0.0)
    # what is left is where DESI's pixels fall among those of the grid; noise at S/N 50 is 0.02
    assert np.sqrt(np.mean(off**2)) < 0.004
    assert abs(off.mean()) < 2e-4


def test_slopes_are_those_of_the_prepared_model(renderer: Renderer, spread: LineSpread) -> None:
    at = np.array([[5500.0, 4.2, -0.4, 0.1, 1.1, 12.0, spread.extra], [4600.0, 2.2, -1.7, 0.3, 1.6, -30.0, 100.0]])
    ivar = np.full((2, GRID.n_pix), 100.0)
    ivar[:, 400:420] = 0
    weight = renderer.weights(ivar, at)
    flux, slopes = renderer.slopes(at, weight)
    np.testing.assert_allclose(flux, renderer.flux(at, weight), atol=1e-6)
    for i, step in enumerate((20.0, 0.02, 0.02, 0.02, 0.02, 2.0, 100.0)):
        above, below = at.copy(), at.copy()
        above[:, i] += step
        below[:, i] -= step
        slope = (renderer.flux(above, weight) - renderer.flux(below, weight)) / (2 * step)
        np.testing.assert_allclose(slopes[:, i], slope, atol=2e-3 * np.abs(slope).max())


def test_labels_come_back_without_noise(
    target: Seen, renderer: Renderer, spread: LineSpread, starts: Starts, noiseless: tuple[Float, Float]
) -> None:
    found = Fitter(renderer, spread, np.zeros(GRID.n_pix), starts)(*noiseless)
    error = found.parameters[:, :4] - target.stars.labels[:12, :4]
    assert np.all(np.abs(error) < (15.0, 0.08, 0.04, 0.02))
    assert np.all(np.median(np.abs(error), axis=0) < (6.0, 0.02, 0.01, 0.005))
    assert np.all(found.reduced < 0.1)  # the ivar is that of S/N 50


def test_the_payne_is_as_good_as_noise_allows(source: Seen, target: Seen) -> None:
    found = get_baseline("payne")(make_task(source, target, 0))
    check(found, N_TARGET - N_TUNING)
    rows = np.arange(N_TUNING, N_TARGET)
    matrices = fisher_matrices(target.observation, shared_emulator(), (GRID.wavelength[0], GRID.wavelength[-1]))
    bound = np.sqrt(np.einsum("npp->np", np.linalg.inv(matrices)))[rows, :4]
    ratio = np.median(found.sigma / bound, axis=0)
    assert np.all((ratio > 0.8) & (ratio < 1.5))
    error = np.quantile(np.abs(found.value - truth(target)) / bound, 0.683, axis=0)
    assert np.all((error > 0.6) & (error < 1.6))
    inside = np.mean((truth(target) > found.low90) & (truth(target) < found.high90))
    assert 0.8 < inside < 0.97


def test_tuning_stars_shift_the_payne(source: Seen, target: Seen) -> None:
    shift = np.array([150.0, 0.3, -0.2, 0.1])
    without, found = (get_baseline("payne")(make_task(source, target, n, shift)) for n in (N_TUNING - 25, N_TUNING))
    np.testing.assert_array_equal(
        without.value, get_baseline("payne")(make_task(source, target, 0)).value
    )  # fewer than 20 stars correct nothing
    np.testing.assert_allclose(np.median(found.value - without.value, axis=0), shift, atol=0.1, rtol=0.1)
    wanted = truth(target) + shift
    inside = np.mean((wanted > found.low90) & (wanted < found.high90), axis=0)
    assert np.all(inside > 0.75)


def test_a_star_without_pixels_is_nan_and_stars_do_not_see_each_other(
    target: Seen, renderer: Renderer, spread: LineSpread, starts: Starts
) -> None:
    flux, ivar = (target.store.read(name, slice(0, 3)).astype(float) for name in ("flux", "ivar"))
    ivar[1] = 0
    fitter = Fitter(renderer, spread, np.zeros(GRID.n_pix), starts)
    found = fitter(flux, ivar)
    assert np.isnan(found.parameters[1]).all()
    assert np.isnan(found.sigma[1]).all()
    alone = fitter(flux[2:], ivar[2:])
    np.testing.assert_allclose(alone.parameters[0], found.parameters[2], rtol=1e-3, atol=1e-3)
    assert fitter(flux[:0], ivar[:0]).parameters.shape == (0, PARAMETERS)


def test_a_defect_of_a_spectrum_is_left_out(
    target: Seen, renderer: Renderer, spread: LineSpread, starts: Starts
) -> None:
    flux, ivar = (target.store.read(name, slice(0, 2)).astype(float) for name in ("flux", "ivar"))
    fitter = Fitter(renderer, spread, np.zeros(GRID.n_pix), starts)
    before = fitter(flux, ivar)
    flux[:, 700:703] += 1.0
    after = fitter(flux, ivar)
    assert np.isnan(after.residual[:, 700:703]).all()
    assert np.all(np.abs(after.parameters - before.parameters)[:, :4] < before.sigma[:, :4])


def test_an_unknown_line_spread_is_found(target: Seen, spread: LineSpread) -> None:
    unknown = LineSpread.unknown(GRID)
    wide = Fitter(Renderer(shared_emulator(), GRID, PREPARATION, unknown), unknown, np.full(GRID.n_pix, 0.01))
    flux, ivar = (target.store.read(name, slice(0, 16)).astype(float) for name in ("flux", "ivar"))
    found = typical_width(wide(flux, ivar), wide, GRID)
    middle = float(np.median(GRID.wavelength))
    least = 299792.458 / middle * spread.least[GRID.n_pix // 2]
    assert found == pytest.approx(np.hypot(least, np.sqrt(spread.extra)), rel=0.06)
    about = LineSpread.about(found, GRID)
    typical = np.hypot(299792.458 / middle * np.interp(middle, GRID.wavelength, about.least), np.sqrt(about.extra))
    assert typical == pytest.approx(found, rel=0.01)
    assert about.least[0] == pytest.approx(about.least[-1])


def test_the_line_spread_of_an_instrument_is_its_own() -> None:
    instrument = replace(faultless("desi"), fibre_scatter=0.0)
    found = LineSpread.of(instrument, GRID, PREPARATION)
    np.testing.assert_allclose(found.least, 1.8 / FWHM, rtol=1e-9)
    degraded = LineSpread.of(instrument, GRID, Preparation(resolving_power=1000))
    np.testing.assert_allclose(degraded.least, GRID.wavelength / 1000 / FWHM, rtol=1e-6)


@pytest.mark.parametrize("options", [{"continuum": "none"}, {"continuum": "specclip"}, {"frame": "observed"}])
def test_spectra_that_cannot_be_fitted_are_refused(options: dict[str, Any], spread: LineSpread) -> None:
    with pytest.raises(InputError, match="--frame rest --continuum smooth"):
        Renderer(shared_emulator(), GRID, Preparation(**options), spread)


def test_spectra_too_sharp_are_refused(spread: LineSpread) -> None:
    sharp = replace(spread, least=spread.least / 4)
    with pytest.raises(InputError, match="too sharp"):
        Renderer(shared_emulator(), GRID, PREPARATION, sharp)


def test_an_unknown_star_and_an_unknown_label(source: Seen, target: Seen) -> None:
    task = make_task(source, target, 0)
    stranger = replace(task.test, id=task.test.id + 10**15)
    with pytest.raises(InputError, match="has no row with id"):
        get_baseline("payne")(replace(task, test=stranger))
    other = replace(task.test, targets=("teff", "logg", "feh", "li"))
    found = get_baseline("payne")(replace(task, test=other))
    assert np.isnan(found.value[:, 3]).all()
    assert np.isfinite(found.value[:, :3]).all()


def test_errors_of_the_model_are_what_exceeds_the_noise() -> None:
    random = np.random.default_rng(0)
    noise = random.uniform(0.005, 0.02, (300, 60))
    wrong = np.where(np.arange(60) < 30, 0.03, 0.0)
    residual = noise * random.normal(size=noise.shape) + wrong * random.normal(size=noise.shape)
    residual[0] = np.nan
    found = model_errors(residual, noise**-2)
    np.testing.assert_allclose(found[1:29], 0.03, rtol=0.25)
    assert found[32:].max() < 0.006
    few = model_errors(residual[:20, :30], noise[:20, :30] ** -2)
    np.testing.assert_allclose(few, 0.03, rtol=0.2)
    assert np.ptp(few) == 0
