"""Starts: a library of model spectra all over the emulator's range, and those most like observed ones.

Chi^2 of every observed spectrum against every model is three matrix products; its best models, far enough from each
other, are where a fit starts, so that it does not end in a local minimum beside a false start.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.renderer import EXTRA, PARAMETERS, VELOCITY, Renderer
from stores.simulate.loci import microturbulence

Float = NDArray[np.float64]

MODELS = 1500
APART = np.array([600.0, 1.2, 0.8])  # K, dex, dex: two starts differ by one of these in Teff, log g or [Fe/H]
CRUDE = 0.02  # of the continuum: models lie this far from any spectrum
AT_ONCE = 64


class Starts:
    """parameters (k, 7) and normalised flux (k, n_pix) of models."""

    def __init__(self, renderer: Renderer, extra: float) -> None:
        emulator, random = renderer.emulator, np.random.default_rng(0)
        # Teff and log g of the stars that the emulator learned from, other labels at random
        chosen = emulator.stars[random.permutation(np.resize(np.arange(len(emulator.stars)), MODELS))]
        labels = np.empty((MODELS, VELOCITY))
        labels[:, :2] = chosen
        labels[:, 2] = random.uniform(emulator.low[2], emulator.high[2], MODELS)
        labels[:, 3] = random.uniform(0.0, 0.4, MODELS)
        labels[:, 4] = microturbulence(*chosen.T)
        labels = np.clip(labels, emulator.low, emulator.high)
        self.parameters = np.zeros((MODELS, PARAMETERS))
        self.parameters[:, :VELOCITY], self.parameters[:, EXTRA] = labels, extra
        parts = [renderer.flux(self.parameters[i : i + AT_ONCE]) for i in range(0, MODELS, AT_ONCE)]
        self.flux = np.concatenate(parts)

    def like(self, flux: Float, ivar: Float, count: int) -> Float:
        """Parameters (n, count, 7) of the models most like spectra (n, n_pix), best first."""
        weight = np.divide(1.0, 1 / np.where(ivar > 0, ivar, 1.0) + CRUDE**2) * (ivar > 0)
        chi2 = weight @ self.flux.T**2 - 2 * (weight * flux) @ self.flux.T  # up to a constant of the spectrum
        found = np.empty((len(flux), count, PARAMETERS))
        scaled = self.parameters[:, :3] / APART
        for number in range(count):
            best = chi2.argmin(axis=1)
            found[:, number] = self.parameters[best]
            near = np.abs(scaled[best][:, None] - scaled[None]).max(axis=2) < 1.0
            chi2[near] = np.inf
        return found
