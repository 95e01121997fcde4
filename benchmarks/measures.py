"""Measures of how good predictions are, with bootstrap replicates that all methods share.

Replicate r draws stars and seeds with replacement: the same stars for every method, so that the difference of two
methods has an interval of its own that the scatter from star to star, common to both, does not widen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

LEAST = 5  # stars that numbers are given for
CLIP, PASSES = 3.0, 5  # sigma, and how often at most
LEVEL = 0.95  # of intervals, and of what is called significant


@dataclass(frozen=True)
class Measured:
    """What is measured of one method, size, label and regime; replicates: (R,) of sigma, see `Bootstrap`."""

    values: dict[str, float]
    replicates: Float


@dataclass(frozen=True)
class Bootstrap:
    """Replicates of the stars of one regime.

    stars: (R, n) indices of rows; count: of distinct stars; seed: of the draws of seeds
    """

    stars: NDArray[np.int64]
    count: int
    seed: int

    @classmethod
    def of(cls, star: NDArray[np.int64], replicates: int, seed: int) -> Bootstrap:
        """star: (n,) numbers of the stars that rows belong to; rows of one star are drawn together."""
        random = np.random.default_rng(seed)
        names, place = np.unique(star, return_inverse=True)
        if len(names) == len(star):
            return cls(random.integers(0, len(star), (replicates, len(star))), len(star), seed)
        rows_of = np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])
        drawn = []
        for _ in range(replicates):
            rows = np.concatenate([rows_of[i] for i in random.integers(0, len(names), len(names))])
            # replicates differ a little in length where stars differ in rows: made alike by drawing from themselves
            drawn.append(np.resize(random.permutation(rows), len(star)))
        return cls(np.array(drawn), len(names), seed)


def measure(
    reference: Float,
    value: Float,
    members: Float,
    bounds: tuple[Float, Float],
    limit: Float | None,
    bootstrap: Bootstrap,
) -> Measured:
    """Measure predictions of stars.

    reference, value: (n,), all finite; members: (m, n), predictions by single seeds; bounds: (n,) each, of 90 per cent
    limit: (n,), Cramer-Rao bound on each star's label, if it is known
    """
    from astropy.stats import biweight_scale

    error, low, high = value - reference, *bounds
    spread = float(np.sum((reference - reference.mean()) ** 2))
    sigma = float(clipped_scatter(error))
    centre = float(np.median(error))
    by_seed = clipped_scatter(members - reference) if len(members) > 1 else np.full(1, np.nan)
    replicates, medians = _replicates(reference, members, bootstrap)
    known = np.isfinite(low) & np.isfinite(high)
    tail = (1 - LEVEL) / 2
    interval = np.quantile(replicates, (tail, 1 - tail))
    offsets = np.quantile(medians, (tail, 1 - tail))
    values = {
        "n": float(bootstrap.count),
        "r2": 1 - float(np.sum(error**2)) / spread if spread else np.nan,
        "sigma": sigma,
        "biweight": float(biweight_scale(error, c=6.0)),
        "median": centre,
        "outliers": float(np.mean(np.abs(error - centre) > CLIP * sigma)),
        "cover90": float(np.mean((reference >= low) & (reference <= high))) if known.all() else np.nan,
        "sigma_low": float(interval[0]),
        "sigma_high": float(interval[1]),
        "median_low": float(offsets[0]),
        "median_high": float(offsets[1]),
        "seeds_mean": float(by_seed.mean()),
        "seeds_scatter": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else np.nan,
        "bound_ratio": np.nan if limit is None else _ratio(error, limit),
    }
    return Measured(values, replicates)


def clipped_scatter(error: Float) -> Float:
    """Standard deviation (...) of errors (..., n) without those beyond 3 sigma of their median, again and again.

    As astropy.stats.sigma_clip with its defaults (median as centre, five passes), for many rows at once: of sorted
    errors those that are kept are neighbours, and their mean and scatter come from cumulative sums.
    """
    ordered = np.sort(error.reshape(-1, error.shape[-1]), axis=1)
    n = ordered.shape[1]
    level = ordered[:, n // 2, None]  # subtracted, so that squares lose no digits
    ordered = ordered - level
    sums, squares = (np.pad(np.cumsum(one, axis=1), ((0, 0), (1, 0))) for one in (ordered, ordered**2))
    row = np.arange(len(ordered))
    first, last = np.zeros(len(ordered), dtype=np.int64), np.full(len(ordered), n)
    for done in range(PASSES + 1):
        count = last - first
        mean = (sums[row, last] - sums[row, first]) / count
        scatter = np.sqrt(np.maximum((squares[row, last] - squares[row, first]) / count - mean**2, 0))
        centre = (ordered[row, first + (count - 1) // 2] + ordered[row, first + count // 2]) / 2
        reach = CLIP * scatter
        new_first = np.maximum(first, np.sum(ordered < (centre - reach)[:, None], axis=1))
        new_last = np.minimum(last, np.sum(ordered <= (centre + reach)[:, None], axis=1))
        if done == PASSES or (np.array_equal(first, new_first) and np.array_equal(last, new_last)):
            break
        first, last = new_first, new_last
    return np.asarray(scatter.reshape(error.shape[:-1]))


def significantly_less(one: Float, other: Float) -> bool:
    """Whether replicates (R,) of one measure lie below those of another on the same stars and seeds."""
    return bool(np.mean(one < other) >= 1 - (1 - LEVEL) / 2)


def _replicates(reference: Float, members: Float, bootstrap: Bootstrap) -> tuple[Float, Float]:
    """(R,) clipped scatter and median of the errors of resampled seeds on resampled stars."""
    random = np.random.default_rng([bootstrap.seed, 1])
    count = len(bootstrap.stars)
    scatter, median = np.empty(count), np.empty(count)
    at_once = max(1, 2_000_000 // max(1, len(reference)))
    for start in range(0, count, at_once):
        stars = bootstrap.stars[start : start + at_once]
        seeds = random.integers(0, len(members), (len(stars), len(members)))
        counts = np.stack([(seeds == j).mean(axis=1) for j in range(len(members))], axis=1)  # (r, m)
        error = np.take_along_axis(counts @ members - reference, stars, axis=1)
        scatter[start : start + at_once] = clipped_scatter(error)
        median[start : start + at_once] = np.median(error, axis=1)
    return scatter, median


def _ratio(error: Float, limit: Float) -> float:
    """How many times the bound the errors scatter: the clipped scatter of errors in units of each star's bound."""
    known = np.isfinite(limit) & (limit > 0)
    return float(clipped_scatter(error[known] / limit[known])) if np.count_nonzero(known) >= LEAST else np.nan
