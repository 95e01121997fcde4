"""Resampling: flux is conserved, variances are exact, masks never leak."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stores.grid import Grid, pixel_edges
from stores.prepare.resample import MIN_COVERAGE, ROWS_AT_ONCE, _pixel_of, resample

Float = NDArray[Any]

INPUTS: dict[str, Float] = {
    "desi": 4300.0 + 0.8 * np.arange(500),
    "lamost": 10.0 ** (3.635 + 1e-4 * np.arange(350)),
    "coarse": 4300.0 + 7.0 * np.arange(60),
    "uneven": 4300.0 + np.cumsum(np.random.default_rng(5).uniform(0.3, 3.0, 240)),
}
TARGETS: dict[str, Float] = {
    "finer": np.linspace(4350.0, 4640.0, 1200),
    "coarser": np.linspace(4350.0, 4640.0, 25),
    "log": Grid(3.639, 260).wavelength,
}


def spectra(wavelength: Float, n: int = 3, seed: int = 0) -> tuple[Float, Float]:
    random = np.random.default_rng(seed)
    flux = 5.0 + random.normal(size=(n, len(wavelength)))
    return flux, random.uniform(0.2, 4.0, flux.shape)


def overlap(wavelength: Float, target: Float, z: float = 0.0) -> Float:
    """Overlap lengths (n_out, n_in) of rest-frame pixels, dense and by definition."""
    source, out = pixel_edges(wavelength) / (1 + z), pixel_edges(target)
    low = np.maximum(source[None, :-1], out[:-1, None])
    high = np.minimum(source[None, 1:], out[1:, None])
    return np.maximum(high - low, 0.0)


def dense(wavelength: Float, flux: Float, ivar: Float, target: Float, z: float = 0.0) -> tuple[Float, Float]:
    """The documented formula for one spectrum, (n_in,) -> (n_out,)."""
    length = overlap(wavelength, target, z)
    used = ivar > 0
    weight = length * used
    covered = weight.sum(axis=1)
    variance = np.where(used, 1 / np.where(used, ivar, 1.0), 0.0)
    good = covered >= MIN_COVERAGE * np.diff(pixel_edges(target))
    safe = np.where(good, covered, 1.0)
    mean = weight @ np.where(used, flux, 0.0) / safe
    spread = weight**2 @ variance / safe**2
    return np.where(good, mean, 0.0), np.where(good, 1 / np.where(good, spread, 1.0), 0.0)


def by_specutils(wavelength: Float, flux: Float, ivar: Float, target: Float) -> tuple[Float, Float]:
    with warnings.catch_warnings():
        # what specutils and its dependencies deprecate among themselves
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        from astropy import units
        from astropy.nddata import InverseVariance
        from specutils import Spectrum
        from specutils.manipulation import FluxConservingResampler

        spectrum = Spectrum(
            spectral_axis=wavelength * units.AA,
            flux=flux * units.Jy,
            uncertainty=InverseVariance(ivar / units.Jy**2),
        )
        result: Any = FluxConservingResampler()(spectrum, target * units.AA)
    return result.flux.value, result.uncertainty.represent_as(InverseVariance).array


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", INPUTS)
def test_agrees_with_specutils(name: str, target: str) -> None:
    wavelength, out = INPUTS[name], TARGETS[target]
    flux, ivar = spectra(wavelength, 1)
    new_flux, new_ivar = resample(wavelength, flux, ivar, out)
    their_flux, their_ivar = by_specutils(wavelength, flux[0], ivar[0], out)
    np.testing.assert_allclose(new_flux[0], their_flux, rtol=1e-6)
    np.testing.assert_allclose(1 / new_ivar[0], 1 / their_ivar, rtol=1e-6)


@pytest.mark.parametrize("z", [0.0, 7e-4])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", INPUTS)
def test_agrees_with_the_formula_under_masks(name: str, target: str, z: float) -> None:
    wavelength, out = INPUTS[name], TARGETS[target]
    flux, ivar = spectra(wavelength)
    ivar[np.random.default_rng(1).random(ivar.shape) < 0.2] = 0
    ivar[1, 20:40] = 0
    new_flux, new_ivar = resample(wavelength, flux, ivar, out, np.full(len(flux), z))
    for row in range(len(flux)):
        wanted_flux, wanted_ivar = dense(wavelength, flux[row], ivar[row], out, z)
        np.testing.assert_allclose(new_flux[row], wanted_flux, rtol=1e-9)
        np.testing.assert_allclose(new_ivar[row], wanted_ivar, rtol=1e-9)


@pytest.mark.parametrize("z", [0.0, -8e-4])
@pytest.mark.parametrize("name", INPUTS)
def test_the_integral_is_conserved(name: str, z: float) -> None:
    wavelength = INPUTS[name]
    edges = pixel_edges(wavelength)
    # output pixels that end exactly where input pixels 10 and 50 do
    first, last = edges[10] / (1 + z), edges[50] / (1 + z)
    step = (last - first) / 37
    target = first + step * (np.arange(37) + 0.5)
    flux, ivar = spectra(wavelength)
    new_flux, _ = resample(wavelength, flux, ivar, target, np.full(len(flux), z))
    before = flux[:, 10:50] @ np.diff(edges)[10:50] / (1 + z)
    np.testing.assert_allclose(new_flux.sum(axis=1) * step, before, rtol=1e-11)


@pytest.mark.parametrize("frame", ["operator", "shifted"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", INPUTS)
def test_masked_pixels_never_leak(name: str, target: str, frame: str) -> None:
    wavelength, out = INPUTS[name], TARGETS[target]
    redshift = None if frame == "operator" else np.array([1e-4, -3e-4, 0.0])
    flux, ivar = spectra(wavelength)
    masked = np.random.default_rng(2).random(ivar.shape) < 0.1
    masked[0, 15:19] = True
    ivar[masked] = 0
    clean, dirty = np.where(masked, 0.0, flux), np.where(masked, 1e30, flux)
    expected = resample(wavelength, clean, ivar, out, redshift)
    for mine, wanted in zip(resample(wavelength, dirty, ivar, out, redshift), expected, strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_neighbours_of_a_masked_pixel_keep_their_values() -> None:
    wavelength, target = INPUTS["desi"], np.linspace(4400.0, 4600.0, 300)
    flux, ivar = spectra(wavelength, 1)
    before = resample(wavelength, flux, ivar, target)
    ivar[0, 250] = 0
    flux[0, 250] = 1e30
    after = resample(wavelength, flux, ivar, target)
    low, high = pixel_edges(wavelength)[250:252]
    edges = pixel_edges(target)
    apart = (edges[1:] <= low) | (edges[:-1] >= high)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other[0, apart], one[0, apart], rtol=1e-12)
    # those that it touches are means of the rest: as large as the spectrum, or masked
    assert np.all(np.abs(after[0][0, ~apart]) < 20)


@pytest.mark.parametrize("target", ["finer", "coarser"])
def test_variances_are_those_of_many_noisy_copies(target: str) -> None:
    wavelength, out = INPUTS["desi"], TARGETS[target]
    random = np.random.default_rng(3)
    ivar = np.broadcast_to(random.uniform(0.2, 4.0, len(wavelength)), (4000, len(wavelength))).copy()
    ivar[:, ::17] = 0
    noise = random.normal(size=ivar.shape) / np.sqrt(np.where(ivar > 0, ivar, 1.0))
    flux, new_ivar = resample(wavelength, noise, ivar, out)
    seen = new_ivar[0] > 0
    assert seen.mean() > 0.8
    ratio = np.var(flux[:, seen], axis=0) * new_ivar[0, seen]
    np.testing.assert_allclose(ratio, 1.0, atol=0.12)  # 5 sigma of 4000 copies
    assert ratio.mean() == pytest.approx(1.0, abs=0.02)


def test_a_redshift_is_the_same_as_shifted_wavelengths() -> None:
    wavelength, target = INPUTS["desi"], TARGETS["log"]
    flux, ivar = spectra(wavelength, 6)
    ivar[2, 100:130] = 0
    redshift = np.array([-1e-3, -1e-5, 0.0, 1e-4, 6e-4, 1e-3])
    together = resample(wavelength, flux, ivar, target, redshift)
    for row, z in enumerate(redshift):
        own = slice(row, row + 1)
        alone = resample(wavelength / (1 + z), flux[own], ivar[own], target)
        for mine, wanted in zip(together, alone, strict=True):
            np.testing.assert_allclose(mine[own], wanted, rtol=1e-11, atol=1e-12)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    wavelength, target = INPUTS["lamost"], TARGETS["log"]
    n = 2 * ROWS_AT_ONCE + 3
    flux, ivar = spectra(wavelength, n)
    ivar[::3, 50:60] = 0
    redshift = np.random.default_rng(0).uniform(-2e-3, 2e-3, n)
    redshift[::5] = 0
    together = resample(wavelength, flux, ivar, target, redshift)
    for row in [*range(0, n, 10), n - 1]:
        own = slice(row, row + 1)
        alone = resample(wavelength, flux[own], ivar[own], target, redshift[own])
        for mine, wanted in zip(together, alone, strict=True):
            np.testing.assert_allclose(mine[own], wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("z", [0.0, 2e-3])
def test_outside_of_the_coverage_is_masked(z: float) -> None:
    wavelength: Float = 4500.0 + 0.8 * np.arange(100)
    flux, ivar = spectra(wavelength)
    target = np.linspace(4400.0, 4700.0, 601)
    new_flux, new_ivar = resample(wavelength, flux, ivar, target, np.full(len(flux), z))
    source, out = pixel_edges(wavelength) / (1 + z), pixel_edges(target)
    covered = np.minimum(out[1:], source[-1]) - np.maximum(out[:-1], source[0])
    inside = covered >= MIN_COVERAGE * np.diff(out)
    assert 100 < inside.sum() < 200
    np.testing.assert_array_equal(new_ivar > 0, np.broadcast_to(inside, new_ivar.shape))
    assert np.all(new_flux[:, ~inside] == 0)


@pytest.mark.parametrize(("start", "kept"), [(1039.9, True), (1040.0, True), (1040.1, False)])
@pytest.mark.parametrize("redshift", [None, np.array([0.0, 1e-6])])
def test_a_pixel_must_be_covered_by_half(start: float, kept: bool, redshift: Float | None) -> None:
    wavelength = np.arange(1000.5, 1100.5)
    flux, ivar = np.ones((2, 100)), np.ones((2, 100))
    ivar[0, 44:] = 0  # nothing beyond 1044
    target = start + 4 + 8 * np.arange(-3.0, 4.0)  # the fourth begins at `start` and is 8 wide
    new_flux, new_ivar = resample(wavelength, flux, ivar, target, redshift)
    np.testing.assert_array_equal(new_ivar[0] > 0, [True, True, True, kept, False, False, False])
    np.testing.assert_allclose(new_flux[0], [1, 1, 1, float(kept), 0, 0, 0], rtol=1e-12)
    assert np.all(new_ivar[1] > 0)


@pytest.mark.parametrize("redshift", [None, np.array([0.0, 1e-4, 1e-3])])
@pytest.mark.parametrize("start", [100.0, 20_000.0])
def test_without_overlap_everything_is_masked(start: float, redshift: Float | None) -> None:
    wavelength: Float = start + 0.8 * np.arange(50)
    flux, ivar = spectra(wavelength)
    for result in resample(wavelength, flux, ivar, TARGETS["log"], redshift):
        assert result.shape == (3, len(TARGETS["log"]))
        assert not result.any()


@pytest.mark.parametrize("z", [0.0, 1e-4])
def test_one_wide_pixel_is_the_mean_of_many(z: float) -> None:
    wavelength: Float = 4000.0 + 0.5 * np.arange(4000)
    flux, ivar = spectra(wavelength)
    ivar[:, 1000:1500] = 0
    target = np.array([4500.0, 5500.0])  # pixels of 1000 A
    new_flux, new_ivar = resample(wavelength, flux, ivar, target, np.full(3, z))
    for row in range(3):
        wanted = dense(wavelength, flux[row], ivar[row], target, z)
        np.testing.assert_allclose(new_flux[row], wanted[0], rtol=1e-10)
        np.testing.assert_allclose(new_ivar[row], wanted[1], rtol=1e-10)
    assert np.all(new_ivar[:, 1] > 500)


def test_nothing_but_numbers_comes_out() -> None:
    wavelength, target = INPUTS["uneven"], TARGETS["finer"]
    flux, ivar = spectra(wavelength, 8)
    ivar[0] = 0
    ivar[1, 1:] = 0
    ivar[2, ::2] = 0
    ivar[3] = 1e-99
    ivar[4] = 1e99
    flux[5] = 1e99
    flux[6] = -1e99
    flux[7] = 0
    for redshift in (None, np.linspace(-1e-3, 1e-3, 8)):
        for result in resample(wavelength, flux, ivar, target, redshift):
            assert np.all(np.isfinite(result))
    assert not resample(wavelength, flux, ivar, target)[1][0].any()


def test_no_rows_give_no_rows() -> None:
    wavelength = INPUTS["desi"]
    empty = np.zeros((0, len(wavelength)))
    for redshift in (None, np.zeros(0)):
        for result in resample(wavelength, empty, empty, TARGETS["log"], redshift):
            assert result.shape == (0, len(TARGETS["log"]))


@pytest.mark.parametrize("kind", ["linear", "log", "irregular", "very irregular"])
def test_pixels_are_found_as_searchsorted_finds_them(kind: str) -> None:
    random = np.random.default_rng(0)
    edges = {
        "linear": 3600 + 0.8 * np.arange(500),
        "log": 10 ** (3.6 + 1e-4 * np.arange(500)),
        "irregular": np.cumsum(random.uniform(0.5, 1.5, 500)),
        "very irregular": np.cumsum(random.uniform(0, 1, 500) ** 8 + 1e-9),
    }[kind]
    span = edges[-1] - edges[0]
    values = np.concatenate([edges, np.nextafter(edges, 0), random.uniform(edges[0] - span, edges[-1] + span, 5000)])
    values = values.reshape(2, -1)
    expected = np.searchsorted(edges, values.ravel(), side="right").reshape(values.shape) - 1
    np.testing.assert_array_equal(_pixel_of(edges, values), expected)
