"""From a spectrum sampled in ln wavelength to an arm's pixels: Doppler shift, line spread, average over pixels.

Shifts are phases of a Fourier transform, exact for a spectrum that its samples resolve. The line spread is a
Gaussian of the width that is missing in quadrature to the arm's own, integrated over each pixel: one sparse matrix
for each class of fibres, shared by all stars, instead of one a star. Rows of the matrix are sums over samples, which
is as exact as the samples are: the kernel is wider than `MIN_WIDTH` samples, so nothing aliases above 1e-4.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.grid import SPEED_OF_LIGHT, pixel_edges
from stores.simulate.instrument import FWHM, ArmDesign, Instrument

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

FIBRE_CLASSES = 5  # widths of the line spread among the fibres, evenly from -1.5 to 1.5 times the scatter
REACH = 5.0  # sigma at which kernels end
RESOLUTION = 6000.0  # lambda / FWHM of the emulator's spectra
MIN_WIDTH = 0.8  # samples, of the Gaussian that is still missing


def fibre_widths(scatter: float) -> Float:
    """Factors (FIBRE_CLASSES,) by which the line spread of a class of fibres is wider than the arm's."""
    return 1.0 + scatter * np.linspace(-1.5, 1.5, FIBRE_CLASSES)


def log_step(samples: Float) -> float:
    """The step in ln wavelength of samples (n_in,) that are even in it."""
    return float(np.log(samples[-1] / samples[0])) / (len(samples) - 1)


def doppler(flux: Float32, velocity: Float, samples: Float) -> Float32:
    """Spectra (n, n_in) at samples even in ln wavelength, seen at velocities (n,) in km/s at the same samples.

    Beyond the ends the spectra are continued by a smooth bridge from last to first sample, which only the samples
    that lie outside after the shift show.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    n_in = flux.shape[1]
    size = next_fast_len(n_in + 128, real=True)
    bridge = (0.5 - 0.5 * np.cos(np.pi * np.arange(1, size - n_in + 1) / (size - n_in + 1))).astype(np.float32)
    closed = np.concatenate([flux, flux[:, -1:] + (flux[:, :1] - flux[:, -1:]) * bridge], axis=1)
    shift = np.log1p(velocity / SPEED_OF_LIGHT) / log_step(samples)
    phase = np.exp(-2j * np.pi / size * shift[:, None] * np.arange(size // 2 + 1)).astype(np.complex64)
    shifted: Float32 = irfft(rfft(closed, axis=1) * phase, size, axis=1)[:, :n_in]
    return shifted


def check_sharpness(instrument: Instrument, samples: Float) -> None:
    """Refuse an instrument too sharp for spectra at samples (n_in,), whichever of its fibres a run will use.

    Raises InputError.
    """
    for arm in instrument.arms:
        _missing(arm, float(fibre_widths(instrument.fibre_scatter).min()), samples)


def _missing(arm: ArmDesign, width: float, samples: Float) -> tuple[Float, NDArray[np.bool_]]:
    """Widths (n_pix,), Angstrom, that samples lack of a fibre's line spread, and where samples reach the pixels."""
    pixels, step = arm.pixels, log_step(samples)
    edges = pixel_edges(pixels)
    wanted = width * arm.sigma(pixels)
    missing2 = wanted**2 - (pixels / RESOLUTION / FWHM) ** 2
    seen = (edges[1:] > samples[0]) & (edges[:-1] < samples[-1])
    sharp = seen & (missing2 < (MIN_WIDTH * step * pixels) ** 2)
    if sharp.any():
        power = np.max(pixels[sharp] / (FWHM * wanted[sharp]))
        raise InputError(
            f"arm {arm.name} has a resolving power of {power:.0f} in its sharpest fibres, too close to the synthetic "
            f"spectra's {RESOLUTION:.0f}; give it less."
        )
    return np.sqrt(np.where(seen, missing2, 1.0)), seen


@lru_cache(maxsize=64)
def spread(arm: ArmDesign, width: float, start: float, step: float, n_in: int) -> csr_array:
    """The sparse matrix (n_pix, n_in) from samples at start * exp(i step) to an arm's pixels.

    width: factor on the arm's line spread
    Pixels that the samples do not reach have empty rows. Raises InputError for an arm too sharp for the samples.
    """
    samples = start * np.exp(step * np.arange(n_in))
    return gaussian_means(arm.pixels, *_missing(arm, width, samples), samples)


def gaussian_means(pixels: Float, sigma: Float, seen: NDArray[np.bool_], samples: Float) -> csr_array:
    """The sparse matrix (n_pix, n_in) from samples to means over pixels, smoothed by Gaussians of sigma (n_pix,).

    samples: (n_in,) even in ln wavelength, and closer than sigma; seen: (n_pix,), other pixels have empty rows
    """
    from scipy.sparse import csr_array
    from scipy.special import erf

    edges = pixel_edges(pixels)
    first = np.searchsorted(samples, edges[:-1] - REACH * sigma)
    last = np.searchsorted(samples, edges[1:] + REACH * sigma)
    count = np.where(seen, last - first, 0)
    indptr = np.concatenate([[0], np.cumsum(count)])
    row = np.repeat(np.arange(len(sigma)), count)
    column = np.arange(indptr[-1]) - np.repeat(indptr[:-1], count) + np.repeat(first, count)
    to_edge = np.sqrt(2.0) * sigma[row]
    kernel = erf((edges[row + 1] - samples[column]) / to_edge) - erf((edges[row] - samples[column]) / to_edge)
    kernel *= samples[column]  # samples are farther apart in Angstrom to the red
    total = np.bincount(row, kernel, minlength=len(sigma))
    shape = (len(sigma), len(samples))
    return csr_array(((kernel / total[row]).astype(np.float32), column, indptr), shape=shape)


def reached(pixels: Float, sigma: Float, wavelength: Float, velocity: Float) -> NDArray[np.bool_]:
    """(n, n_pix) True where a pixel's line spread lies within wavelengths (n_in,), at rest and at velocities (n,)."""
    edges = pixel_edges(pixels)
    stretch = 1.0 + velocity[:, None] / SPEED_OF_LIGHT
    # shifted light is known at the wavelengths of the unshifted only
    low, high = wavelength[0] * np.maximum(stretch, 1.0), wavelength[-1] * np.minimum(stretch, 1.0)
    inside: NDArray[np.bool_] = (edges[:-1] - REACH * sigma > low) & (edges[1:] + REACH * sigma < high)
    return inside
