"""Held-out predictions: what errors of stars that were left out say of sigmas and bounds, as heads are calibrated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.task import Predicted
from heads.calibration import Calibration
from heads.sample import Sample
from stores.errors import OptionError

Float = NDArray[np.float64]

FEWEST = 20  # stars of the target with a label from which its errors are judged by them alone
TAIL = 0.05  # on either side of the bounds
MEDIAN = 0.4549  # of the square of a normal number


@dataclass(frozen=True)
class Held:
    """Labels y, and predictions value with sigma, of m stars by a method that left each of them out.

    y, value, sigma: (m, k), NaN where unknown; sigma need only be proportional to the errors
    """

    y: Float
    value: Float
    sigma: Float

    @classmethod
    def chosen(cls, source: Held, target: Held) -> Held:
        """Label by label the target's stars, where at least FEWEST are known, and the source's elsewhere."""
        enough = (np.isfinite(target.y) & np.isfinite(target.value)).sum(axis=0) >= FEWEST
        y = np.concatenate([np.where(enough, np.nan, source.y), np.where(enough, target.y, np.nan)])
        value, sigma = (np.concatenate([getattr(source, name), getattr(target, name)]) for name in ("value", "sigma"))
        return cls(y, value, sigma)

    def judge(self, targets: tuple[str, ...], value: Float, sigma: Float) -> Predicted:
        """Predictions (n, k) of other stars with sigmas and 90 per cent bounds that these stars' errors set.

        A label without any held-out star keeps its sigma and gets the bounds of a normal distribution.
        """
        feh = targets.index("feh") if "feh" in targets else None
        calibration = Calibration.of(self.y, self.value, self.sigma, feh)
        low, high = calibration.interval(value, sigma, TAIL)
        return Predicted(value, calibration.sigma(value, sigma), low, high, value[None])


def excess(error: Float, noise: Float) -> Float:
    """Scatter (k,) beyond noise: with both in quadrature the median of (error / sigma)^2 is that of a normal number.

    error: (m, k), NaN where unknown; noise: (m, k), one sigma
    """
    known = np.isfinite(error) & np.isfinite(noise)
    square, noise2 = (np.where(known, one, 0.0) ** 2 for one in (error, noise))
    some = known.any(axis=0)
    low = np.zeros(error.shape[1])
    high = 1e-300 + 2 * np.max(np.sqrt(square), axis=0, initial=0.0)  # the median ratio is below a quarter there
    for _ in range(40):
        middle = (low + high) / 2
        ratio = np.where(known, square / np.maximum(noise2 + middle**2, 1e-300), np.nan)
        above = np.zeros(len(middle), dtype=bool)
        above[some] = np.nanmedian(ratio[:, some], axis=0) > MEDIAN
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return low


def calibrating(sample: Sample) -> NDArray[np.bool_]:
    """(n, k) True where a label is known of a star that sets uncertainties; of any star if none of those knows it."""
    known = np.isfinite(sample.y)
    own = known & sample.calibrates[:, None]
    return np.where(own.any(axis=0), own, known)


def refuse_empty(sample_size: int, what: str) -> None:
    """Raise OptionError where there is nothing to learn from."""
    if not sample_size:
        raise OptionError(f"there are no stars of the {what} to learn from; name labels that are known there.")
