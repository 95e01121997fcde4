"""Degradation to a common resolving power with a Gaussian, before resampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stores.spectrum import Arm

Float = NDArray[np.float64]
SIGMA_PER_FWHM = 1.0 / 2.354820045
TOLERANCE = 1.02  # a spectrum up to 2 % less sharp than asked still counts as matched
REACH = 4.0  # the kernel is cut at this many sigma


def line_width(wavelength: Float, resolving_power: float) -> Float:
    """Gaussian sigma (Angstrom) of the line-spread function at a resolving power lambda / FWHM."""
    return wavelength / resolving_power * SIGMA_PER_FWHM


def kernel_reach(resolving_power: float) -> float:
    """How far, as a share of the wavelength, pixels can move others when they are smoothed."""
    return REACH / resolving_power * SIGMA_PER_FWHM


def degrade(arm: Arm, resolving_power: float) -> tuple[Arm, NDArray[np.bool_]]:
    """Smooth an arm to `resolving_power`; second, (n, n_pix) True where an unmasked pixel is less sharp.

    The kernel's width is what is missing in quadrature at each pixel. Masked pixels have no weight; variances
    are propagated as for independent pixels (the smoothed pixels are then correlated, which ivar cannot say).
    """
    n, n_pix = arm.flux.shape
    used = arm.ivar > 0
    if arm.sigma is None:
        return arm, used
    wanted = line_width(arm.wavelength, resolving_power)
    own = np.broadcast_to(arm.sigma, (n, n_pix))
    short = (own > TOLERANCE * wanted) & used
    missing = np.sqrt(np.maximum(wanted**2 - own**2, 0.0))  # (n, n_pix)
    step = np.gradient(arm.wavelength)
    reach = min(int(np.ceil(REACH * float(np.max(missing / step, initial=0.0)))), n_pix - 1)
    if reach == 0:
        return arm, short

    width = np.maximum(missing, 1e-3 * step)  # a kernel this narrow is the identity
    value, variance = np.where(used, arm.flux, 0.0), np.zeros_like(arm.ivar)
    np.divide(1.0, arm.ivar, out=variance, where=used)
    total, weight, flux, spread = (np.zeros((n, n_pix)) for _ in range(4))
    for shift in range(-reach, reach + 1):
        to = slice(max(0, -shift), n_pix - max(0, shift))
        source = slice(max(0, shift), n_pix - max(0, -shift))
        distance = (arm.wavelength[source] - arm.wavelength[to]) / width[:, to]
        # cut by each pixel's own width: others in the batch may need a longer loop
        kernel = np.where(np.abs(distance) <= REACH, np.exp(-0.5 * distance**2) * step[source], 0.0)
        total[:, to] += kernel
        weight[:, to] += kernel * used[:, source]
        flux[:, to] += kernel * value[:, source]
        spread[:, to] += kernel**2 * variance[:, source]
    good = (weight >= 0.5 * total) & (spread > 0)
    smooth = np.divide(flux, weight, out=np.zeros_like(flux), where=good)
    ivar = np.divide(weight**2, spread, out=np.zeros_like(flux), where=good)
    return Arm(arm.wavelength, smooth, ivar, np.maximum(own, wanted)), short
