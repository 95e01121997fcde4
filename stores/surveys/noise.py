"""Errors of spectra that come without: the DER_SNR noise (Stoehr et al. 2008, ASPC 394, 505)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

MAX_SNR = 1000.0  # no real spectrum is better; keeps a noiseless template's ivar finite


def estimate_ivar(flux: Float) -> Float:
    """One ivar per spectrum for all its finite pixels, (n, n_pix) as `flux`; 0 where flux is not finite.

    noise = 1.482602 / sqrt(6) * median |2 f(i) - f(i-2) - f(i+2)|, free of any slope of the flux and of noise
    that is correlated between neighbours.
    """
    ivar = np.zeros_like(flux)
    for row, values in enumerate(flux):
        finite = np.isfinite(values)
        noise = der_noise(values)
        if finite.any():
            noise = max(noise, float(np.median(np.abs(values[finite]))) / MAX_SNR)
        if noise > 0:
            ivar[row, finite] = noise**-2
    return ivar


def der_noise(flux: Float) -> float:
    """Standard deviation of the noise per pixel of one spectrum (n_pix,); 0 if it cannot be told."""
    left, middle, right = flux[:-4], flux[2:-2], flux[4:]
    with np.errstate(invalid="ignore"):
        second = np.abs(2.0 * middle - left - right)
    # three exact zeros in a row of steps are padding, not a spectrum
    used = np.isfinite(second) & ((left != 0) | (middle != 0) | (right != 0))
    return 1.482602 / float(np.sqrt(6.0)) * float(np.median(second[used])) if used.any() else 0.0
