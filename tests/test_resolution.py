"""Degradation to a common resolving power: the width asked for, nothing lost, no masked pixel used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stores import Arm, Flag, Grid, Preparation, SpectrumBatch, prepare
from stores.prepare.resolution import degrade, line_width

Float = NDArray[Any]

CENTRE = 5000.0
WAVELENGTHS: dict[str, Float] = {
    "linear": 4900.0 + 0.2 * np.arange(1001),
    "log": 10.0 ** (np.log10(4900.0) + 2e-5 * np.arange(880)),
    # fine pixels left of the line, coarse ones right of it
    "uneven": 4900.0 + np.cumsum(np.repeat([0.1, 0.3], [1000, 300])),
}
DEPTH = 0.6


def line(wavelength: Float, power: float) -> Float:
    """A continuum of 1 with an absorption line of a resolving power."""
    return 1 - DEPTH * np.exp(-0.5 * ((wavelength - CENTRE) / line_width(np.array(CENTRE), power)) ** 2)


def arm_of(flux: Float, wavelength: Float, power: float | None, ivar: Float | None = None) -> Arm:
    flux = np.atleast_2d(flux)
    sigma = None if power is None else line_width(wavelength, power)
    return Arm(wavelength, flux, np.ones_like(flux) if ivar is None else ivar, sigma)


def moments(wavelength: Float, flux: Float) -> tuple[float, float, float]:
    """Equivalent width, centre and sigma of the line."""
    depth = (1 - flux) * np.gradient(wavelength)
    total = depth.sum()
    centre = (depth * wavelength).sum() / total
    return total, centre, float(np.sqrt((depth * (wavelength - centre) ** 2).sum() / total))


@pytest.mark.parametrize("name", WAVELENGTHS)
def test_a_line_gets_the_width_asked_for(name: str) -> None:
    wavelength = WAVELENGTHS[name]
    arm, short = degrade(arm_of(line(wavelength, 5000), wavelength, 5000), 1800)
    before = moments(wavelength, line(wavelength, 5000))
    after = moments(wavelength, arm.flux[0])
    assert not short.any()
    assert before[2] == pytest.approx(line_width(np.array(CENTRE), 5000), rel=1e-3)
    assert after[2] == pytest.approx(line_width(np.array(CENTRE), 1800), rel=0.01)
    assert after[0] == pytest.approx(before[0], rel=2e-3)
    assert after[1] == pytest.approx(before[1], abs=0.02)
    np.testing.assert_allclose(arm.flux[0], line_of_width(wavelength, after[2], after[0]), atol=0.002)
    assert arm.sigma is not None
    np.testing.assert_allclose(arm.sigma, np.broadcast_to(line_width(wavelength, 1800), arm.flux.shape))


def line_of_width(wavelength: Float, sigma: float, width: float) -> Float:
    profile = np.exp(-0.5 * ((wavelength - CENTRE) / sigma) ** 2)
    return 1 - width * profile / (sigma * np.sqrt(2 * np.pi))


def test_each_row_has_its_own_width() -> None:
    wavelength = WAVELENGTHS["linear"]
    powers = [5000.0, 2500.0, 1800.0]
    flux = np.stack([line(wavelength, power) for power in powers])
    arm = Arm(wavelength, flux, np.ones_like(flux), np.stack([line_width(wavelength, p) for p in powers]))
    smooth, short = degrade(arm, 1800)
    assert not short.any()
    for row in range(3):
        assert moments(wavelength, smooth.flux[row])[2] == pytest.approx(line_width(np.array(CENTRE), 1800), rel=0.01)
        alone, _ = degrade(Arm(wavelength, flux[row], np.ones_like(flux[row]), arm.sigma[row]), 1800)  # type: ignore[index]
        np.testing.assert_allclose(smooth.flux[row], alone.flux[0], rtol=1e-13)
        np.testing.assert_allclose(smooth.ivar[row], alone.ivar[0], rtol=1e-13)


@pytest.mark.parametrize("fill", [0.0, 1e30, -1e30])
def test_masked_pixels_never_leak(fill: float) -> None:
    wavelength = WAVELENGTHS["linear"]
    flux, ivar = line(wavelength, 5000)[None], np.ones((1, len(wavelength)))
    ivar[0, [200, 201, 202, 480, 700]] = 0
    expected, _ = degrade(arm_of(np.where(ivar > 0, flux, 7.0), wavelength, 5000, ivar), 1800)
    found, _ = degrade(arm_of(np.where(ivar > 0, flux, fill), wavelength, 5000, ivar), 1800)
    np.testing.assert_array_equal(found.flux, expected.flux)
    np.testing.assert_array_equal(found.ivar, expected.ivar)


def test_a_flat_spectrum_stays_flat_beside_gaps_and_ends() -> None:
    wavelength = WAVELENGTHS["linear"]
    flux, ivar = np.full((1, len(wavelength)), 3.0), np.ones((1, len(wavelength)))
    ivar[0, 300:400] = 0
    arm, _ = degrade(arm_of(flux, wavelength, 5000, ivar), 1800)
    seen = arm.ivar[0] > 0
    np.testing.assert_allclose(arm.flux[0, seen], 3.0, rtol=1e-12)
    assert np.all(seen[:298])
    assert not np.any(seen[303:397])  # less than half of the kernel has data
    assert not arm.flux[0, ~seen].any()


@pytest.mark.parametrize("power", [1500.0, None])
def test_a_spectrum_that_is_not_sharp_enough_is_flagged_and_kept(power: float | None) -> None:
    wavelength = WAVELENGTHS["log"]
    flux = line(wavelength, 1500)
    arm, short = degrade(arm_of(flux, wavelength, power), 1800)
    assert short.all()
    np.testing.assert_array_equal(arm.flux[0], flux)


def test_two_percent_short_still_counts_as_matched() -> None:
    wavelength = WAVELENGTHS["log"]
    flux = line(wavelength, 1800)
    assert not degrade(arm_of(flux, wavelength, 1800 / 1.019), 1800)[1].any()
    assert degrade(arm_of(flux, wavelength, 1800 / 1.021), 1800)[1].all()


def test_the_width_of_masked_pixels_does_not_matter() -> None:
    wavelength = WAVELENGTHS["log"]
    sigma, ivar = line_width(wavelength, 5000), np.ones((1, len(wavelength)))
    sigma[10:20], ivar[0, 10:20] = 50.0, 0.0
    assert not degrade(Arm(wavelength, np.ones_like(ivar), ivar, sigma), 1800)[1].any()


def test_nothing_happens_at_equal_resolution() -> None:
    wavelength = WAVELENGTHS["linear"]
    arm = arm_of(line(wavelength, 1800), wavelength, 1800)
    same, short = degrade(arm, 1800)
    assert not short.any()
    np.testing.assert_array_equal(same.flux, arm.flux)
    np.testing.assert_array_equal(same.ivar, arm.ivar)


def test_variances_are_those_of_many_noisy_copies() -> None:
    wavelength: Float = 4950.0 + 0.5 * np.arange(200)
    ivar = np.broadcast_to(np.random.default_rng(0).uniform(0.3, 3.0, 200), (3000, 200)).copy()
    ivar[:, 100:103] = 0
    noise = np.random.default_rng(1).normal(size=ivar.shape) / np.sqrt(np.where(ivar > 0, ivar, 1.0))
    arm, _ = degrade(arm_of(noise, wavelength, 5000, ivar), 1800)
    seen = arm.ivar[0] > 0
    assert seen.sum() >= 199
    np.testing.assert_allclose((np.var(arm.flux, axis=0) * arm.ivar[0])[seen], 1.0, atol=0.14)
    # white noise under a Gaussian of sigma s (in pixels) keeps 1 / (2 sqrt(pi) s) of its variance
    white, _ = degrade(arm_of(noise, wavelength, 5000, np.ones_like(ivar)), 1800)
    s = np.sqrt(line_width(wavelength, 1800) ** 2 - line_width(wavelength, 5000) ** 2) / 0.5
    middle = slice(40, 160)
    np.testing.assert_allclose(1 / white.ivar[0, middle], 1 / (2 * np.sqrt(np.pi) * s[middle]), rtol=0.01)


def batch_of(arm: Arm, rv: float | Float = 0.0) -> SpectrumBatch:
    n = len(arm.flux)
    return SpectrumBatch([arm], np.arange(n), np.zeros(n), np.zeros(n), np.broadcast_to(rv, (n,)))


@pytest.mark.parametrize(("power", "flagged"), [(5000.0, False), (1500.0, True), (None, True)])
def test_prepare_flags_what_could_not_be_matched(power: float | None, flagged: bool) -> None:
    wavelength = 10.0 ** (np.log10(4900.0) + 5e-5 * np.arange(400))
    batch = batch_of(arm_of(np.full(400, 10.0), wavelength, power))
    grid = Grid(np.log10(4920.0), 100)
    ready = prepare([batch], grid, Preparation(resolving_power=1800))
    assert bool(ready.flags[0] & Flag.RESOLUTION_UNMATCHED) == flagged
    assert not prepare([batch], grid, Preparation()).flags[0] & Flag.RESOLUTION_UNMATCHED


def test_only_the_part_on_the_grid_must_be_sharp() -> None:
    # R falls below 1800 redwards of 4960 A in the rest frame: of the row at rest outside of the grid
    wavelength = 10.0 ** (np.log10(4900.0) + 5e-5 * np.arange(400))
    sigma = np.where(wavelength < 4960, line_width(wavelength, 3000), line_width(wavelength, 1500))
    arm = Arm(wavelength, np.full((2, 400), 10.0), np.ones((2, 400)), sigma)
    grid = Grid(np.log10(4920.0), 30)  # up to 4953.5 A
    options = Preparation(continuum="none", resolving_power=1800)
    rv = np.array([0.0, 900.0])
    both = prepare([batch_of(arm, rv)], grid, options).flags & Flag.RESOLUTION_UNMATCHED
    np.testing.assert_array_equal(both, [0, Flag.RESOLUTION_UNMATCHED])


def test_fewer_pixels_than_the_kernel_is_wide() -> None:
    wavelength = CENTRE + 0.2 * np.arange(5)
    arm, _ = degrade(arm_of(np.full(5, 2.0), wavelength, 5000), 300)
    np.testing.assert_allclose(arm.flux, 2.0, rtol=1e-12)
    np.testing.assert_allclose(arm.ivar, 5.0, rtol=0.02)


@pytest.mark.parametrize("power", [60.0, 300.0, 1800.0])
def test_pixels_beyond_the_grid_reach_into_it(power: float) -> None:
    # the part of the spectrum that is read around the grid must hold the whole kernel
    wavelength = 10.0 ** (3.55 + 1e-4 * np.arange(3000))
    flux = 10 + np.cumsum(np.random.default_rng(0).normal(size=3000)) * 0.1
    grid = Grid(3.68, 101)
    own = arm_of(flux, wavelength, 5000)
    short = prepare([batch_of(own)], grid, Preparation("observed", "none", resolving_power=power))
    wide = Grid(3.58, 2101)
    whole = prepare([batch_of(own)], wide, Preparation("observed", "none", resolving_power=power))
    # the outermost pixels of a grid are symmetric, so a bit narrower than inside of it
    np.testing.assert_allclose(short.flux[0, 1:-1], whole.flux[0, 1001:1100], rtol=1e-9)
    np.testing.assert_allclose(short.flux[0], whole.flux[0, 1000:1101], rtol=1e-5)
