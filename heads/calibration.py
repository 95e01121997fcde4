"""Uncertainties that hold: intervals and sigmas set by stars that a head did not see (split-conformal prediction).

Scores are errors in units of the predicted sigma, (label - value) / sigma. Their quantiles among n held-out stars, at
ranks that are conservative by one star, bound the score of the next star with at least the nominal probability
whatever the distribution (from 6 stars on for 68 per cent, 19 for 90), as long as that star is drawn like them
(Vovk et al. 2005; Lei et al. 2018, doi:10.1080/01621459.2017.1307116). Metal-rich and metal-poor stars, told apart by
the predicted [Fe/H], have quantiles of their own where enough are held out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

TAILS = (0.025, 0.05, 0.16)  # probability below and above the intervals of 95, 90 and 68 per cent
FEWEST = 40  # held-out stars that a regime needs for quantiles of its own
RICH = -1.0  # [Fe/H] above which a star is metal-rich


@dataclass(frozen=True)
class Calibration:
    """Quantiles of scores.

    low, high: (r, k, tails) of regimes (all, poor, rich), labels and TAILS;
    factor: (r, k), from predicted to true sigma;
    count: (r, k) held-out stars; feh: which label is [Fe/H], None if none is
    """

    low: Float
    high: Float
    factor: Float
    count: NDArray[np.int64]
    feh: int | None

    @classmethod
    def of(cls, y: Float, value: Float, sigma: Float, feh: int | None) -> Calibration:
        """From labels y (n, k), NaN where unknown, and predictions (n, k) of heads that did not see them."""
        n, k = y.shape
        score = (y - value) / sigma
        poor = np.zeros(n, dtype=bool) if feh is None else value[:, feh] <= RICH
        regimes = [np.ones(n, dtype=bool), poor, ~poor if feh is not None else poor]
        low, high = np.empty((3, k, len(TAILS))), np.empty((3, k, len(TAILS)))
        factor, count = np.empty((3, k)), np.zeros((3, k), dtype=np.int64)
        for i, chosen in enumerate(regimes):
            for j in range(k):
                own = np.sort(score[chosen & np.isfinite(score[:, j]), j])
                count[i, j] = len(own)
                if i and len(own) < FEWEST:
                    low[i, j], high[i, j], factor[i, j] = low[0, j], high[0, j], factor[0, j]
                    continue
                for t, tail in enumerate(TAILS):
                    low[i, j, t], high[i, j, t] = _bounds(own, tail)
                factor[i, j] = _width(own)
        return cls(low, high, factor, count, feh)

    def or_else(self, other: Calibration) -> Calibration:
        """With the quantiles of another for labels of which no star was held out."""
        bare = self.count[0] == 0
        low, high = (np.where(bare[:, None], getattr(other, name), getattr(self, name)) for name in ("low", "high"))
        factor, count = (np.where(bare, getattr(other, name), getattr(self, name)) for name in ("factor", "count"))
        return Calibration(low, high, factor, count, self.feh)

    @classmethod
    def none(cls, k: int) -> Calibration:
        """Of a Gaussian: nothing was held out."""
        from statistics import NormalDist

        edge = [NormalDist().inv_cdf(1 - tail) for tail in TAILS]
        high = np.broadcast_to(edge, (3, k, len(TAILS))).copy()
        return cls(-high, high, np.ones((3, k)), np.zeros((3, k), dtype=np.int64), None)

    def sigma(self, value: Float, sigma: Float) -> Float:
        """Calibrated sigma (n, k) of predictions (n, k)."""
        return sigma * self.factor[self._regime(value)]

    def interval(self, value: Float, sigma: Float, tail: float) -> tuple[Float, Float]:
        """Bounds (n, k) with probability `tail`, one of TAILS, below and above; sigma is the predicted one."""
        t, regime = TAILS.index(tail), self._regime(value)
        return value + sigma * self.low[regime, :, t], value + sigma * self.high[regime, :, t]

    def _regime(self, value: Float) -> NDArray[np.int64]:
        if self.feh is None:
            return np.zeros(len(value), dtype=np.int64)
        return np.where(value[:, self.feh] <= RICH, 1, 2)

    def as_json(self) -> dict[str, Any]:
        return {
            "tails": TAILS,
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "factor": self.factor.tolist(),
            "count": self.count.tolist(),
            "feh": self.feh,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Calibration:
        low, high, factor = (np.array(values[name], dtype=np.float64) for name in ("low", "high", "factor"))
        return cls(low, high, factor, np.array(values["count"], dtype=np.int64), values["feh"])


def _bounds(score: Float, tail: float) -> tuple[float, float]:
    """Scores at the ranks that leave at most `tail` outside on either side.

    Where n is too small for such ranks, the outermost scores, but no narrower than Student's t has it for as few
    errors that are normal.
    """
    n = len(score)
    outside = math.floor((n + 1) * tail)  # the rank from the edge
    if outside:
        return float(score[outside - 1]), float(score[n - outside])
    edge = float(Calibration.none(1).high[0, 0, TAILS.index(tail)])
    if n < 2:
        return -edge, edge
    from scipy.stats import t

    middle = float(score.mean())
    reach = float(t.ppf(1 - tail, n - 1) * score.std(ddof=1) * math.sqrt(1 + 1 / n))
    return min(float(score[0]), middle - reach), max(float(score[-1]), middle + reach)


def _width(score: Float) -> float:
    """Half the width of the central 68 per cent: a sigma that outliers do not move."""
    if len(score) < 2:
        return 1.0
    low, high = np.quantile(score, [0.1587, 0.8413])
    return max(float(high - low) / 2, 1e-3)
