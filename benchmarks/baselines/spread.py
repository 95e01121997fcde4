"""The line spread of prepared spectra: how wide a Gaussian stands between the emulator's spectra and the store's.

Along the spectrum the width is taken as the instrument has it, which for a grating is nearly constant in Angstrom.
From spectrum to spectrum it differs (fibres; where the pixels of the survey fall among those of the grid): what each
has on top of the sharpest is a variance in (km/s)^2, known roughly beforehand and fitted with the star's labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stores.grid import SPEED_OF_LIGHT, Grid
from stores.prepare import Preparation
from stores.prepare.resolution import line_width
from stores.simulate.instrument import FWHM, Instrument, interpolated
from stores.simulate.lsf import MIN_WIDTH, RESOLUTION, fibre_widths

Float = NDArray[np.float64]

PHASES = 1 / np.sqrt(180)  # standard deviation of f (1 - f), f even from 0 to 1: what resampling adds, in pixels^2
UNLIKE = 0.1  # chosen: relative scatter of widths among the spectra of a survey that says nothing of them
WIDEST = 400.0  # km/s that a spectrum may be broader than the sharpest


@dataclass(frozen=True)
class LineSpread:
    """Widths of Gaussians on the pixels of a grid; the average over a grid pixel comes on top.

    least: (n_pix,) Angstrom, of the sharpest spectra
    extra, scatter: (km/s)^2, the variance that a typical spectrum has on top, and by how much spectra differ in it
    """

    least: Float
    extra: float
    scatter: float

    @classmethod
    def of(cls, instrument: Instrument, grid: Grid, preparation: Preparation) -> LineSpread:
        """Of the prepared spectra of an instrument whose line spread is known, a twin's."""
        wavelength = grid.wavelength
        share, sigma, pixel = (np.zeros(grid.n_pix) for _ in range(3))
        for arm in instrument.arms:
            pixels = arm.pixels
            inside = (wavelength >= pixels[0]) & (wavelength <= pixels[-1])
            weight = np.where(inside, interpolated(arm.throughput, wavelength), 1e-9)  # beyond all arms: some value
            share += weight
            sigma += weight * arm.sigma(wavelength)
            pixel += weight * np.interp(wavelength, pixels, np.gradient(pixels))
        sigma, pixel = sigma / share, pixel / share
        least = fibre_widths(instrument.fibre_scatter).min() * sigma
        if preparation.resolving_power is not None:
            asked = line_width(wavelength, preparation.resolving_power)
            sigma, least = np.maximum(sigma, asked), np.maximum(least, asked)
        # a survey's pixel is an average, and resampling averages once more
        extra = sigma**2 - least**2 + pixel**2 / 6
        scatter = np.hypot(2 * instrument.fibre_scatter * sigma**2, PHASES * pixel**2)
        kms2 = (SPEED_OF_LIGHT / wavelength) ** 2
        return cls(least, float(np.median(extra * kms2)), float(np.median(scatter * kms2)))

    @classmethod
    def unknown(cls, grid: Grid) -> LineSpread:
        """Anything from as sharp as the emulator allows on."""
        return cls(sharpest(grid.wavelength, grid.kms / 3), 100.0**2, np.inf)

    @classmethod
    def about(cls, sigma: float, grid: Grid) -> LineSpread:
        """Constant in Angstrom along a grid, of a survey whose spectra are `sigma` km/s wide at the grid's middle."""
        wavelength = grid.wavelength
        middle = float(np.median(wavelength))
        least = (1 - 2 * UNLIKE) * sigma / SPEED_OF_LIGHT * middle
        extra = sigma**2 * (1 - (1 - 2 * UNLIKE) ** 2)
        return cls(np.maximum(least, sharpest(wavelength, grid.kms / 3)), extra, 2 * UNLIKE * sigma**2)


def sharpest(wavelength: Float, step: float) -> Float:
    """Gaussian widths (n_pix,), Angstrom, that the emulator can just be brought to with samples `step` km/s apart."""
    return wavelength * np.hypot(1 / RESOLUTION / FWHM, 1.01 * MIN_WIDTH * step / SPEED_OF_LIGHT)
