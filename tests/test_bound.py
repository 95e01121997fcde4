"""The Cramer-Rao bound: equal to what is known exactly, and to the scatter of fits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from stores.errors import InputError, OptionError
from stores.grid import SPEED_OF_LIGHT
from stores.simulate.bound import cramer_rao, fisher

Float = NDArray[np.float64]
ORDER = 3


class Star:
    """Two arms of made-up spectra with lines (n = 4 stars, k = 3 labels)."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.wavelength = [np.linspace(4000, 4400, 260), np.linspace(5000, 5600, 220)]
        self.flux, self.derivatives, self.ivar = [], [], []
        for w in self.wavelength:
            lines = np.exp(-0.5 * ((w[:, None] - random.uniform(w[0], w[-1], 30)) / 5.0) ** 2)
            self.flux.append(3.0 - lines @ random.uniform(0, 0.8, (30, 4)))
            self.derivatives.append(np.einsum("pl,lnk->pnk", lines, random.normal(size=(30, 4, 3))))
            self.ivar.append(random.uniform(500, 2000, (4, len(w))))
        self.flux = [flux.T.copy() for flux in self.flux]
        self.derivatives = [derivatives.transpose(1, 0, 2).copy() for derivatives in self.derivatives]

    @property
    def arms(self) -> tuple[list[Float], list[Float], list[Float], list[Float]]:
        return self.flux, self.derivatives, self.ivar, self.wavelength

    def arm(self, i: int) -> tuple[Float, ...]:
        return tuple(some[i] for some in self.arms)


def test_linear_model_of_known_covariance() -> None:
    star = Star()
    flux, derivatives, ivar, wavelength = star.arm(0)
    sigma = cramer_rao(flux, derivatives, ivar, wavelength, continuum_order=None, velocity=False)
    for row in range(4):
        covariance = np.linalg.inv(np.einsum("pi,p,pj->ij", derivatives[row], ivar[row], derivatives[row]))
        np.testing.assert_allclose(sigma[row], np.sqrt(np.diag(covariance)), rtol=1e-10)
        np.testing.assert_allclose(np.linalg.inv(fisher(derivatives[row], ivar[row])), covariance, rtol=1e-9)


def test_nuisances_are_marginalised_as_in_the_whole_matrix() -> None:
    """Every parameter of both arms in one matrix, polynomials in another basis, inverted by brute force."""
    star = Star()
    found = cramer_rao(*star.arms, continuum_order=ORDER)
    for row in range(4):
        columns = []
        for i, w in enumerate(star.wavelength):
            powers = np.vander((w - w.mean()) / np.ptp(w), ORDER + 1) * star.flux[i][row][:, None]
            nuisance = np.zeros((len(w), 2 * (ORDER + 1)))
            nuisance[:, i * (ORDER + 1) : (i + 1) * (ORDER + 1)] = powers
            # a difference of second order where the bound has a spline
            slope = np.gradient(star.flux[i][row], np.log(w), edge_order=2) / SPEED_OF_LIGHT
            columns.append(np.column_stack([star.derivatives[i][row], nuisance, slope]))
        whole = np.concatenate(columns) * np.sqrt(np.concatenate([ivar[row] for ivar in star.ivar]))[:, None]
        size = np.linalg.norm(whole, axis=0)
        covariance = np.linalg.inv((whole / size).T @ (whole / size)) / size / size[:, None]
        np.testing.assert_allclose(found[row], np.sqrt(np.diag(covariance))[:3], rtol=3e-3)


def test_fits_scatter_as_the_bound_says() -> None:
    """Maximum-likelihood fits of depth, width, velocity and continuum of two lines, by Gauss-Newton steps."""
    random = np.random.default_rng(3)
    w, centres, x = np.linspace(4980, 5020, 160), np.array([4990.0, 5008.0]), np.linspace(-1, 1, 160)
    # a level of 1: what multiplies the flux is then the polynomial itself
    truth = np.array([0.4, 5.0, 20.0, 1.0, 0.0, 0.0])  # depth, width, velocity, polynomial of order 2

    def model(p: Float) -> Float:
        """Spectra (n, 160) of parameters (n, 6)."""
        shift = centres * (1 + p[:, None, 2:3] / SPEED_OF_LIGHT)
        lines = np.exp(-0.5 * ((w[:, None] - shift) / p[:, None, 1:2]) ** 2) @ np.array([1.0, 0.6])
        return np.polynomial.polynomial.polyval(x, p[:, 3:].T) * (1 - p[:, :1] * lines)

    def jacobian(p: Float) -> Float:
        steps = np.diag(1e-5 * np.array([1, 1, 100, 1, 1, 1]))
        return np.stack([(model(p + s) - model(p - s)) / (2 * s.sum()) for s in steps], axis=2)

    noise = 0.004 * (1 + 0.5 * x)
    start = np.tile(truth, (2000, 1))
    observed = model(start) + noise * random.normal(size=(2000, 160))
    fits = start.copy()
    for _ in range(5):
        slopes = jacobian(fits) / noise[:, None]
        score = np.einsum("npi,np->ni", slopes, (observed - model(fits)) / noise)
        step = np.linalg.solve(np.einsum("npi,npj->nij", slopes, slopes), score[:, :, None])[:, :, 0]
        fits += step
    assert np.all(np.abs(step[:, :2]) < 1e-4)  # they have converged
    # the bound is for the labels depth and width; velocity and polynomial are its nuisances
    arguments = model(start[:1]), jacobian(start[:1])[:, :, :2], (noise**-2)[None], w
    bound = cramer_rao(*arguments, continuum_order=2)[0]
    ratio = np.std(fits[:, :2], axis=0) / bound
    assert np.all(np.abs(ratio - 1) < 4 / np.sqrt(2 * len(fits)))
    # a test that can tell: were the nuisances known, the bound would be far smaller
    assert np.all(bound > 1.3 * cramer_rao(*arguments, continuum_order=None, velocity=False)[0])


def test_velocity_is_shared_by_the_arms() -> None:
    """A star whose first arm fixes the velocity, while the label of its second arm is like a shift."""
    star = Star()
    wavelength = star.wavelength[0]
    shift = np.gradient(star.flux[0], np.log(wavelength), axis=1) / SPEED_OF_LIGHT
    nearly = (shift + 0.1 * shift.std() * np.random.default_rng(1).normal(size=shift.shape))[:, :, None]
    nothing = np.zeros_like(nearly)
    alone = cramer_rao(star.flux[0], nearly, star.ivar[0], wavelength)
    two = [star.flux[0]] * 2, [nearly, nothing], [star.ivar[0]] * 2, [wavelength] * 2
    assert np.all(cramer_rao(*two) < 0.85 * alone)
    np.testing.assert_allclose(
        cramer_rao(*two, velocity=False), cramer_rao(*(a[:1] for a in two), velocity=False), rtol=1e-8
    )


def test_marginalising_can_only_enlarge_sigma() -> None:
    star = Star()
    sigma = [cramer_rao(*star.arms, continuum_order=order) for order in (None, 0, 2, 8, 20)]
    sigma.insert(0, cramer_rao(*star.arms, continuum_order=None, velocity=False))
    for fewer, more in pairwise(sigma):
        assert np.all(more >= fewer * (1 - 1e-9))
    assert np.all(sigma[-1] > sigma[0])
    known = cramer_rao(star.flux, [d[:, :, :2] for d in star.derivatives], star.ivar, star.wavelength)
    assert np.all(known < sigma[4][:, :2])


def test_scaling_laws() -> None:
    flux, derivatives, ivar, wavelength = Star().arm(0)
    sigma = cramer_rao(flux, derivatives, ivar, wavelength)
    np.testing.assert_allclose(cramer_rao(flux, derivatives, 4 * ivar, wavelength), sigma / 2, rtol=1e-10)
    units = np.array([1e-6, 1.0, 1e5])  # labels of other units
    np.testing.assert_allclose(cramer_rao(flux, derivatives * units, ivar, wavelength), sigma / units, rtol=1e-8)
    brighter = cramer_rao(1e-17 * flux, 1e-17 * derivatives, 1e34 * ivar, wavelength)
    np.testing.assert_allclose(brighter, sigma, rtol=1e-8)
    both = cramer_rao(*Star().arms)
    assert np.all(both < np.minimum(sigma, cramer_rao(*Star().arm(1))))


def test_masked_pixels_carry_nothing() -> None:
    flux, derivatives, ivar, wavelength = (some.copy() for some in Star().arm(0))
    ivar[:, :40] = 0
    cut = cramer_rao(flux[:, 40:], derivatives[:, 40:], ivar[:, 40:], wavelength[40:])
    flux[:, :40], derivatives[:, :40] = np.nan, np.inf
    np.testing.assert_allclose(cramer_rao(flux, derivatives, ivar, wavelength), cut, rtol=1e-9)
    before = cramer_rao(flux, derivatives, ivar, wavelength)
    ivar[:, 100:120] = 0
    assert np.all(cramer_rao(flux, derivatives, ivar, wavelength) > before)
    other, slopes, ivar_of_other, pixels = Star().arm(1)
    two = cramer_rao([flux, other], [derivatives, slopes], [ivar, 0 * ivar_of_other], [wavelength, pixels])
    np.testing.assert_allclose(two, cramer_rao(flux, derivatives, ivar, wavelength), rtol=1e-12)


def test_what_the_data_do_not_say_is_infinite() -> None:
    flux, derivatives, ivar, wavelength = Star().arm(0)
    sigma = cramer_rao(flux, derivatives, ivar, wavelength)
    silent = np.concatenate([derivatives, np.zeros_like(derivatives[:, :, :1])], axis=2)
    found = cramer_rao(flux, silent, ivar, wavelength)
    assert np.all(np.isinf(found[:, 3]))
    np.testing.assert_allclose(found[:, :3], sigma, rtol=1e-9)
    # a brighter star is the same as another continuum
    grey = np.concatenate([derivatives, flux[:, :, None] * 1e4], axis=2)
    found = cramer_rao(flux, grey, ivar, wavelength)
    assert np.all(np.isinf(found[:, 3]))
    np.testing.assert_allclose(found[:, :3], sigma, rtol=1e-9)
    found = cramer_rao(flux.astype(np.float32), grey.astype(np.float32), ivar.astype(np.float32), wavelength)
    assert np.all(np.isinf(found[:, 3]))
    np.testing.assert_allclose(found[:, :3], sigma, rtol=1e-3)
    # two labels that do the same to the spectrum; the others are as if one of them were not there
    twin = np.concatenate([derivatives, 7 * derivatives[:, :, 1:2]], axis=2)
    found = cramer_rao(flux, twin, ivar, wavelength)
    assert np.all(np.isinf(found[:, [1, 3]]))
    np.testing.assert_allclose(found[:, [0, 2]], sigma[:, [0, 2]], rtol=1e-9)
    assert np.all(np.isinf(cramer_rao(flux, derivatives, 0 * ivar, wavelength)))
    few = ivar * (np.arange(ivar.shape[1]) < 6)  # fewer pixels than nuisances
    assert np.all(np.isinf(cramer_rao(flux, derivatives, few, wavelength)))


def test_wrong_arrays_are_told() -> None:
    flux, derivatives, ivar, wavelength = Star().arm(0)
    with pytest.raises(InputError, match="do not fit together"):
        cramer_rao(flux, derivatives[:, :-1], ivar, wavelength)
    with pytest.raises(InputError, match="does not rise"):
        cramer_rao(flux, derivatives, ivar, wavelength[::-1])
    with pytest.raises(InputError, match=r"of \[1, 1, 1, 2\] arms"):
        cramer_rao(flux, derivatives, ivar, [wavelength, wavelength])
    with pytest.raises(InputError, match="same number of stars and labels"):
        cramer_rao([flux, flux], [derivatives, derivatives[:, :, :2]], [ivar, ivar], [wavelength, wavelength])
    with pytest.raises(OptionError, match="continuum order -1"):
        cramer_rao(flux, derivatives, ivar, wavelength, continuum_order=-1)
    derivatives[2, 5, 0] = np.nan
    with pytest.raises(InputError, match=r"row 2: .* not finite"):
        cramer_rao(flux, derivatives, ivar, wavelength)
