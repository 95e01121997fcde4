"""Fitter: the labels of stars from their spectra alone, by the emulator's spectrum that fits them best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.descent import Descent, Model, descend
from benchmarks.baselines.renderer import EXTRA, PARAMETERS, VELOCITY, Renderer
from benchmarks.baselines.spread import WIDEST, LineSpread
from benchmarks.baselines.starts import Starts
from stores.progress import progress
from stores.simulate.loci import microturbulence

Float = NDArray[np.float64]

STARTS = 3
FASTEST = 300.0  # km/s that a spectrum may still move
SPEED = 50.0  # km/s that count as one in the descent
OUTLIER = 5.0  # standard deviations at which a pixel is a defect
FEWEST = 50  # pixels that a star needs
VMIC_SCATTER = 0.2  # km/s about the mean at Teff and log g: of the emulator's stars, even to +-0.35
LAGS = 4  # pixels over which errors are correlated: neighbours share pixels of the survey, and a line its faults
TINY = 1e-10  # information that keeps the inverse where a spectrum says nothing of a label
AT_ONCE = 32


@dataclass(frozen=True)
class Fit:
    """Of n spectra; NaN where there are too few pixels.

    parameters, sigma: (n, 7): the emulator's labels, velocity in km/s, `extra` variance of the line spread in (km/s)^2
    reduced: (n,) chi^2 per degree of freedom, model errors counted in; residual: (n, n_pix), NaN where not used
    """

    parameters: Float
    sigma: Float
    reduced: Float
    residual: Float


class Fitter:
    """Fits prepared spectra; each star's result is its own to rounding, whatever is fitted beside it.

    floor: (n_pix,) error of the model in units of the continuum, which is added to the noise
    """

    def __init__(self, renderer: Renderer, spread: LineSpread, floor: Float, starts: Starts | None = None) -> None:
        self.renderer = renderer
        self.spread = spread
        self.floor = floor
        self.starts = Starts(renderer, spread.extra) if starts is None else starts
        emulator = renderer.emulator
        unit = max(spread.extra, 500.0)
        half = (emulator.high - emulator.low) / 2
        self.scale = np.array([*half, SPEED, unit])
        self.centre = np.array([*(emulator.low + half), 0.0, 0.0])
        self.low = np.array([*-np.ones(VELOCITY), -FASTEST / SPEED, 0.0])
        self.high = np.array([*np.ones(VELOCITY), FASTEST / SPEED, WIDEST**2 / unit])

    def __call__(self, flux: Float, ivar: Float, what: str = "fitting") -> Fit:
        """Fit normalised flux with ivar (n, n_pix)."""
        ivar = np.where(self.renderer.covered, ivar, 0.0)
        parts = [
            self._some(flux[start : start + AT_ONCE], ivar[start : start + AT_ONCE])
            for start in progress(range(0, len(flux), AT_ONCE), what, unit="block")
        ]
        if not parts:
            nothing = np.empty((0, PARAMETERS))
            return Fit(nothing, nothing, np.empty(0), np.empty(flux.shape))
        return Fit(*(np.concatenate([getattr(part, name) for part in parts]) for name in Fit.__dataclass_fields__))

    def _some(self, flux: Float, ivar: Float) -> Fit:
        n, n_pix = flux.shape
        parameters, sigma = np.full((n, PARAMETERS), np.nan), np.full((n, PARAMETERS), np.nan)
        reduced, residual = np.full(n, np.nan), np.full((n, n_pix), np.nan)
        good = np.flatnonzero((ivar > 0).sum(axis=1) >= FEWEST)
        if len(good):
            found = self._good(flux[good], ivar[good])
            parameters[good], sigma[good], reduced[good], residual[good] = found
        return Fit(parameters, sigma, reduced, residual)

    def _good(self, flux: Float, ivar: Float) -> tuple[Float, Float, Float, Float]:
        n = len(flux)
        starts = self.starts.like(flux, ivar, STARTS)
        at = starts.reshape(-1, PARAMETERS)
        star = np.repeat(np.arange(n), STARTS)
        first = self._descend(flux[star], ivar[star], at)
        best = np.arange(n) * STARTS + first.cost.reshape(n, STARTS).argmin(axis=1)
        parameters = self.natural(first.parameters[best])
        # the continuum's weights anew, now that the star is known, and without the pixels that are no star's
        model = self.renderer.flux(parameters, self.renderer.weights(ivar, parameters))
        precision = self.precision(ivar)
        score = (flux - model) * np.sqrt(precision)
        typical = 1.4826 * np.array([np.median(np.abs(one[used])) for one, used in zip(score, ivar > 0, strict=True)])
        ivar = np.where(np.abs(score) < OUTLIER * np.maximum(typical, 1.0)[:, None], ivar, 0.0)
        parameters = self.natural(self._descend(flux, ivar, parameters).parameters)
        return parameters, *self._errors(flux, ivar, parameters)

    def _errors(self, flux: Float, ivar: Float, parameters: Float) -> tuple[Float, Float, Float]:
        """sigma (n, 7), reduced chi^2 (n,) and residuals (n, n_pix) of fitted parameters.

        The covariance is A^-1 (c B + P) A^-1, with A = J^T J + P the curvature, P that of what is known beforehand,
        c the reduced chi^2 and B = J^T R J, with R the correlation of neighbouring pixels' residuals.
        """
        residual, jacobian = self._model(flux, ivar, parameters)(np.arange(len(flux)), self.unit(parameters))
        pixels, known = slice(0, flux.shape[1]), slice(flux.shape[1], None)
        used = ivar > 0
        score, slopes = residual[:, pixels], jacobian[:, :, pixels]
        chi2 = np.einsum("mn,mn->m", score, score)
        reduced = chi2 / np.maximum(used.sum(axis=1) - PARAMETERS, 1)
        information = slopes @ slopes.transpose(0, 2, 1)
        prior = jacobian[:, :, known] @ jacobian[:, :, known].transpose(0, 2, 1)
        for lag in range(1, LAGS + 1):
            shared = np.einsum("mn,mn->m", score[:, lag:], score[:, :-lag]) / np.maximum(chi2, 1e-300)
            product = slopes[:, :, lag:] @ slopes[:, :, :-lag].transpose(0, 2, 1)
            # falling weights keep the sum a covariance (Newey & West 1987, Econometrica 55, 703)
            part = (1 - lag / (LAGS + 1)) * shared[:, None, None] * (product + product.transpose(0, 2, 1))
            information = information + part
        curvature = slopes @ slopes.transpose(0, 2, 1) + prior
        inverse = np.linalg.inv(curvature + TINY * np.eye(PARAMETERS))
        covariance = inverse @ (reduced[:, None, None] * information + prior) @ inverse
        sigma = np.sqrt(np.maximum(np.einsum("mpp->mp", covariance), 0.0)) * self.scale
        root = np.sqrt(self.precision(ivar))
        return sigma, reduced, np.where(used, -score / np.where(used, root, 1.0), np.nan)

    def inside(self, fit: Fit) -> NDArray[np.bool_]:
        """(n,) True for stars that were fitted within, not at, the ends of the emulator's Teff, log g and [Fe/H]."""
        with np.errstate(invalid="ignore"):
            inside: NDArray[np.bool_] = np.all(np.abs(self.unit(fit.parameters)[:, :3]) < 1 - 1e-3, axis=1)
        return inside

    def precision(self, ivar: Float) -> Float:
        """Inverse variance (n, n_pix) of noise and model together; 0 where masked."""
        used = ivar > 0
        return np.where(used, 1 / (1 / np.where(used, ivar, 1.0) + self.floor**2), 0.0)

    def natural(self, x: Float) -> Float:
        """Parameters (n, 7) in their units from those of the descent."""
        return self.centre + self.scale * x

    def unit(self, parameters: Float) -> Float:
        """Parameters (n, 7) as the descent has them, of order 1."""
        return (parameters - self.centre) / self.scale

    def _descend(self, flux: Float, ivar: Float, start: Float) -> Descent:
        return descend(self._model(flux, ivar, start), self.unit(start), self.low, self.high)

    def _model(self, flux: Float, ivar: Float, like: Float) -> Model:
        """Residuals of model and data over their errors, and of what is known beforehand.

        like: (n, 7), parameters near which the continuum's weights are those of the data
        """
        weight = self.renderer.weights(ivar, like)
        root = np.sqrt(self.precision(ivar))
        width = self.spread.scatter

        def model(rows: NDArray[np.int64], x: Float) -> tuple[Float, Float]:
            parameters = self.natural(x)
            n_pix = flux.shape[1]
            residual, jacobian = np.zeros((len(rows), n_pix + 2)), np.zeros((len(rows), PARAMETERS, n_pix + 2))
            found, slopes = self.renderer.slopes(parameters, weight[rows])
            residual[:, :n_pix] = (found - flux[rows]) * root[rows]
            jacobian[:, :, :n_pix] = slopes * root[rows, None]
            # what is known beforehand: microturbulence follows from Teff and log g, the line spread is the survey's
            teff, logg, vmic = parameters[:, 0], parameters[:, 1], parameters[:, 4]
            residual[:, n_pix] = (vmic - microturbulence(teff, logg)) / VMIC_SCATTER
            by_teff, by_logg = (
                (microturbulence(teff + a, logg + b) - microturbulence(teff - a, logg - b)) / (2 * (a + b))
                for a, b in ((10.0, 0.0), (0.0, 0.1))
            )
            for column, slope in ((0, -by_teff), (1, -by_logg), (4, 1.0)):
                jacobian[:, column, n_pix] = slope / VMIC_SCATTER
            residual[:, n_pix + 1] = (parameters[:, EXTRA] - self.spread.extra) / width
            jacobian[:, EXTRA, n_pix + 1] = 1 / width
            jacobian *= self.scale[:, None]
            return residual, jacobian

        return model
