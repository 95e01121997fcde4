"""What sky, detector and calibration add to a star's light: the noise budget, sky lines, cosmic rays, flux errors.

Counts in a pixel are flux times gain; the gain is known up to the exposure, and that follows from the wanted
signal-to-noise ratio S of the reference pixel, where a star of N counts has N = S sqrt(N + sky + read_noise^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.grid import SPEED_OF_LIGHT, pixel_edges
from stores.simulate.extinction import extinction
from stores.simulate.instrument import ArmDesign, Instrument, interpolated
from stores.simulate.lsf import Float32

Float = NDArray[np.float64]

REFERENCE_WIDTH = 50.0  # Angstrom to either side of the wavelength at which S/N is given
LINE_REACH = 5.0  # sigma at which a sky line ends


class Draws:
    """Random numbers of n stars, of generators seeded by (seed, instrument, star id).

    normal: (n, k) for all that a star has one of; noise, field: for each arm (n, n_pix), normal and uniform
    """

    def __init__(self, ids: NDArray[np.int64], instrument: Instrument, seed: int) -> None:
        key = crc32(instrument.name.encode())
        sizes = [len(design.pixels) for design in instrument.arms]
        per_arm = instrument.flux_errors.order + len(instrument.sky.lines)
        self.normal = np.empty((len(ids), 5 + per_arm * len(sizes)))
        self.noise: list[Float32] = [np.empty((len(ids), size), dtype=np.float32) for size in sizes]
        self.field: list[Float32] = [np.empty((len(ids), size), dtype=np.float32) for size in sizes]
        for row, star in enumerate(ids):
            random = np.random.default_rng([seed, key, 1, int(star)])
            random.standard_normal(out=self.normal[row])
            for noise, field in zip(self.noise, self.field, strict=True):
                random.standard_normal(out=noise[row], dtype=np.float32)
                random.random(out=field[row], dtype=np.float32)
        self._used = 0

    def next(self, count: int) -> Float:
        """The next `count` normal numbers of every star, (n, count)."""
        self._used += count
        return self.normal[:, self._used - count : self._used]


@dataclass(frozen=True)
class Exposure:
    """How many counts a unit of flux gives n stars, and what the sky adds.

    scale: (n, 1) counts per unit flux and relative gain; sky: (n, 1) counts of the sky's continuum at gain 1
    reference: the relative gain is 1 at this wavelength, pixel width and throughput
    """

    instrument: Instrument
    scale: Float32
    sky: Float32
    reference: tuple[float, float, float]

    @classmethod
    def of(cls, instrument: Instrument, samples: Float, light: Float32, gmag: Float, ebv: Float, z: Float) -> Exposure:
        """The exposure of stars with `light` (n, n_in) at `samples`, before dust; z: (n,) normal numbers."""
        noise = instrument.noise
        near = np.abs(samples - noise.wavelength) < REFERENCE_WIDTH
        arms = [arm for arm in instrument.arms if arm.start <= noise.wavelength <= arm.stop]
        if not near.any() or not arms:
            raise InputError(
                f"instrument {instrument.name} states its noise at {noise.wavelength:g} A, where "
                f"{'no arm is' if near.any() else 'the synthetic spectra are not'}; choose another wavelength."
            )
        at = np.array([noise.wavelength])
        reddening = 10 ** (-0.4 * ebv * extinction(at))
        flux = np.median(light[:, near], axis=1) * reddening
        read = noise.read_noise**2
        typical = _counts(noise.snr, 10 ** (0.4 * (noise.gmag - noise.sky_gmag)), read)
        ratio = 10 ** (0.4 * (gmag - noise.sky_gmag))  # of sky to star
        star = typical * 10 ** (-0.4 * (gmag - noise.gmag)) * np.exp(noise.scatter * z)
        snr = np.clip(star / np.sqrt(star * (1 + ratio) + read), *noise.snr_range)
        star = _counts(snr, ratio, read)
        best = max(arms, key=lambda arm: float(interpolated(arm.throughput, at)[0]))
        width = float(np.interp(noise.wavelength, best.pixels, np.gradient(best.pixels)))
        reference = (noise.wavelength, width, float(interpolated(best.throughput, at)[0]))
        scale, sky = ((values[:, None].astype(np.float32)) for values in (star / flux, star * ratio))
        return cls(instrument, scale, sky, reference)

    def gain(self, design: ArmDesign) -> Float32:
        """Relative gain (n_pix,): photons in a pixel, not energy per Angstrom."""
        pixels = design.pixels
        wavelength, width, throughput = self.reference
        gain = pixels * np.diff(pixel_edges(pixels)) * interpolated(design.throughput, pixels)
        return (gain / (wavelength * width * throughput)).astype(np.float32)

    def error(self, design: ArmDesign, flux: Float32, lines: Float32) -> Float32:
        """Standard deviation of flux (n, n_pix); lines: sky lines in units of the sky's continuum."""
        gain = self.gain(design)
        light = np.maximum(flux, 0)  # the emulator's is a trace below 0 in the cores of some lines
        counts = np.float32(self.instrument.noise.read_noise**2) + gain * (self.scale * light + self.sky * (1 + lines))
        return np.sqrt(counts) / (self.scale * gain)

    def sky_flux(self, lines: Float32) -> Float32:
        """Sky light (n, n_pix), in units of the sky's continuum, as flux of the star."""
        return lines * (self.sky / self.scale)


def _counts(snr: Float | float, ratio: Float | float, read: float) -> Float:
    """Counts of a star that give S/N beside `ratio` times as much sky and a read-out variance."""
    half = np.square(snr) * (1 + np.asarray(ratio)) / 2
    return half + np.sqrt(half**2 + np.square(snr) * read)


def sky_lines(
    instrument: Instrument, design: ArmDesign, width: Float, helio: Float, z: Float
) -> tuple[Float32, Float32]:
    """Sky lines (n, n_pix) over the sky's continuum, and what sky subtraction leaves of them.

    width: (n,) of the line spread; helio: (n,) km/s that the lines were shifted by together with the star;
    z: (n, n_lines) normal numbers
    """
    pixels = design.pixels
    light = np.zeros((len(helio), len(pixels)), dtype=np.float32)
    residual = np.zeros_like(light)
    if not instrument.sky.lines:
        return light, residual
    lines, strength = np.array(instrument.sky.lines).T
    own = (lines > pixels[0]) & (lines < pixels[-1])
    centre = lines[own] * (1 + helio[:, None] / SPEED_OF_LIGHT)  # (n, n_lines)
    sigma = width[:, None] * design.sigma(lines[own])
    step = np.interp(lines[own], pixels, np.gradient(pixels))
    reach = int(np.ceil(LINE_REACH * float(np.max(sigma / step, initial=0.0))))
    column = np.searchsorted(pixels, centre)[:, :, None] + np.arange(-reach, reach + 1)
    inside = (column >= 0) & (column < len(pixels))
    column = np.clip(column, 0, len(pixels) - 1)
    profile = np.exp(-0.5 * ((pixels[column] - centre[:, :, None]) / sigma[:, :, None]) ** 2)
    profile *= (strength[own] / (sigma * np.sqrt(2 * np.pi)))[:, :, None] * inside
    row = np.broadcast_to(np.arange(len(helio))[:, None, None], column.shape)
    np.add.at(light, (row, column), profile)
    np.add.at(residual, (row, column), profile * (instrument.sky.residual * z[:, own])[:, :, None])
    return light, residual


def calibration(instrument: Instrument, pixels: Float, z: Float) -> Float32:
    """Factors (n, n_pix) of the flux calibration's error; lower orders dominate. z: (n, order) normal numbers."""
    order = instrument.flux_errors.order
    k = np.arange(1, order + 1)
    share = k**-2.0 / np.sum(k**-2.0)  # of the variance over the arm; that of P_k is 1 / (2 k + 1)
    terms = instrument.flux_errors.shape * np.sqrt(share * (2 * k + 1)) * z
    x = np.linspace(-1, 1, len(pixels))
    basis = np.polynomial.legendre.legvander(x, order)[:, 1:] if order else np.zeros((len(pixels), 0))
    return np.exp(terms @ basis.T).astype(np.float32)


def strike(instrument: Instrument, field: Float32) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Float32]:
    """Dead pixels, marked cosmic rays (n, n_pix) and the height of all cosmic rays in standard deviations.

    field: (n, n_pix) uniform numbers from 0 to 1
    """
    faults = instrument.faults
    dead = field > np.float32(1 - faults.dead_pixels)
    hit = field < np.float32(faults.cosmic_rays)
    missed = field < np.float32(faults.cosmic_rays * faults.cosmic_rays_missed)
    height = np.zeros_like(field)
    # where a number is small, the place within its range is a uniform number again
    share = field[hit] / np.where(missed[hit], faults.cosmic_rays * faults.cosmic_rays_missed, faults.cosmic_rays)
    height[hit] = 5.0 - 30.0 * np.log(np.maximum(share, 1e-6))
    return dead, hit & ~missed, height


def medians(wavelength: Sequence[Float], ratio: Sequence[Float32], band: tuple[float, float]) -> Float:
    """Median (n,) of ratios (n, n_pix) over all arms' pixels within a band; NaN is left out, 0 if nothing is left."""
    inside = [(w >= band[0]) & (w <= band[1]) for w in wavelength]
    values = np.concatenate([r[:, i] for r, i in zip(ratio, inside, strict=True)], axis=1)
    empty = np.all(np.isnan(values), axis=1) if values.shape[1] else np.ones(len(values), dtype=bool)
    values = np.where(empty[:, None], 0.0, values) if values.shape[1] else np.zeros((len(values), 1))
    result: Float = np.nanmedian(values, axis=1)
    return result
