"""A survey's observation of stars: their light through dust, Doppler shift, line spread, pixels, noise and mishaps.

    observation = observe(stars, Instrument.load("desi"), Emulator.load(), seed=1)
    observation.arms[0].flux  # (n, n_pix)

Every star has a random generator of its own, of (seed, instrument, star id): its spectrum does not depend on which
others are observed with it, save for the light that a mislabelled object shows: that is another star's of the same
population, so what befalls objects (`Fates`) is decided for a whole population at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from stores.grid import SPEED_OF_LIGHT
from stores.simulate.exposure import Draws, Exposure, calibration, medians, sky_lines, strike
from stores.simulate.extinction import extinction
from stores.simulate.instrument import ArmDesign, Instrument, interpolated
from stores.simulate.lsf import (
    FIBRE_CLASSES,
    Float32,
    check_sharpness,
    doppler,
    fibre_widths,
    log_step,
    reached,
    spread,
)
from stores.spectrum import Arm, SpectrumBatch

if TYPE_CHECKING:
    from stores.simulate.emulator import Emulator
    from stores.simulate.population import Stars

Float = NDArray[np.float64]
Mask = NDArray[np.uint8]

# flux at Earth of G = 0, Vega's: 2.504e-9 erg/s/cm2/A (Riello et al. 2021, A&A 649, A3), here in 1e-17 of that unit
ZERO_POINT = 2.504e8
G_WINDOW = (5600.0, 6800.0)  # chosen: the emulator covers a part of the G band, so the band's middle stands for it
SNR_BAND = (4000.0, 5600.0)  # Angstrom: the built-in grid `lrs`
SNR_5000 = (4950.0, 5050.0)
MAX_HELIO = 30.0  # km/s, the Earth's way round the Sun
LOST_RV = 500.0  # km/s, scatter of velocities measured on nothing
GALAXY_Z = (0.05, 0.10)  # chosen: redshifts that stars classified as galaxies get, least and scatter
LN10 = float(np.log(10.0))


class Bad(IntFlag):
    """Why a pixel is masked; layouts turn these into their survey's bits."""

    NO_DATA = 1
    DEAD = 2
    COSMIC = 4


class Mislabelled(IntEnum):
    """How an object is mislabelled."""

    NO = 0
    OTHER_STAR = 1
    WRONG_CLASS = 2


@dataclass(frozen=True)
class Fates:
    """What befalls objects, (n,) each.

    seen: the stars whose light the fibres took; mislabelled: see `Mislabelled`; unusable: only sky was seen
    missing_arm: the arm of the instrument that gave nothing, -1 for none
    """

    seen: Stars
    mislabelled: NDArray[np.uint8]
    unusable: NDArray[np.bool_]
    missing_arm: NDArray[np.int8]

    @classmethod
    def draw(cls, stars: Stars, instrument: Instrument, seed: int) -> Fates:
        """The fates of a population; only which other star is seen depends on who belongs to it."""
        n, faults = len(stars), instrument.faults
        key = crc32(instrument.name.encode())
        u = np.array([np.random.default_rng([seed, key, 0, int(star)]).random(5) for star in stars.id])
        swapped = (u[:, 0] < faults.mislabelled / 2) & (n > 1)
        misread = u[:, 0] > 1 - faults.mislabelled / 2
        another = (np.arange(n) + 1 + (u[:, 1] * (n - 1)).astype(np.int64)) % n
        lost = np.where(u[:, 3] < faults.missing_arm, (u[:, 4] * len(instrument.arms)).astype(np.int64), -1)
        return cls(
            stars.take(np.where(swapped, another, np.arange(n))),
            (Mislabelled.OTHER_STAR * swapped + Mislabelled.WRONG_CLASS * misread).astype(np.uint8),
            u[:, 2] < faults.unusable,
            lost.astype(np.int8),
        )

    def take(self, rows: NDArray[np.int64] | slice) -> Fates:
        """Only these rows, in this order."""
        rest = (getattr(self, field.name)[rows] for field in fields(self)[1:])
        return Fates(self.seen.take(rows), *rest)


@dataclass(frozen=True)
class ObservedArm:
    """Spectra of one arm, or of joined arms.

    wavelength, sigma: (n_pix,) Angstrom, vacuum, barycentric; sigma is the typical fibre's line spread
    flux, error, model: (n, n_pix) observed flux, its standard deviation, and the flux without noise and residuals,
    in 1e-17 erg/s/cm2/A (times the instrument's unknown factor where fluxes are relative)
    mask, touched: (n, n_pix) `Bad` bits of unusable pixels, and of those spoilt in any of the joined arms
    """

    name: str
    wavelength: Float
    sigma: Float
    flux: Float32
    error: Float32
    model: Float32
    mask: Mask
    touched: Mask

    @property
    def ivar(self) -> Float32:
        """(n, n_pix) inverse variance, 0 where masked."""
        ivar: Float32 = np.divide(1, self.error**2, out=np.zeros_like(self.error), where=self.mask == 0)
        return ivar

    def read(self, wavelength: Float, sigma: Float) -> Arm:
        """What a reader gives of this arm, with these pixels and widths of the line spread."""
        return Arm(wavelength, self.flux.astype(np.float64), self.ivar.astype(np.float64), sigma)


@dataclass(frozen=True)
class Observation:
    """What an instrument recorded of n stars.

    stars: what the survey's target list says of them; fates: what befell them; width: (n,) factor of each fibre's
    line spread; helio: (n,) km/s, the barycentric correction; rv, rv_error: (n,) km/s, as measured
    arms: as the survey releases them; parts: before arms were joined
    snr, snr_5000: (n,) without noise, medians per pixel over SNR_BAND and SNR_5000; 0 without a pixel there
    """

    instrument: Instrument
    seed: int
    stars: Stars
    fates: Fates
    arms: Sequence[ObservedArm]
    parts: Sequence[ObservedArm]
    width: Float
    helio: Float
    rv: Float
    rv_error: Float
    snr: Float
    snr_5000: Float

    def __len__(self) -> int:
        return len(self.stars)

    @property
    def galaxy(self) -> NDArray[np.bool_]:
        """(n,) True where the pipeline takes the star for a galaxy."""
        return self.fates.mislabelled == Mislabelled.WRONG_CLASS

    @property
    def id(self) -> NDArray[np.int64]:
        """(n,) identifiers of the spectra, as the survey numbers them."""
        from stores.simulate.layouts import get_layout

        return get_layout(self.instrument.layout).ids(self.stars, self.seed)


def simulate_batch(stars: Stars, instrument: Instrument, emulator: Emulator, seed: int) -> SpectrumBatch:
    """The spectra that the survey's reader would give of the files of these stars, without the files."""
    from stores.simulate.layouts import get_layout

    return get_layout(instrument.layout).batch(observe(stars, instrument, emulator, seed))


def observe(
    stars: Stars,
    instrument: Instrument,
    emulator: Emulator,
    seed: int,
    *,
    fates: Fates | None = None,
    noise: bool = True,
) -> Observation:
    """Observe stars; values do not depend on how a population is cut into calls if `fates` is drawn for all of it.

    noise: False leaves out noise, sky residuals, cosmic rays, dead pixels and calibration errors; errors stay
    Raises InputError for an instrument that the emulator cannot serve.
    """
    fates = Fates.draw(stars, instrument, seed) if fates is None else fates
    seen, samples = fates.seen, emulator.wavelength
    check_sharpness(instrument, samples)
    light = doppler(_apparent_flux(seen, emulator), seen.rv, samples)
    draws = Draws(stars.id, instrument, seed)
    one, helio_z, exposure_z, grey_z, rv_z = draws.next(5).T
    fibre = np.argmin(np.abs(one[:, None] - np.linspace(-1.5, 1.5, FIBRE_CLASSES)), axis=1)
    widths = fibre_widths(instrument.fibre_scatter)
    helio = np.clip(MAX_HELIO / 2 * helio_z, -MAX_HELIO, MAX_HELIO)
    exposure = Exposure.of(instrument, samples, light, seen.gmag, seen.ebv, exposure_z)
    light[fates.unusable] = 0.0
    arms = []
    for number, design in enumerate(instrument.arms):
        pixels, sigma = design.pixels, design.sigma(design.pixels)
        flux = through(design, light, samples, widths[fibre], seen.ebv)
        covered = reached(pixels, sigma * widths[-1], samples, seen.rv)
        covered &= (fates.missing_arm != number)[:, None]
        flux[~covered] = 0.0
        bright, residual = sky_lines(instrument, design, widths[fibre], helio, draws.next(len(instrument.sky.lines)))
        error = exposure.error(design, flux, bright)
        factor = np.exp(instrument.flux_errors.grey * grey_z[:, None]).astype(np.float32)
        shape = calibration(instrument, pixels, draws.next(instrument.flux_errors.order))
        factor = factor * shape if noise else np.broadcast_to(factor, flux.shape)
        model, error, mask = flux * factor, error * factor, np.where(covered, 0, Bad.NO_DATA).astype(np.uint8)
        record = model
        if noise:
            dead, marked, height = strike(instrument, draws.field[number])
            record = model + exposure.sky_flux(residual) * factor + error * (draws.noise[number] + height)
            record[~covered | dead] = 0.0
            mask |= np.where(covered, Bad.DEAD * dead + Bad.COSMIC * marked, 0).astype(np.uint8)
        arms.append(ObservedArm(design.name, pixels, sigma, record, error, model, mask, mask))
    parts, arms = arms, [_joined(arms, instrument)] if instrument.joined else arms
    snr, snr_5000 = (_snr(arms, band) for band in (SNR_BAND, SNR_5000))
    rv, rv_error = _velocities(instrument, fates, snr_5000, rv_z)
    return Observation(instrument, seed, stars, fates, arms, parts, widths[fibre], helio, rv, rv_error, snr, snr_5000)


def through(design: ArmDesign, light: Float32, samples: Float, width: Float, ebv: Float) -> Float32:
    """Light (n, n_in) at `samples` behind dust, the line spread and the pixels of an arm, (n, n_pix).

    width: (n,) factors of the line spread, of `fibre_widths`
    """
    flux = np.empty((len(light), len(design.pixels)), dtype=np.float32)
    for factor in np.unique(width):
        operator = spread(design, float(factor), float(samples[0]), log_step(samples), len(samples))
        flux[width == factor] = (operator @ light[width == factor].T).T
    dust: Float32 = np.exp(np.outer(-0.4 * LN10 * ebv, extinction(design.pixels)).astype(np.float32))
    return flux * dust


def _apparent_flux(stars: Stars, emulator: Emulator) -> Float32:
    """Flux at Earth (n, n_in) at the emulator's wavelengths and at rest, without dust in the way.

    Its scale is such that with dust it has the star's G magnitude.
    """
    import torch

    from stores.simulate.emulator import one_thread

    labels = torch.as_tensor(stars.labels, dtype=torch.float32)
    with torch.inference_mode(), one_thread():
        # float32 holds surface fluxes well, but not their squares
        flux: Float32 = (emulator.flux(labels) * 1e-6).numpy()
    inside = (emulator.wavelength > G_WINDOW[0]) & (emulator.wavelength < G_WINDOW[1])
    dust = np.exp(np.outer(-0.4 * LN10 * stars.ebv, extinction(emulator.wavelength[inside])))
    level = ZERO_POINT * 10 ** (-0.4 * stars.gmag) / np.mean(flux[:, inside] * dust, axis=1)
    return flux * level[:, None].astype(np.float32)


def _joined(arms: Sequence[ObservedArm], instrument: Instrument) -> ObservedArm:
    """Arms on one lattice as one arm: the mean weighted by inverse variance where they overlap."""
    step = float(np.log10(arms[0].wavelength[1] / arms[0].wavelength[0]))
    places = [np.round(np.log10(arm.wavelength) / step).astype(np.int64) for arm in arms]
    lattice = np.arange(min(p[0] for p in places), max(p[-1] for p in places) + 1)
    shape = (len(arms[0].flux), len(lattice))
    total, weight, model, known = (np.zeros(shape, dtype=np.float32) for _ in range(4))
    mask, touched = np.zeros(shape, dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
    sigma, share = np.zeros(len(lattice)), np.zeros(len(lattice))
    for arm, place, design in zip(arms, places, instrument.arms, strict=True):
        cut = slice(place[0] - lattice[0], place[-1] - lattice[0] + 1)
        present = np.where(arm.mask & Bad.NO_DATA, 0, 1 / arm.error**2)
        model[:, cut] += present * arm.model
        known[:, cut] += present
        weight[:, cut] += arm.ivar
        total[:, cut] += arm.ivar * arm.flux
        mask[:, cut] |= arm.mask
        typical = interpolated(design.throughput, arm.wavelength)  # a typical star's, not this batch's
        sigma[cut] += typical * arm.sigma
        share[cut] += typical
        touched[:, cut] |= np.where(arm.mask & Bad.NO_DATA, 0, arm.mask).astype(np.uint8)
    good, covered = weight > 0, known > 0
    mask[good] = 0
    mask[~covered] = Bad.NO_DATA
    touched[~covered] = Bad.NO_DATA
    # a pixel that is masked in all arms still has the error that it would have had
    error = np.sqrt(1 / np.where(good, weight, np.where(covered, known, 1.0)), dtype=np.float32)
    flux = np.divide(total, weight, out=np.zeros_like(total), where=good)
    model = np.divide(model, known, out=model, where=covered)
    wavelength = np.power(10.0, step * lattice, dtype=np.float64)
    return ObservedArm("joined", wavelength, sigma / share, flux, error, model, mask, touched)


def _snr(arms: Sequence[ObservedArm], band: tuple[float, float]) -> Float:
    ratios = [np.where(arm.mask & Bad.NO_DATA, np.nan, arm.model / arm.error) for arm in arms]
    return medians([arm.wavelength for arm in arms], ratios, band)


def _velocities(instrument: Instrument, fates: Fates, snr: Float, z: Float) -> tuple[Float, Float]:
    """Measured radial velocities and their errors (n,), km/s."""
    spread_at_snr = instrument.velocities.at_snr_10 * 10 / np.maximum(snr, 1.0)
    error = np.hypot(instrument.velocities.floor, spread_at_snr)
    rv = fates.seen.rv + error * z
    rv = np.where(fates.unusable, LOST_RV * z, rv)
    galaxy = fates.mislabelled == Mislabelled.WRONG_CLASS
    return np.where(galaxy, SPEED_OF_LIGHT * (GALAXY_Z[0] + GALAXY_Z[1] * np.abs(z)), rv), error
