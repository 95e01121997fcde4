"""From a star's labels to its spectrum as a store holds it, with derivatives.

The emulator's flux is shifted and broadened by a factor of its Fourier transform, brought to the line spread of the
survey and averaged over the pixels of the grid, and divided by the continuum that `stores.prepare` finds in it, with
the weights that the pixels of the observed spectrum have. For given weights that continuum C is linear in the flux F,
so the derivative of n = F / C(F) is exact: dn = (dF - n C(dF)) / C(F), with C(dF) from the same function. What is
left out: that weights follow the noise in units of the flux, of which the store only has the normalised one; they are
set once from its ivar and the model at the start, and beyond the grid's ends from the ivar at the ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.spread import LineSpread
from stores.errors import InputError
from stores.grid import SPEED_OF_LIGHT, Grid
from stores.prepare import Preparation, width_in_pixels, working_grid
from stores.prepare.continuum import local_line, pixel_weights
from stores.simulate.instrument import FWHM
from stores.simulate.lsf import MIN_WIDTH, RESOLUTION, gaussian_means, log_step

if TYPE_CHECKING:
    from stores.simulate.emulator import Emulator

Float = NDArray[np.float64]

VELOCITY, EXTRA = 5, 6  # places among the parameters, after the emulator's labels
PARAMETERS = 7
MARGIN = 0.003  # of the wavelength, beyond a pixel, that velocity and line spread may bring into it
REACH = 3.0  # sigma of the continuum that must be covered for it to be that of the data
END = 100  # pixels at either end of the grid whose ivar stands for that beyond


class Renderer:
    """Spectra on a grid of parameters (n, 7): the emulator's labels, velocity (km/s), `extra` variance (km/s)^2.

    covered: (n_pix,) where emulator and continuum reach
    Raises InputError for a preparation whose continuum is not `smooth`, or which left the observed frame.
    """

    def __init__(self, emulator: Emulator, grid: Grid, preparation: Preparation, spread: LineSpread) -> None:
        check(preparation)
        self.grid = grid
        self.working, self.inside = working_grid(grid, preparation)
        self.width = width_in_pixels(grid, preparation)
        pixels, edges = self.working.wavelength, self.working.edges
        self.emulator = emulator.between(edges[0] * (1 - 1.3 * MARGIN), edges[-1] * (1 + 1.3 * MARGIN))
        samples = self.emulator.wavelength
        self.step = log_step(samples)
        seen = (edges[:-1] > samples[0] * (1 + MARGIN)) & (edges[1:] < samples[-1] * (1 - MARGIN))
        least = np.interp(pixels, grid.wavelength, spread.least / grid.wavelength) * pixels
        missing2 = least**2 - (pixels / RESOLUTION / FWHM) ** 2
        if np.any(seen & (missing2 < (MIN_WIDTH * self.step * pixels) ** 2)):
            raise InputError(
                f"the spectra are too sharp for the synthetic ones, of R = {RESOLUTION:.0f}; prepare them with "
                "--resolving-power 3000 or less."
            )
        missing = np.sqrt(np.where(seen, missing2, 1.0))
        self.operator = gaussian_means(pixels, missing, seen, samples)
        reach = 10 ** (REACH * self.width * grid.step)
        known = pixels[seen]
        self.covered = (grid.wavelength >= known[0] * reach * (1 - 1e-6)) & (
            grid.wavelength <= known[-1] / reach * (1 + 1e-6)
        )
        self.seen = seen

    def weights(self, ivar: Float, parameters: Float) -> Float:
        """Weights (n, n_working) in the continuum of spectra of normalised ivar (n, n_pix), if they look like this."""
        flux = self._raw(parameters, slopes=False)[:, 0]
        noise = np.zeros(flux.shape)
        noise[:, self.inside] = ivar
        before, after = self.inside.start, self.inside.stop
        noise[:, :before] = np.median(ivar[:, :END], axis=1, keepdims=True)
        noise[:, after:] = np.median(ivar[:, -END:], axis=1, keepdims=True)
        continuum = local_line(flux, np.broadcast_to(self.seen, flux.shape).astype(np.float64), self.width)
        usable = self.seen & (continuum > 0)
        return pixel_weights(flux, np.where(usable, noise / np.where(usable, continuum, 1.0) ** 2, 0.0))

    def flux(self, parameters: Float, weight: Float | None = None) -> Float:
        """Normalised flux (n, n_pix); weight (n, n_working), or that of spectra without noise."""
        return self._normalised(self._raw(parameters, slopes=False), weight)[:, 0]

    def slopes(self, parameters: Float, weight: Float | None = None) -> tuple[Float, Float]:
        """Normalised flux (n, n_pix), and its derivatives (n, 7, n_pix) per unit of each parameter."""
        found = self._normalised(self._raw(parameters, slopes=True), weight)
        return found[:, 0], found[:, 1:]

    def _normalised(self, raw: Float, weight: Float | None) -> Float:
        """Spectra (n, 1 + k, n_working), each row a flux and its derivatives, divided by the continuum."""
        if weight is None:
            weight = np.broadcast_to(self.seen, (len(raw), len(self.seen))).astype(np.float64)
        continuum = local_line(raw, weight[:, None], self.width)[..., self.inside]
        raw = raw[..., self.inside]
        level = continuum[:, :1]
        level = np.where(level > 0, level, 1.0)
        flux = raw[:, :1] / level
        return np.concatenate([flux, (raw[:, 1:] - flux * continuum[:, 1:]) / level], axis=1)

    def _raw(self, parameters: Float, *, slopes: bool) -> Float:
        """Flux (n, 1, n_working) in an arbitrary unit before normalisation, followed by seven derivatives."""
        import torch
        from scipy.fft import irfft, next_fast_len, rfft

        from stores.simulate.emulator import one_thread

        n = len(parameters)
        labels = torch.as_tensor(parameters[:, :VELOCITY], dtype=torch.float32)
        with torch.inference_mode(), one_thread():
            light = self.emulator.flux(labels).numpy()[:, None]
            level = np.float32(1) / np.median(light, axis=2, keepdims=True)
            if slopes:
                light = np.concatenate([light, self.emulator.jacobian(labels).transpose(1, 2).numpy()], axis=1)
        light = light * level
        n_in = light.shape[-1]
        size = next_fast_len(n_in + 128, real=True)
        # the ends are bridged, as in stores.simulate.lsf, so that nothing rings
        bridge = (0.5 - 0.5 * np.cos(np.pi * np.arange(1, size - n_in + 1) / (size - n_in + 1))).astype(np.float32)
        closed = np.concatenate([light, light[..., -1:] + (light[..., :1] - light[..., -1:]) * bridge], axis=-1)
        omega = 2 * np.pi / size * np.arange(size // 2 + 1)
        velocity, extra = parameters[:, VELOCITY, None], parameters[:, EXTRA, None]
        shift = np.log1p(velocity / SPEED_OF_LIGHT) / self.step
        variance = extra / (SPEED_OF_LIGHT * self.step) ** 2
        factor = np.exp(-1j * shift * omega - 0.5 * variance * omega**2).astype(np.complex64)
        waves = rfft(closed, axis=-1) * factor[:, None]
        if slopes:
            by_velocity = -1j * omega / ((SPEED_OF_LIGHT + velocity) * self.step)
            by_extra = np.broadcast_to(-0.5 * (omega / (SPEED_OF_LIGHT * self.step)) ** 2, by_velocity.shape)
            more = np.stack([by_velocity, by_extra], axis=1).astype(np.complex64)
            waves = np.concatenate([waves, waves[:, :1] * more], axis=1)
        smooth = irfft(waves, size, axis=-1)[..., :n_in]
        rows = smooth.reshape(-1, n_in)
        return (self.operator @ np.ascontiguousarray(rows.T)).T.reshape(n, -1, len(self.seen)).astype(np.float64)


def check(preparation: Preparation) -> None:
    """Raise InputError for spectra whose preparation cannot be done to a model."""
    if preparation.continuum != "smooth" or preparation.frame != "rest":
        raise InputError(
            f"spectra in the {preparation.frame} frame with continuum '{preparation.continuum}' cannot be fitted; "
            "ingest them with --frame rest --continuum smooth, or leave the payne out."
        )
