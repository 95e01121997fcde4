"""Fits of the spectra of a store, and what they need to know: the line spread, and where the model is wrong.

A twin's line spread is its instrument's. That of other spectra is found from some of them: fitted in km/s together
with the labels, the median of those that are known best counts. The error of the model (lines that the synthesis
lacks or has wrong) is what residuals of a hundred spectra show beyond their noise, pixel by pixel; it is added to
the noise, so that good pixels count more. Neither needs a label.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.fitter import Fit, Fitter
from benchmarks.baselines.held import excess
from benchmarks.baselines.renderer import EXTRA, PARAMETERS, Renderer, check
from benchmarks.baselines.spread import LineSpread
from heads.sample import UNUSABLE
from stores.errors import InputError
from stores.grid import SPEED_OF_LIGHT, Grid
from stores.simulate.instrument import Instrument
from stores.spectra import SpectraStore

Float = NDArray[np.float64]

LOOKED_AT, WIDTHS_OF = 128, 64  # spectra for the model's errors, and for the line spread
FIRST_FLOOR = 0.01  # of the continuum, before the model's errors are known
FEWEST = 30  # spectra that tell a pixel's error; with fewer all pixels have one in common


class Fits:
    """Fits of spectra by id; no sample is fitted twice. Raises InputError for spectra that cannot be fitted."""

    def __init__(self, store: SpectraStore) -> None:
        self.store = store
        self.fitter = fitter_of(store)
        self._known: dict[bytes, tuple[Float, Float]] = {}

    def __call__(self, ids: NDArray[np.int64]) -> tuple[Float, Float]:
        """Parameters and their sigmas (n, 7) of the spectra with these ids; NaN where one has too few pixels."""
        if not len(ids):
            return np.empty((0, PARAMETERS)), np.empty((0, PARAMETERS))
        # samples are kept as they were asked for, not star by star: a batch decides the last bits of its rows
        key = ids.tobytes()
        if key not in self._known:
            rows = self.store.find(ids)
            if np.any(rows < 0):
                lacking = ids[rows < 0][0]
                raise InputError(f"'{self.store.path}' has no row with id {lacking}; name the stars' own store.")
            flux, ivar = (self.store.read(name, rows).astype(np.float64) for name in ("flux", "ivar"))
            found = self.fitter(flux, ivar)
            self._known[key] = found.parameters, found.sigma
        parameters, sigma = self._known[key]
        return parameters.copy(), sigma.copy()


def fits_of(store: SpectraStore) -> Fits:
    """The fits of a store; what was fitted before is kept as long as the process lives."""
    return _kept(str(store.path), store.fingerprint)


@lru_cache(maxsize=4)
def _kept(path: str, fingerprint: str) -> Fits:
    return Fits(SpectraStore.open(path))


def fitter_of(store: SpectraStore) -> Fitter:
    """A fitter that knows the line spread of a store's spectra, and the model's errors."""
    from stores.simulate.twin import shared_emulator

    check(store.preparation)
    rows = _looked_at(store)
    flux, ivar = (store.read(name, rows).astype(np.float64) for name in ("flux", "ivar"))
    constant = np.full(store.grid.n_pix, FIRST_FLOOR)

    def fitter(spread: LineSpread) -> Fitter:
        return Fitter(Renderer(shared_emulator(), store.grid, store.preparation, spread), spread, constant)

    simulation: dict[str, Any] | None = store.attributes["job"].get("simulation")
    if simulation is not None:
        instrument = Instrument.from_settings(simulation["instrument"], str(store.path))
        spread = LineSpread.of(instrument, store.grid, store.preparation)
    else:
        wide = fitter(LineSpread.unknown(store.grid))
        found = wide(flux[:WIDTHS_OF], ivar[:WIDTHS_OF], "finding line spread")
        spread = LineSpread.about(typical_width(found, wide, store.grid), store.grid)
    first = fitter(spread)
    found = first(flux, ivar, "finding model errors")
    inside = first.inside(found)
    return Fitter(first.renderer, spread, model_errors(found.residual[inside], ivar[inside]), first.starts)


def typical_width(found: Fit, fitter: Fitter, grid: Grid) -> float:
    """Gaussian width (km/s) of a typical spectrum: the median of those that are known best."""
    width = np.full(len(found.reduced), np.inf)
    inside = np.flatnonzero(fitter.inside(found))
    if not len(inside):
        raise InputError("no star of the store is like a synthetic one; its line spread cannot be found.")
    width[inside] = found.sigma[inside, EXTRA]
    best = np.argsort(width, kind="stable")[: (len(inside) + 1) // 2]
    middle = float(np.median(grid.wavelength))
    least = SPEED_OF_LIGHT / middle * float(np.interp(middle, grid.wavelength, fitter.spread.least))
    return float(np.hypot(np.sqrt(np.median(found.parameters[best, EXTRA])), least))


def model_errors(residual: Float, ivar: Float) -> Float:
    """Error of the model (n_pix,), in units of the continuum: what residuals show beyond their noise.

    residual: (n, n_pix), NaN where not used; ivar: (n, n_pix)
    """
    noise = np.sqrt(np.divide(1.0, ivar, out=np.zeros_like(ivar), where=ivar > 0))
    if len(residual) < FEWEST:
        return np.full(residual.shape[1], excess(residual.reshape(-1, 1), noise.reshape(-1, 1))[0])
    # a pixel with its neighbours, as line spreads are wider than pixels
    pixels = np.arange(residual.shape[1])
    beside = [np.clip(pixels + shift, 0, len(pixels) - 1) for shift in (-1, 0, 1)]
    return excess(*(np.concatenate([one[:, shifted] for shifted in beside]) for one in (residual, noise)))


def _looked_at(store: SpectraStore) -> NDArray[np.int64]:
    """Some usable rows, in an order of chance that is always the same."""
    usable = np.flatnonzero((store.read("flags") & np.uint32(UNUSABLE)) == 0)
    if not len(usable):
        raise InputError(f"'{store.path}' has no usable spectrum; see stores-info on its flags.")
    return np.random.default_rng(0).permutation(usable)[:LOOKED_AT]
