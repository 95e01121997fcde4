"""The continuum of SpecCLIP, for models that were trained with it.

Polynomial upper envelopes as in SpecCLIP (arXiv:2507.01939): 3700-5700 A of order 5 and beyond 6100 A of
order 4, after a median filter. On LAMOST's pixels both are those of its published code, which begins at
3699.99 A there and so displaces its Balmer windows by one pixel. It rises with noise (about 0.6 / S/N) and
should be used only where a published model asks for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
BLUE, RED = (3700.0, 5700.0), 6100.0
BALMER = ((4030.0, 4160.0), (4270.0, 4410.0), (4800.0, 4940.0))
SHOULDER = 10.0  # Angstrom on either side of a window's end, where the bridge finds its height
LAMOST_STEP = 1e-4  # log10 of Angstrom
HOT_PEAK = 4500.0  # Angstrom; a first fit that peaks bluer than this is a hot star


def specclip_continuum(wavelength: Float, flux: Float, ivar: Float) -> Float:
    """Upper-envelope continuum (n, n_pix) of flux with ivar (n, n_pix).

    Two things are not SpecCLIP's. It takes 1 where the fit is not positive, which in other units would be
    another value: here it stays as fitted, for `prepare` to mask. And it divides what lies outside both fits by
    the filtered flux itself, which leaves no spectrum: here a straight line joins the fits.
    """
    from scipy.ndimage import median_filter

    smooth = median_filter(_bridged(flux, ivar > 0), size=(1, 7), mode="constant")  # zeros beyond the ends
    blue = (wavelength >= BLUE[0]) & (wavelength <= BLUE[1])
    red = wavelength > RED
    gap = (wavelength > BLUE[1]) & ~red
    continuum = np.ones_like(flux)
    if np.count_nonzero(blue) > 50:
        continuum[:, blue] = _blue(wavelength[blue], smooth[:, blue])
        # a grid's first pixel may lie a hair below the range of the fit
        continuum[:, wavelength < BLUE[0]] = continuum[:, blue][:, :1]
    if np.count_nonzero(red) > 50:
        continuum[:, red] = _red(wavelength[red], smooth[:, red])
        ends = wavelength[blue][-1], wavelength[red][0]
        share = (wavelength[gap] - ends[0]) / (ends[1] - ends[0])
        continuum[:, gap] = continuum[:, blue][:, -1:] * (1 - share) + continuum[:, red][:, :1] * share
    return continuum


def _bridged(flux: Float, good: NDArray[np.bool_]) -> Float:
    """Flux (n, n_pix) with masked pixels replaced by straight lines between their neighbours."""
    bridged = flux.copy()
    pixels = np.arange(flux.shape[1])
    for row in np.flatnonzero(~good.all(axis=1) & good.any(axis=1)):
        bridged[row] = np.interp(pixels, pixels[good[row]], flux[row, good[row]])
    return bridged


class _Polynomial:
    """Least-squares polynomials of one order over fixed pixels, for many rows at once."""

    def __init__(self, x: Float, order: int) -> None:
        # an orthonormal basis on [-1, 1]: the same polynomial as in raw Angstrom, but well conditioned
        scaled = 2 * (x - x[0]) / (x[-1] - x[0]) - 1
        self.basis = np.linalg.qr(np.polynomial.chebyshev.chebvander(scaled, order))[0]

    def __call__(self, y: Float) -> Float:
        fit: Float = (y @ self.basis) @ self.basis.T
        return fit


def _blue(x: Float, y: Float) -> Float:
    polynomial = _Polynomial(x, 5)
    hot = x[np.argmax(polynomial(y), axis=1)] < HOT_PEAK
    y = np.where(hot[:, None], _without_balmer(x, y), y)
    for _ in range(10):
        y = np.maximum(y, polynomial(y))
    return polynomial(y)


def _without_balmer(x: Float, y: Float) -> Float:
    """Flux (n, n_pix) with straight lines over the Balmer windows, between the maxima around their ends."""
    x = x * 10**-LAMOST_STEP  # the published code's displacement on LAMOST's pixels
    bridged = y.copy()
    for window in BALMER:
        inside = (x >= window[0]) & (x <= window[1])
        around = [np.abs(x - end) <= SHOULDER for end in window]
        if all(near.any() for near in around):
            first, last = (y[:, near].max(axis=1, keepdims=True) for near in around)
            share = (x[inside] - window[0]) / (window[1] - window[0])
            bridged[:, inside] = first * (1 - share) + last * share
    return bridged


def _red(x: Float, y: Float) -> Float:
    polynomial = _Polynomial(x, 4)
    for _ in range(9):
        fit = polynomial(y)
        scatter = np.std(y - fit, axis=1, keepdims=True)
        y = np.maximum(np.where(y > fit + 3 * scatter, fit, y), fit)
    return fit
