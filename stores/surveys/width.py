"""Gaussian width of the line-spread function in Angstrom, from what the surveys give."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

FWHM = 2.0 * float(np.sqrt(2.0 * np.log(2.0)))  # full width at half maximum of a Gaussian of sigma = 1


def from_resolving_power(wavelength: Float, power: float) -> Float:
    """Widths (n_pix,) of a constant resolving power, FWHM = wavelength / power."""
    return wavelength / power / FWHM


def from_resolution_matrix(diagonals: NDArray[Any], wavelength: Float) -> Float | None:
    """Widths (n, n_pix) from DESI's resolution matrices (n, n_diag, n_pix); None if no pixel has one.

    As in `desispec.resolution.Resolution`: row d holds the diagonal of offset n_diag // 2 - d, and its
    element j stands in column j of the matrix, so [:, j] is how pixel j is spread. The width is the second
    moment of that.
    """
    n_diag = diagonals.shape[1]
    offset = np.arange(n_diag // 2, n_diag // 2 - n_diag, -1).astype(diagonals.dtype)
    total, first, second = (np.einsum("ndp,d->np", diagonals, offset**power) for power in (0, 1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = second / total - (first / total) ** 2
    # a column sums to 1 save at the ends and beside dead pixels
    good = (total > 0.2) & (total < 5.0) & (variance > 0)
    sigma = np.sqrt(np.where(good, variance, np.nan)) * np.gradient(wavelength)
    return mend(sigma)


def mend(sigma: Float) -> Float | None:
    """Widths (n, n_pix) with the unusable ones (NaN, not positive) filled from their neighbours.

    A row without any takes the median of the other rows; None if there is none at all.
    """
    sigma = np.array(sigma, dtype=np.float64)
    good = np.isfinite(sigma) & (sigma > 0)
    if not good.any():
        return None
    pixel = np.arange(sigma.shape[1])
    alive = good.any(axis=1)
    for row in np.flatnonzero(alive & ~good.all(axis=1)):
        sigma[row] = np.interp(pixel, pixel[good[row]], sigma[row, good[row]])
    if not alive.all():
        sigma[~alive] = np.median(sigma[alive], axis=0)
    return sigma
