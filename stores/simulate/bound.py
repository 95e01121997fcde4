"""The Cramer-Rao bound: the smallest scatter that any unbiased estimate of a star's labels can have.

The information in a spectrum is F = D^T diag(ivar) D, with D the derivatives of the noise-free flux, and what is
not known besides the labels is marginalised over: the level and shape of the flux of each arm (a polynomial times
the flux) and the radial velocity. Method: Ting et al. 2017 (ApJ 843, 32). Microturbulence is a label like the
others: it is not known either, unless its derivative is left out.

    sigma = cramer_rao(flux, derivatives, ivar, wavelength)                                  # one arm
    sigma = cramer_rao([flux_b, flux_r], [d_b, d_r], [ivar_b, ivar_r], [wave_b, wave_r])     # several
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError, OptionError
from stores.grid import SPEED_OF_LIGHT

Float = NDArray[np.float64]
Arms = NDArray[np.floating] | Sequence[NDArray[np.floating]]  # of one arm, or a list with one array an arm

SAME = 1e-10  # relative length below which a nuisance says nothing that others do not say
LOST = 1e-12  # share of a label's information below which it counts as none


def fisher(derivatives: Float, ivar: Float) -> Float:
    """Fisher matrix (p, p) of pixels with derivatives (n_pix, p) and inverse variances ivar (n_pix,)."""
    return derivatives.T @ (ivar[:, None] * derivatives)


def cramer_rao(
    flux: Arms,
    derivatives: Arms,
    ivar: Arms,
    wavelength: Arms,
    *,
    continuum_order: int | None = 8,
    velocity: bool = True,
) -> Float:
    """The bound on sigma (n, k) of each label of each star, in the label's unit; inf where the data do not say.

    Each argument is an array, or a list of arrays, one an arm; information of arms adds.

    flux: (n, n_pix), noise-free, on the instrument's pixels
    derivatives: (n, n_pix, k), d flux / d label; a label whose column is left out counts as known
    ivar: (n, n_pix), 1 / flux**2, noise-free; pixels with 0 carry nothing, whatever their flux
    wavelength: (n_pix,), Angstrom
    continuum_order: order of the Legendre polynomials in wavelength that may multiply the flux of each arm;
        None where the flux is known absolutely
    velocity: whether the radial velocity, one for all arms, is to be found too

    Raises InputError for arrays that do not fit together or are not finite where ivar is positive.
    """
    k = _listed(flux, derivatives, ivar, wavelength)[1][0].shape[-1]
    found = label_information(flux, derivatives, ivar, wavelength, continuum_order=continuum_order, velocity=velocity)
    return np.stack([_scatter(whole, left)[:k] for whole, left in zip(*found, strict=True)])


def label_information(
    flux: Arms,
    derivatives: Arms,
    ivar: Arms,
    wavelength: Arms,
    *,
    continuum_order: int | None = 8,
    velocity: bool = True,
) -> tuple[Float, Float]:
    """What the bound is made of, for the same arguments, over k labels and, with `velocity`, the velocity last.

    Information (n, p) on each if all else were known, and Fisher matrices (n, p, p) without the continuum.
    """
    if continuum_order is not None and continuum_order < 0:
        raise OptionError(f"continuum order {continuum_order} must be 0 or more, or None for a known continuum.")
    arms = [_checked(*some) for some in zip(*_listed(flux, derivatives, ivar, wavelength), strict=True)]
    n, k = arms[0][0].shape[0], arms[0][1].shape[2]
    if any(arm[0].shape[0] != n or arm[1].shape[2] != k for arm in arms):
        raise InputError("the arms do not have the same number of stars and labels.")
    whole, left = np.zeros((n, k + velocity)), np.zeros((n, k + velocity, k + velocity))
    for star in range(n):
        for flux_of, derivatives_of, ivar_of, pixels in arms:
            before, after = _information(
                flux_of[star], derivatives_of[star], ivar_of[star], pixels, continuum_order, velocity
            )
            whole[star] += before
            left[star] += after
    return whole, left


def _information(
    flux: Float, derivatives: Float, ivar: Float, wavelength: Float, continuum_order: int | None, velocity: bool
) -> tuple[Float, Float]:
    """Of one arm: information on each column (p,) if all else is known; Fisher matrix (p, p) without the continuum.

    Columns are the labels and, last, the velocity.
    """
    p = derivatives.shape[1] + velocity
    valid = ivar > 0
    if not valid.any():
        return np.zeros(p), np.zeros((p, p))
    weight = np.sqrt(ivar[valid].astype(np.float64))[:, None]
    columns = derivatives[valid].astype(np.float64)
    if velocity:
        columns = np.column_stack([columns, _velocity_derivative(flux, wavelength, valid)])
    columns = columns * weight
    before = np.sum(columns**2, axis=0)
    if continuum_order is not None:
        w = wavelength[valid]
        x = 2 * (w - w[0]) / max(w[-1] - w[0], SAME) - 1
        nuisance = np.polynomial.legendre.legvander(x, continuum_order) * flux[valid][:, None] * weight
        base, size, _ = np.linalg.svd(nuisance, full_matrices=False)
        base = base[:, size > SAME * size[0]]
        for _ in range(2):  # the second pass removes the rounding errors of the first
            columns = columns - base @ (base.T @ columns)
    return before, fisher(columns, np.ones(len(columns)))


def _scatter(whole: Float, left: Float) -> Float:
    """Square roots of the diagonal of the inverse of the Fisher matrix `left` (p, p); inf where it has none.

    whole: (p,), the diagonal before anything was marginalised, which tells rounding errors from information
    """
    sigma = np.full(len(whole), np.inf)
    information = np.diag(left)
    some = np.flatnonzero(information > LOST * whole)
    if not some.size:
        return sigma
    unit = 1 / np.sqrt(information[some])
    values, vectors = np.linalg.eigh(left[np.ix_(some, some)] * unit * unit[:, None])
    seen = values > LOST
    variance = np.sum(vectors[:, seen] ** 2 / values[seen], axis=1)
    # a label that takes part in a combination that the data do not see is not constrained
    blind = np.sum(vectors[:, ~seen] ** 2, axis=1) > LOST
    sigma[some] = np.where(blind, np.inf, unit * np.sqrt(variance))
    return sigma


def _velocity_derivative(flux: Float, wavelength: Float, valid: NDArray[np.bool_]) -> Float:
    """d flux / d velocity per km/s at the valid pixels, from a spline through all pixels between them."""
    from scipy.interpolate import CubicSpline

    first, last = np.flatnonzero(valid)[[0, -1]]  # what lies beyond may not be a spectrum at all
    rows = np.arange(first, last + 1)
    rows = rows[np.isfinite(flux[rows])]
    log_wavelength = np.log(wavelength)
    if len(rows) < 2:
        return np.zeros(int(valid.sum()))
    spline = CubicSpline(log_wavelength[rows], flux[rows])
    slope: Float = spline(log_wavelength[valid], 1)
    return slope / SPEED_OF_LIGHT


def _listed(*arguments: Arms) -> list[list[NDArray[np.floating]]]:
    """Each argument as a list with one array an arm."""
    listed = [[item] if isinstance(item, np.ndarray) else list(item) for item in arguments]
    if not listed[0] or len({len(some) for some in listed}) != 1:
        raise InputError(
            f"flux, derivatives, ivar, wavelength are of {[len(x) for x in listed]} arms, not of the same."
        )
    return listed


def _checked(flux: NDArray, derivatives: NDArray, ivar: NDArray, wavelength: NDArray) -> tuple[Float, ...]:
    """The arrays of an arm, if they fit together and are finite where they count."""
    if flux.ndim != 2 or derivatives.ndim != 3 or derivatives.shape[:2] != flux.shape or ivar.shape != flux.shape:
        raise InputError(
            f"flux {flux.shape}, derivatives {derivatives.shape} and ivar {ivar.shape} do not fit together; "
            "give (n, n_pix), (n, n_pix, k) and (n, n_pix)."
        )
    if wavelength.shape != flux.shape[1:] or not np.all(np.diff(wavelength) > 0) or wavelength[0] <= 0:
        raise InputError(f"wavelength {wavelength.shape} does not rise over the {flux.shape[1]} pixels of the flux.")
    valid = ivar > 0
    finite = np.isfinite(flux) & np.isfinite(derivatives).all(axis=2) & np.isfinite(ivar)
    if np.any(valid & ~finite):
        star = int(np.argwhere(valid & ~finite)[0, 0])
        raise InputError(f"row {star}: flux, derivatives or ivar are not finite in pixels with ivar > 0; mask them.")
    return flux, derivatives, ivar, wavelength
