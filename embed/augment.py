"""Views of a spectrum as other instruments might have taken it: noise, line spread, velocity, continuum, gaps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stores.grid import SPEED_OF_LIGHT

REACH = 4  # pixels on either side that smoothing and shifting draw on


@dataclass(frozen=True)
class Augmentation:
    """How views differ from the spectrum they are made of; every range is drawn from anew for each view.

    snr: signal-to-noise ratio per pixel of the noise that is added, log-uniform
    colour: exponent of wavelength that this noise falls with
    smoothing: sigma of a Gaussian, km/s, at least half a pixel (35 on the lrs grid); R = 4500 becomes 2830 with 35 and
        1170 with 105; without it (0, 0) there is no shift either
    shift: scatter of the velocity, km/s
    warp, warp_order: scatter of the continuum's error, and how often it swings at most
    dead: share of masked pixels; gap: chance of a gap, of up to `gap_pixels`
    step: pixel width of the spectra in log10 of wavelength
    """

    snr: tuple[float, float] = (8.0, 200.0)
    colour: tuple[float, float] = (0.0, 8.0)
    smoothing: tuple[float, float] = (35.0, 105.0)
    shift: float = 7.0
    warp: float = 0.01
    warp_order: int = 12
    dead: float = 0.003
    gap: float = 0.15
    gap_pixels: int = 200
    step: float = 1e-4

    def __call__(self, flux: Tensor, ivar: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A view of each spectrum: flux, ivar (B, n_pix), 0 where masked.

        The random numbers come from a CPU generator whatever the device, so that a seed means the same everywhere.
        """
        n, n_pix, device = len(flux), flux.shape[1], flux.device

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return (low + (high - low) * torch.rand(n, *shape, generator=generator)).to(device)

        def normal(*shape: int) -> Tensor:
            return torch.randn(n, *shape, generator=generator).to(device)

        pixel_width = SPEED_OF_LIGHT * math.log(10) * self.step  # km/s
        if self.smoothing[1] > 0:
            # sampled at whole pixels, a narrower Gaussian would neither smooth nor shift as it says
            sigma = (uniform(*self.smoothing, 1) / pixel_width).clamp(min=0.5)
            flux, ivar = _spread(flux, ivar, sigma, self.shift / pixel_width * normal(1))
        x = torch.linspace(0, 1, n_pix, device=device)
        swings = torch.cos(math.pi * torch.arange(1, self.warp_order + 1, device=device)[:, None] * x)
        flux = flux * (1 + self.warp * math.sqrt(2 / self.warp_order) * normal(self.warp_order) @ swings)
        snr = torch.exp(uniform(math.log(self.snr[0]), math.log(self.snr[1]), 1))
        sigma = (uniform(*self.colour, 1) * (0.5 - x) * n_pix * self.step * math.log(10)).exp() / snr
        good = ivar > 0
        flux = flux + sigma * normal(n_pix)
        ivar = good / (1 / ivar.where(good, torch.ones_like(ivar)) + sigma**2)
        ivar = ivar * (uniform(0, 1, n_pix) >= self.dead)
        pixel = torch.arange(n_pix, device=device)
        middle, half = uniform(0, n_pix, 1), uniform(0, self.gap_pixels / 2, 1)
        gap = (uniform(0, 1, 1) < self.gap) & ((pixel - middle).abs() < half)
        ivar = ivar.masked_fill(gap, 0.0)
        return flux.masked_fill(ivar == 0, 1.0), ivar


def _spread(flux: Tensor, ivar: Tensor, sigma: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Spectra (B, n_pix) smoothed by Gaussians of sigma and moved by shift, (B, 1) pixels; masks are respected."""
    offset = torch.arange(-REACH, REACH + 1, device=flux.device, dtype=flux.dtype)
    kernel = torch.exp(-0.5 * ((offset - shift) / sigma) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True))[:, None]  # (B, 1, taps)
    good = (ivar > 0).to(flux.dtype)
    variance = good / ivar.clamp(min=torch.finfo(ivar.dtype).tiny)

    def folded(values: Tensor, weights: Tensor) -> Tensor:
        padded = F.pad(values[None], (REACH, REACH), mode="replicate")[0]
        # not as a convolution, which GPUs compute with ten bits
        return (padded.unfold(1, 2 * REACH + 1, 1) * weights).sum(dim=2)

    share = folded(good, kernel)
    seen = (share > 0.5) & (ivar > 0)
    share = share.clamp(min=0.5)
    smooth = folded(flux * good, kernel) / share
    spread_variance = folded(variance, kernel**2) / share**2
    return smooth, seen / spread_variance.where(seen, torch.ones_like(share)).clamp(min=1e-12)
