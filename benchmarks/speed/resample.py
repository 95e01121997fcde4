"""Resampling and preparing DESI-like spectra onto the lrs grid, against specutils."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import Row, median_seconds
from stores.grid import SPEED_OF_LIGHT, Grid
from stores.prepare import Preparation, prepare
from stores.prepare.resample import resample
from stores.spectrum import Arm, SpectrumBatch

N = 256
OWN = "specutils FluxConservingResampler"


def measure(repeats: int) -> list[Row]:
    """Seconds per spectrum of 7,781 pixels with ivar: resampled, and prepared as for a store."""
    wavelength, flux, ivar, rv = desi_like()
    grid = Grid.parse("lrs")
    target, redshift = grid.wavelength, rv / SPEED_OF_LIGHT
    batch = SpectrumBatch([Arm(wavelength, flux, ivar)], np.arange(N), np.zeros(N), np.zeros(N), rv)
    others = specutils_resampler(wavelength, flux[0], ivar[0], target)
    one, same, shifted, whole, observed = median_seconds(
        repeats,
        others,
        lambda: resample(wavelength, flux, ivar, target),
        lambda: resample(wavelength, flux, ivar, target, redshift),
        lambda: prepare([batch], grid, Preparation()),
        lambda: prepare([batch], grid, Preparation(frame="observed")),
    )
    return [
        Row(OWN, one),
        Row("resample, one operator for all rows", same / N, OWN),
        Row("resample, a redshift for each row", shifted / N, OWN),
        Row("prepare, rest frame and continuum", whole / N, OWN),
        Row("prepare, observed frame and continuum", observed / N, OWN),
    ]


def desi_like() -> tuple[NDArray[Any], ...]:
    """Wavelengths (7781,) of DESI's coadded arms in steps of 0.8 A, flux and ivar (N, 7781), rv (N,)."""
    random = np.random.default_rng(0)
    wavelength = 3600.0 + 0.8 * np.arange(7781)
    flux = 10.0 + random.normal(size=(N, len(wavelength)))
    ivar = np.ones_like(flux)
    ivar[random.random(flux.shape) < 0.01] = 0.0
    return wavelength, flux, ivar, random.uniform(-300.0, 300.0, N)


def specutils_resampler(
    wavelength: NDArray[Any],
    flux: NDArray[Any],
    ivar: NDArray[Any],
    target: NDArray[Any],
) -> Any:
    """A call that resamples the one spectrum with specutils, which knows no mask: its ivar is all positive."""
    from astropy import units
    from astropy.nddata import InverseVariance
    from specutils.manipulation import FluxConservingResampler

    try:
        from specutils import Spectrum
    except ImportError:  # before specutils 2
        from specutils import Spectrum1D as Spectrum

    spectrum = Spectrum(
        spectral_axis=wavelength * units.AA,
        flux=flux * units.Jy,
        uncertainty=InverseVariance(np.where(ivar > 0, ivar, 1.0) / units.Jy**2),
    )
    resampler, axis = FluxConservingResampler(), target * units.AA

    def run() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return resampler(spectrum, axis)

    return run
