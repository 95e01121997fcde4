"""Preparation: spectra as observed -> spectra on a common grid, at rest, normalised. The same for all surveys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from stores.errors import OptionError
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT, Grid
from stores.prepare.continuum import smooth_continuum, typical_flux
from stores.prepare.resample import interpolate, resample
from stores.prepare.resolution import degrade, kernel_reach
from stores.prepare.specclip import specclip_continuum
from stores.provenance import fingerprint
from stores.spectrum import Arm, Float, SpectrumBatch

RECIPE = 1  # raised whenever the same options would give other numbers
LOW_SNR = 5.0
LARGEST = 1e38  # what the float32 of a store holds, as its inverse is the smallest


@dataclass(frozen=True)
class Preparation:
    """How spectra are brought onto the common grid."""

    frame: Literal["rest", "observed"] = "rest"
    """Shift to the rest frame by the radial velocity, or leave the observed (barycentric) frame."""
    continuum: Literal["smooth", "specclip", "none"] = "smooth"
    """Normalisation: `smooth` does not move with the noise; `specclip` is SpecCLIP's upper envelope."""
    continuum_width: float = 4000.0
    """Gaussian sigma of the `smooth` continuum, km/s."""
    resolving_power: float | None = None
    """Degrade to this resolving power (lambda / FWHM) where the spectrum's own is higher."""
    resampling: Literal["conserving", "linear"] = "conserving"
    """Onto the grid by conserving flux, or by linear interpolation in log wavelength as SpecCLIP was trained."""

    def __post_init__(self) -> None:
        if not 300 <= self.continuum_width <= 100_000:
            raise OptionError(f"continuum width {self.continuum_width:g} km/s must lie between 300 and 100000.")
        if self.resolving_power is not None and not 50 <= self.resolving_power <= 500_000:
            raise OptionError(f"resolving power {self.resolving_power:g} must lie between 50 and 500000.")

    def attributes(self, grid: Grid) -> dict[str, Any]:
        """What a store says of its preparation; the fingerprint leaves out the grid's ends but not its step."""
        options = {**asdict(self), "step": grid.step, "medium": "vacuum", "recipe": RECIPE}
        if self.resampling == "conserving":  # which is what stores and models that do not name it were made with
            del options["resampling"]
        return {**options, "fingerprint": fingerprint(options)}

    @classmethod
    def from_attributes(cls, attributes: dict[str, Any]) -> Preparation:
        """The preparation that a store or model names."""
        named = {"resampling": "conserving", **attributes}
        return cls(**{name: named[name] for name in cls.__dataclass_fields__})


def prepare(batches: Sequence[SpectrumBatch], grid: Grid, preparation: Preparation) -> SpectrumBatch:
    """Bring batches of one survey onto the grid, as one batch with one arm.

    flux: (n, grid.n_pix), normalised by the continuum, 1 where masked (0 with continuum 'none')
    ivar: (n, grid.n_pix), of the normalised flux; 0 where masked
    snr: (n,) median of flux * sqrt(ivar) over the unmasked pixels of the grid, per grid pixel
    """
    working, inside = working_grid(grid, preparation)
    parts = [_on_grid(batch, working, preparation) for batch in batches]
    flux = np.concatenate([part.flux for part in parts])
    ivar = np.concatenate([part.ivar for part in parts])
    if preparation.continuum != "none":
        continuum = _continuum(working, flux, ivar, preparation)
        usable = continuum > 1e-3 * typical_flux(flux, ivar > 0)
        lost = np.any(~usable[:, inside] & (ivar[:, inside] > 0), axis=1)
        ivar = np.where(usable, ivar * continuum**2, 0.0)
        flux = np.divide(flux, continuum, out=np.ones_like(flux), where=usable & (ivar > 0))
    else:
        lost = np.zeros(len(flux), dtype=bool)
    flux, ivar = _in_float32(flux[:, inside], ivar[:, inside], preparation)
    ready = SpectrumBatch(
        [Arm(grid.wavelength, flux, ivar)],
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("id", "ra", "dec", "rv")),
    )
    ready.flags = np.concatenate([part.flags for part in parts])
    ready.snr = _snr(flux, ivar)
    ready.flag(lost, Flag.BAD_CONTINUUM)
    valid = np.mean(ivar > 0, axis=1)
    ready.flag(valid == 0, Flag.NO_VALID_PIXELS)
    ready.flag(valid < 0.5, Flag.MOSTLY_MASKED)
    ready.flag(ready.snr < LOW_SNR, Flag.LOW_SNR)
    return ready


def working_grid(grid: Grid, preparation: Preparation) -> tuple[Grid, slice]:
    """The grid with what the continuum needs beyond its ends, so that it has no edges where data go on."""
    if preparation.continuum == "smooth":
        reach = 10 ** (3 * width_in_pixels(grid, preparation) * grid.step)
        return grid.extended(grid.wavelength[0] / reach, grid.wavelength[-1] * reach)
    if preparation.continuum == "specclip":
        return grid.extended(3700.0, 9100.0)
    return grid, slice(0, grid.n_pix)


def width_in_pixels(grid: Grid, preparation: Preparation) -> float:
    """The Gaussian sigma of the `smooth` continuum in pixels of a grid."""
    return preparation.continuum_width / grid.kms


def _continuum(grid: Grid, flux: Float, ivar: Float, preparation: Preparation) -> Float:
    if preparation.continuum == "specclip":
        return specclip_continuum(grid.wavelength, flux, ivar)
    return smooth_continuum(flux, ivar, width_in_pixels(grid, preparation))


def _on_grid(batch: SpectrumBatch, grid: Grid, preparation: Preparation) -> SpectrumBatch:
    """Degrade, shift and resample each arm, and join the arms by inverse variance."""
    redshift = batch.rv / SPEED_OF_LIGHT if preparation.frame == "rest" else np.zeros(len(batch))
    target = grid.wavelength
    bring = interpolate if preparation.resampling == "linear" else resample
    # an empty batch has neither
    low = grid.edges[0] * (1 + redshift.min(initial=0.0))
    high = grid.edges[-1] * (1 + redshift.max(initial=0.0))
    if preparation.resolving_power is not None:
        reach = 1 + kernel_reach(preparation.resolving_power)
        low, high = low / reach, high * reach
    weight = np.zeros((len(batch), grid.n_pix))
    total = np.zeros_like(weight)
    flags = batch.flags.copy()
    for arm in batch.arms:
        if len(batch.arms) > 1:
            flags[~np.any(arm.ivar > 0, axis=1)] |= np.uint32(Flag.MISSING_ARM)
        arm = arm.window(low, high)
        if preparation.resolving_power is not None:
            arm, short = degrade(arm, preparation.resolving_power)
            # the row's own part: the window is as wide as the velocities of the whole batch
            ends = grid.edges[[0, -1]] * (1 + redshift[:, None])  # (n, 2)
            short &= (arm.wavelength > ends[:, :1]) & (arm.wavelength < ends[:, 1:])
            flags[np.any(short, axis=1)] |= np.uint32(Flag.RESOLUTION_UNMATCHED)
        flux, ivar = bring(arm.wavelength, arm.flux, arm.ivar, target, redshift)
        weight += ivar
        total += ivar * flux
    flux = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    part = SpectrumBatch([Arm(target, flux, weight)], batch.id, batch.ra, batch.dec, batch.rv)
    part.flags = flags
    return part


def _in_float32(flux: Float, ivar: Float, preparation: Preparation) -> tuple[Float, Float]:
    """Flux and ivar with masked what a store could only hold as infinite or as zero."""
    held = (np.abs(flux) < LARGEST) & (ivar > 1 / LARGEST)
    masked = 0.0 if preparation.continuum == "none" else 1.0
    # fluxes in cgs units that were not normalised do get there
    return np.where(held, flux, masked), np.where(held, np.minimum(ivar, LARGEST), 0.0)


def _snr(flux: Float, ivar: Float) -> Float:
    ratio = np.where(ivar > 0, flux * np.sqrt(ivar), np.nan)
    empty = ~np.any(ivar > 0, axis=1)
    ratio[empty] = 0.0
    return np.clip(np.nanmedian(ratio, axis=1), -LARGEST, LARGEST)
