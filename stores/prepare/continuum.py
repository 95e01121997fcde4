"""Continuum normalisation by a smooth local mean that does not move with the noise.

The continuum at a pixel is a straight line fitted to the pixels around it, weighted by a wide Gaussian
(local linear regression; Cleveland 1979, JASA 74, 829, with the Gaussian weights of Ho et al. 2017,
arXiv:1602.00303). It is linear in the flux and its weights do not depend on the flux's own noise, so noise
averages out and the level is the same at any S/N, unlike an upper envelope, which rises with the noise. It is
a pseudo-continuum: it runs through the lines, alike for all surveys, since it is much wider than any
line-spread function.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
FLOOR = 0.1  # noise below this share of the level does not change a pixel's weight
HIGHEST = 10.0  # times the 95th percentile: more than that is no continuum
SPIKE = 5.0  # pixels this many times (noise + 20 % of the level) off are left out: cosmic rays, sky residuals


def smooth_continuum(flux: Float, ivar: Float, width: float) -> Float:
    """Pseudo-continuum (n, n_pix) of flux with ivar (n, n_pix) on a grid constant in log wavelength.

    width: Gaussian sigma of the smoothing in pixels.
    """
    used = ivar > 0
    level, noise2, weight = _weights(flux, ivar)
    # a strong spike must not carry its neighbours over the limit with it
    top = HIGHEST * typical_flux(flux, used, 0.95)
    first = local_line(np.clip(flux, -top, top), weight, width)
    off = np.abs(flux - first) > SPIKE * np.sqrt(noise2 + (0.2 * level) ** 2)
    if not np.any(off & used):
        return first
    return local_line(flux, np.where(off, 0.0, weight), width)


def pixel_weights(flux: Float, ivar: Float) -> Float:
    """How much each pixel (n, n_pix) counts in the continuum unless it is a spike: 1 without noise, 0 if masked."""
    return _weights(flux, ivar)[2]


def _weights(flux: Float, ivar: Float) -> tuple[Float, Float, Float]:
    """Level (n, 1) of spectra, variance (n, n_pix) of their pixels and how much each counts."""
    used = ivar > 0
    level = typical_flux(flux, used)
    noise2 = np.divide(1.0, ivar, out=np.zeros_like(ivar), where=used)
    return level, noise2, np.where(used, 1.0 / (1.0 + noise2 / (FLOOR * level) ** 2), 0.0)


def typical_flux(flux: Float, used: NDArray[np.bool_], share: float = 0.5) -> Float:
    """Median (or another quantile) of the absolute flux of the used pixels of each spectrum, (n, 1); never 0."""
    ranked = np.sort(np.where(used, np.abs(flux), np.inf), axis=1)  # masked pixels last
    place = share * np.maximum(used.sum(axis=1) - 1, 0)
    low = place.astype(np.intp)
    rows = np.arange(len(flux))
    below, above = ranked[rows, low], ranked[rows, np.ceil(place).astype(np.intp)]
    none = ~used.any(axis=1)
    below[none] = above[none] = 1.0
    typical = below + (above - below) * (place - low)
    return np.where(typical > 1e-100, typical, 1.0)[:, None]


def local_line(flux: Float, weight: Float, width: float) -> Float:
    """Value at each pixel of the straight line fitted around it with Gaussian weights; 0 where undefined.

    flux, weight: (..., n_pix), broadcast against each other; for given weights the result is linear in the flux
    """
    from scipy.fft import irfft, next_fast_len, rfft

    n_pix = flux.shape[-1]
    reach = int(np.ceil(4 * width))
    size = next_fast_len(n_pix + reach, real=True)
    x = np.arange(-reach, reach + 1) / width
    gauss = np.exp(-0.5 * x**2)
    # sums over the neighbours i of pixel j of w_i x^p and w_i f_i x^p, with x = (i - j) / width
    kernel = np.zeros((3, size))
    for power in range(3):
        kernel[power, np.arange(-reach, reach + 1)] = gauss * (-x) ** power
    k0, k1, k2 = rfft(kernel, axis=-1)
    w = rfft(weight, size, axis=-1)
    wf = rfft(weight * flux, size, axis=-1)

    def back(product: NDArray[np.complex128]) -> Float:
        result: Float = irfft(product, size, axis=-1)[..., :n_pix]
        return result

    s0, s1, s2, t0, t1 = back(w * k0), back(w * k1), back(w * k2), back(wf * k0), back(wf * k1)
    determinant = s0 * s2 - s1**2
    # few or one-sided neighbours leave the slope undefined: fall back on their mean
    sloped = determinant > 1e-3 * s0**2
    line = np.divide(s2 * t0 - s1 * t1, determinant, out=np.zeros_like(t0), where=sloped)
    mean = np.divide(t0, s0, out=np.zeros_like(t0), where=s0 > 1e-9)
    return np.where(sloped, line, mean)
