"""Continua: the level does not move with the noise, and SpecCLIP's does as it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stores import Arm, Flag, Grid, Preparation, SpectrumBatch, prepare
from stores.prepare.continuum import local_line, pixel_weights, smooth_continuum
from stores.prepare.specclip import specclip_continuum

Float = NDArray[Any]

LRS = Grid.parse("lrs")
OPTICAL = Grid.parse("optical")
PIXELS: dict[str, Float] = {
    "desi": 3600.0 + 0.8 * np.arange(3600),
    "lamost": 10.0 ** (3.5682 + 1e-4 * np.arange(2300)),
}
SHAPES = ("flat", "slope", "blue noise")
WIDTH = 4000 / LRS.kms


def noiseless(wavelength: Float) -> Float:
    """Something like a star: slope, curvature and lines of several widths."""
    x = wavelength / 5000 - 1
    flux = 1 - 0.7 * x + 0.5 * x**2
    for centre, sigma, depth in ((4102, 12, 0.4), (4340, 12, 0.4), (4861, 12, 0.4), (5175, 6, 0.3)):
        flux = flux * (1 - depth * np.exp(-0.5 * ((wavelength - centre) / sigma) ** 2))
    return flux * 100


def ready(wavelength: Float, flux: Float, ivar: Float, grid: Grid = LRS, **options: object) -> SpectrumBatch:
    n = len(flux)
    batch = SpectrumBatch([Arm(wavelength, flux, ivar)], np.arange(n), np.zeros(n), np.zeros(n), np.zeros(n))
    return prepare([batch], grid, Preparation(**options))  # type: ignore[arg-type]


def noisy(pixels: str, shape: str, snr: float, n: int = 60, seed: int = 0) -> tuple[Float, Float, Float]:
    """Wavelength, flux and ivar of `n` spectra without lines, with S/N `snr` in the middle of the grid."""
    wavelength = PIXELS[pixels]
    x = wavelength / 4800 - 1
    level = 1 - 0.8 * x if shape == "slope" else np.ones_like(wavelength)
    noise = np.full_like(wavelength, 1 / snr)
    if shape == "blue noise":
        noise *= (wavelength / 4800) ** -5  # 2.5 times the noise at 4000 A
    flux = level + noise * np.random.default_rng(seed).normal(size=(n, len(wavelength)))
    return wavelength, 40 * flux, np.broadcast_to(1 / (40 * noise) ** 2, flux.shape).copy()


@pytest.mark.parametrize("snr", [5, 10, 20, 50, 100, 200])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pixels", PIXELS)
def test_the_level_does_not_move_with_the_noise(pixels: str, shape: str, snr: float) -> None:
    batch = ready(*noisy(pixels, shape, snr))
    assert not np.any(batch.flags & (Flag.BAD_CONTINUUM | Flag.MOSTLY_MASKED))
    seen = batch.ivar > 0
    assert seen.mean() > 0.999
    assert np.median(batch.flux[seen]) == pytest.approx(1.0, abs=0.005)
    assert np.mean(np.median(batch.flux, axis=1)) == pytest.approx(1.0, abs=0.005)
    # and nowhere along the grid: in each of ten parts
    for part in np.array_split(np.arange(LRS.n_pix), 10):
        expected = 3 * 1.25 / snr / np.sqrt(len(part) * 60)
        allowed = 0.005 + expected * (3 if shape == "blue noise" else 1)
        assert np.median(batch.flux[:, part]) == pytest.approx(1.0, abs=allowed)


def test_it_scatters_as_the_mean_of_the_pixels_in_its_kernel() -> None:
    _, flux, ivar = noisy("lamost", "flat", 1, n=300)
    middle = smooth_continuum(flux, ivar, WIDTH)[:, 600:1800:200]
    expected = 40 / np.sqrt(2 * np.sqrt(np.pi) * WIDTH)
    assert np.std(middle) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("snr", [5, 200])
def test_the_ivar_goes_with_the_flux(snr: float) -> None:
    batch = ready(*noisy("lamost", "slope", snr))
    chi2 = (batch.flux - 1) ** 2 * batch.ivar
    assert np.mean(chi2) == pytest.approx(1.0, abs=0.03)
    assert np.median(batch.snr) == pytest.approx(snr, rel=0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("height", [20.0, 1e3, 1e6, 1e30])
@pytest.mark.parametrize("pixels", PIXELS)
def test_a_cosmic_ray_does_not_move_it(pixels: str, height: float) -> None:
    wavelength, flux, ivar = noisy(pixels, "flat", 50, n=4)
    clean = ready(wavelength, flux, ivar)
    hit = flux.copy()
    where = int(np.searchsorted(wavelength, 4700))
    hit[:, where : where + 2] += 40 * height
    struck = ready(wavelength, hit, ivar)
    edges = LRS.edges
    low, high = wavelength[where] - 2, wavelength[where + 1] + 2
    apart = (edges[1:] < low) | (edges[:-1] > high)
    np.testing.assert_array_equal(struck.ivar[:, apart] > 0, True)
    np.testing.assert_allclose(struck.flux[:, apart], clean.flux[:, apart], atol=0.002)
    assert not np.any(struck.flags)


def test_masked_pixels_do_not_move_it() -> None:
    wavelength, flux, ivar = noisy("desi", "slope", 30, n=4)
    masked = np.random.default_rng(4).random(flux.shape) < 0.05
    ivar[masked] = 0
    wanted = ready(wavelength, np.where(masked, 0.0, flux), ivar)
    found = ready(wavelength, np.where(masked, 1e30, flux), ivar)
    np.testing.assert_array_equal(found.flux, wanted.flux)
    np.testing.assert_array_equal(found.ivar, wanted.ivar)


@pytest.mark.parametrize("slope", [-2.0, 0.0, 2.0])
def test_the_ends_of_a_spectrum_are_not_biased(slope: float) -> None:
    # without data beyond the grid a local mean would be off by 10 %
    wavelength = LRS.wavelength
    flux = 10 * (1 + slope * (wavelength / 4800 - 1))[None]
    batch = ready(wavelength, flux, np.full_like(flux, 1e4))
    np.testing.assert_allclose(batch.flux, 1.0, atol=0.001)


@pytest.mark.parametrize("slope", [-2.0, 2.0])
def test_the_edges_of_a_gap_are_not_biased(slope: float) -> None:
    wavelength = PIXELS["lamost"]
    flux = 10 * (1 + slope * (wavelength / 4800 - 1))[None]
    ivar = np.full_like(flux, 1e4)
    gap = (wavelength > 4500) & (wavelength < 4800)
    ivar[:, gap] = 0
    batch = ready(wavelength, flux, ivar)
    np.testing.assert_allclose(batch.flux, 1.0, atol=0.001)
    assert np.all((batch.ivar == 0)[:, (LRS.wavelength > 4502) & (LRS.wavelength < 4798)])


@pytest.mark.parametrize("continuum", ["smooth", "specclip"])
@pytest.mark.parametrize("factor", [1e-17, 1e6, 1e-40])
def test_units_do_not_matter(continuum: str, factor: float) -> None:
    wavelength = PIXELS["desi"]
    flux = noiseless(wavelength) + np.random.default_rng(0).normal(size=(3, len(wavelength)))
    ivar = np.ones_like(flux)
    one = ready(wavelength, flux, ivar, continuum=continuum)
    other = ready(wavelength, flux * factor, ivar / factor**2, continuum=continuum)
    np.testing.assert_allclose(other.flux, one.flux, rtol=1e-9)
    np.testing.assert_allclose(other.ivar, one.ivar, rtol=1e-9)
    np.testing.assert_allclose(other.snr, one.snr, rtol=1e-9)  # type: ignore[arg-type]
    np.testing.assert_array_equal(other.flags, one.flags)


@pytest.mark.parametrize("pixels", PIXELS)
def test_errors_of_the_flux_calibration_hardly_matter(pixels: str) -> None:
    wavelength = PIXELS[pixels]
    flux = noiseless(wavelength)[None]
    ivar = np.ones_like(flux)
    x = 2 * (wavelength - 3990) / (5610 - 3990) - 1
    before = ready(wavelength, flux, ivar)
    for warp in (0.1 * x, 0.1 * (1.5 * x**2 - 0.5), 0.1 * np.sin(2.5 * x)):
        after = ready(wavelength, flux * (1 + warp), ivar)
        np.testing.assert_allclose(after.flux, before.flux, atol=0.01)


def test_it_is_much_wider_than_lines() -> None:
    wavelength = PIXELS["lamost"]
    batch = ready(wavelength, noiseless(wavelength)[None], np.ones((1, len(wavelength))))
    depth = batch.flux[0, np.argmin(np.abs(LRS.wavelength - 4861))]
    assert 0.55 < depth < 0.75  # a line of depth 0.4 keeps most of it


def test_a_continuum_that_is_not_positive_is_masked_and_flagged() -> None:
    wavelength = PIXELS["lamost"]
    flux = np.full((2, len(wavelength)), 10.0)
    flux[1, wavelength > 5000] = -10.0
    batch = ready(wavelength, flux, np.ones_like(flux))
    np.testing.assert_array_equal(batch.flags & Flag.BAD_CONTINUUM, [0, Flag.BAD_CONTINUUM])
    assert np.all(batch.ivar[1, LRS.wavelength > 5300] == 0)
    assert np.all(batch.flux[1, batch.ivar[1] == 0] == 1)
    assert np.all(batch.ivar[1, LRS.wavelength < 4500] > 0)


@pytest.mark.parametrize("covered", [True, False])
def test_what_is_too_faint_does_not_depend_on_the_coverage(covered: bool) -> None:
    # 1e-4 of the typical flux between 4300 and 4600 A, with or without data beyond
    wavelength = PIXELS["lamost"]
    flux = np.full((1, len(wavelength)), 10.0)
    flux[0, (wavelength > 4300) & (wavelength < 4600)] = 1e-3
    ivar = np.full_like(flux, 1e12)
    if not covered:
        ivar[0, wavelength > 4600] = 0
    batch = ready(wavelength, flux, ivar, continuum_width=1500)
    assert batch.flags[0] & Flag.BAD_CONTINUUM
    assert not batch.ivar[0, (LRS.wavelength > 4430) & (LRS.wavelength < 4470)].any()


def test_smooth_continuum_of_nothing_is_nothing() -> None:
    zeros = np.zeros((2, 300))
    np.testing.assert_array_equal(smooth_continuum(zeros, zeros, WIDTH), 0)
    np.testing.assert_array_equal(smooth_continuum(zeros, np.ones_like(zeros), WIDTH), 0)
    alone = np.zeros((1, 300))
    alone[0, 150] = 1.0
    assert np.all(np.isfinite(smooth_continuum(np.full((1, 300), 5.0), alone, WIDTH)))
    assert smooth_continuum(np.full((1, 300), 5.0), alone, WIDTH)[0, 150] == pytest.approx(5.0)


# -- specclip ------------------------------------------------------------------------------------------------


def specclip_by_hand(wavelength: Float, flux: Float) -> Float:
    """One spectrum (n_pix,) without masks as the published code takes it, by loops and in raw Angstrom."""
    n = len(flux)
    padded = np.concatenate([np.zeros(3), flux, np.zeros(3)])
    smooth = np.array([sorted(padded[i : i + 7])[3] for i in range(n)])

    def fitted(x: Float, y: Float, order: int) -> Float:
        return np.polyval(np.polyfit(x, y, order), x)

    blue = (wavelength >= 3700) & (wavelength <= 5700)
    red = wavelength > 6100
    continuum = np.ones(n)
    x, y = wavelength[blue], smooth[blue].copy()
    if x[np.argmax(fitted(x, y, 5))] < 4500:
        # windows are found among the pixels of the whole spectrum, then counted from the first blue one
        whole = wavelength[: len(x)]
        lines = []
        for low, high in ((4030, 4160), (4270, 4410), (4800, 4940)):
            inside = np.flatnonzero((whole >= low) & (whole <= high))
            tops = [y[(whole >= end - 10) & (whole <= end + 10)].max() for end in (low, high)]
            lines.append((inside, np.interp(whole[inside], [low, high], tops)))
        for inside, line in lines:
            y[inside] = line
    for _ in range(10):
        fit = fitted(x, y, 5)
        y[y < fit] = fit[y < fit]
    continuum[blue] = fitted(x, y, 5)

    x, y = wavelength[red], smooth[red].copy()
    for _ in range(9):
        fit = fitted(x, y, 4)
        change = (y < fit) | (y > fit + 3 * np.std(y - fit))
        y[change] = fit[change]
    continuum[red] = fit

    # what lies outside both fits is our own: the published code takes the filtered flux there
    gap = (wavelength > 5700) & ~red
    continuum[wavelength < 3700] = continuum[blue][0]  # the first pixel of the grid, at 3699.99 A
    left, right = wavelength[blue][-1], wavelength[red][0]
    continuum[gap] = np.interp(wavelength[gap], [left, right], [continuum[blue][-1], continuum[red][0]])
    return np.where(continuum > 0, continuum, 1.0)


def shaped(kind: str) -> Float:
    wavelength = OPTICAL.wavelength
    noise = np.random.default_rng(8).normal(size=len(wavelength))
    if kind == "cool":
        return noiseless(wavelength) + (wavelength - 5000) * 0.06 + noise
    if kind == "hot":
        return noiseless(wavelength) * (wavelength / 5000) ** -2 + noise
    return noiseless(wavelength) + (wavelength - 5300) * 0.1 + 3 * noise  # crosses zero in the blue


@pytest.mark.parametrize("kind", ["cool", "hot", "partly negative"])
def test_specclip_is_that_of_its_published_code(kind: str) -> None:
    flux = shaped(kind)
    expected = specclip_by_hand(OPTICAL.wavelength, flux)
    found = specclip_continuum(OPTICAL.wavelength, flux[None], np.ones((1, len(flux))))
    np.testing.assert_allclose(np.where(found[0] > 0, found[0], 1.0), expected, rtol=1e-7)
    assert np.any(expected == 1.0) == (kind == "partly negative")
    if kind == "partly negative":  # and prepare masks what is not positive
        batch = ready(OPTICAL.wavelength, flux[None], np.ones((1, len(flux))), OPTICAL, continuum="specclip")
        assert batch.flags[0] & Flag.BAD_CONTINUUM
        assert not batch.ivar[0, expected == 1.0].any()


def test_specclip_bridges_balmer_lines_of_hot_stars_only() -> None:
    # without the bridges the envelope of a hot star differs by more than the agreement above
    together = np.stack([shaped("cool"), shaped("hot"), shaped("cool")])
    found = specclip_continuum(OPTICAL.wavelength, together, np.ones_like(together))
    for row, kind in enumerate(("cool", "hot", "cool")):
        np.testing.assert_allclose(found[row], specclip_by_hand(OPTICAL.wavelength, shaped(kind)), rtol=1e-7)


def test_specclip_bridges_masked_pixels() -> None:
    flux = shaped("cool")[None]
    ivar = np.ones_like(flux)
    ivar[0, 500:510] = 0
    straight = flux.copy()
    straight[0, 500:510] = np.interp(np.arange(500, 510), [499, 510], flux[0, [499, 510]])
    dirty = np.where(ivar > 0, flux, 1e30)
    np.testing.assert_allclose(
        specclip_continuum(OPTICAL.wavelength, dirty, ivar),
        specclip_continuum(OPTICAL.wavelength, straight, np.ones_like(ivar)),
        rtol=1e-12,
    )


@pytest.mark.parametrize("pixels", PIXELS)
def test_specclip_rises_with_the_noise(pixels: str) -> None:
    level = {}
    for snr in (5, 10, 20, 100):
        batch = ready(*noisy(pixels, "flat", snr), continuum="specclip")
        level[snr] = float(np.median(batch.flux))
    assert level[5] < level[10] < level[20] < level[100] < 1
    assert 0.02 < 1 - level[10] < 0.09
    assert 1 - level[100] < 0.01
    # the documented law: about 0.6 / (S/N)
    for snr, value in level.items():
        assert 1 / value - 1 == pytest.approx(0.6 / snr, rel=0.5)


def test_the_local_line_is_linear_in_the_flux_for_given_weights() -> None:
    random = np.random.default_rng(8)
    flux, weight = random.normal(size=(2, 3, 400)), random.uniform(0, 1, (2, 1, 400))
    weight[:, :, 100:120] = 0
    line = local_line(flux, weight, 30.0)
    np.testing.assert_allclose(
        line[:, 0] + 2 * line[:, 1], local_line(flux[:, 0] + 2 * flux[:, 1], weight[:, 0], 30.0), atol=1e-10
    )
    np.testing.assert_allclose(line[1, 2], local_line(flux[1, 2:], weight[1], 30.0)[0], atol=1e-10)


def test_the_continuum_of_a_spectrum_without_spikes_is_the_local_line_of_its_weights() -> None:
    _, flux, ivar = noisy("desi", "slope", 20)
    found = smooth_continuum(flux, ivar, 50.0)
    np.testing.assert_allclose(found, local_line(flux, pixel_weights(flux, ivar), 50.0))
    assert np.all(pixel_weights(flux, np.zeros_like(ivar)) == 0)
