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
CACHE = 200_000  # numbers that are worked on at once: more do not fit into a processor's cache


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
) -> list[Measured]:
    """Measure what k methods say of the same stars.

    reference: (n,), finite; value: (k, n), finite; members: (k, m, n), predictions by single seeds
    bounds: (k, n) each, of 90 per cent; limit: (n,), Cramer-Rao bound on each star's label, if it is known
    """
    from astropy.stats import biweight_scale

    error, low, high = value - reference, *bounds
    seeds = members.shape[1]
    spread = float(np.sum((reference - reference.mean()) ** 2))
    sigma, centre = clipped_scatter(error), np.median(error, axis=1)
    nothing = np.full(len(value), np.nan)
    by_seed = clipped_scatter(members - reference) if seeds > 1 else nothing[:, None]
    replicates, medians = resampled(reference, members, bootstrap)
    known = (np.isfinite(low) & np.isfinite(high)).all(axis=1)
    inside = np.mean((reference >= low) & (reference <= high), axis=1)
    tail = (1 - LEVEL) / 2
    interval, offsets = (np.quantile(one, (tail, 1 - tail), axis=1) for one in (replicates, medians))
    columns = {
        "n": np.full(len(value), float(bootstrap.count)),
        "r2": 1 - np.sum(error**2, axis=1) / spread if spread else nothing,
        "sigma": sigma,
        "biweight": np.asarray(biweight_scale(error, c=6.0, axis=1)),
        "median": centre,
        "outliers": np.mean(np.abs(error - centre[:, None]) > CLIP * sigma[:, None], axis=1),
        "cover90": np.where(known, inside, np.nan),
        "sigma_low": interval[0],
        "sigma_high": interval[1],
        "median_low": offsets[0],
        "median_high": offsets[1],
        "seeds_mean": by_seed.mean(axis=1),
        "seeds_scatter": by_seed.std(axis=1, ddof=1) if seeds > 1 else nothing,
        "bound_ratio": nothing if limit is None else _ratio(error, limit),
    }
    rows = ({name: float(column[i]) for name, column in columns.items()} for i in range(len(value)))
    return [Measured(row, one) for row, one in zip(rows, replicates, strict=True)]


def clipped_scatter(error: Float) -> Float:
    """Standard deviation (...) of errors (..., n) without those beyond 3 sigma of their median, again and again.

    As astropy.stats.sigma_clip with its defaults (median as centre, five passes), for many rows at once.
    """
    ordered = np.sort(error.reshape(-1, error.shape[-1]), axis=1)
    ordered -= ordered[:, ordered.shape[1] // 2, None].copy()  # so that squares lose no digits
    return _of_sorted(ordered).reshape(error.shape[:-1])


def _of_sorted(ordered: Float, part: int = 16) -> Float:
    """Clipped scatter (r,) of sorted errors (r, n) that lie about 0.

    Those that are kept are neighbours. Where they begin and end is looked for in the lowest and the highest of them, a
    `part`-th of all; what lies between is summed once, and cumulative sums go outwards from there, so that far errors
    take no digits from the others. Rows that lose more are done again with halves.
    """
    n = ordered.shape[1]
    wide = min(n // part + 1, n // 2)
    below, between, above = np.split(ordered, (wide, n - wide), axis=1)
    below_sum, above_sum = _outwards(below, between.sum(axis=1), above)
    below_square, above_square = _outwards(below**2, np.einsum("ij,ij->i", between, between), above**2)
    row = np.arange(len(ordered))
    first, last = np.zeros(len(ordered), dtype=np.int64), np.full(len(ordered), n)
    for done in range(PASSES + 1):
        count, end = last - first, last - n + wide
        mean = (below_sum[row, first] + above_sum[row, end]) / count
        square = (below_square[row, first] + above_square[row, end]) / count
        scatter = np.sqrt(np.maximum(square - mean**2, 0))
        centre = (ordered[row, first + (count - 1) // 2] + ordered[row, first + count // 2]) / 2
        low, high = centre - CLIP * scatter, centre + CLIP * scatter
        new_first = np.maximum(first, np.count_nonzero(below < low[:, None], axis=1))
        new_last = np.minimum(last, n - np.count_nonzero(above > high[:, None], axis=1))
        if done == PASSES or (np.array_equal(first, new_first) and np.array_equal(last, new_last)):
            break
        first, last = new_first, new_last
    deep = np.flatnonzero((new_first == wide) | (new_last == n - wide))
    if len(deep) and wide < n // 2:
        scatter[deep] = _of_sorted(ordered[deep], part=2)
    return np.asarray(scatter)


def _outwards(below: Float, between: Float, above: Float) -> tuple[Float, Float]:
    """Sums (r, w + 1) of all below the middle from a column on, and of what is `between` and above it up to one."""
    left, right = (np.zeros((len(below), below.shape[1] + 1)) for _ in range(2))
    np.cumsum(below[:, ::-1], axis=1, out=left[:, -2::-1])
    np.cumsum(above, axis=1, out=right[:, 1:])
    return left, right + between[:, None]


def significantly_less(one: Float, other: Float) -> bool:
    """Whether replicates (R,) of one measure lie below those of another on the same stars and seeds."""
    return bool(np.mean(one < other) >= 1 - (1 - LEVEL) / 2)


def resampled(reference: Float, members: Float, bootstrap: Bootstrap) -> tuple[Float, Float]:
    """Clipped scatters and medians (k, R) of the errors of resampled seeds on resampled stars.

    reference: (n,); members: (k, m, n). A replicate's prediction is the mean of the seeds that it draws.
    """
    k, m, n = members.shape
    random = np.random.default_rng([bootstrap.seed, 1])
    count = len(bootstrap.stars)
    seeds = random.integers(0, m, (count, m))
    share = np.stack([(seeds == j).mean(axis=1) for j in range(m)], axis=1)  # (R, m)
    centre = np.median(members.mean(axis=1) - reference, axis=1)
    about = members - reference - centre[:, None, None]  # shares add up to 1, so errors are theirs
    scatter, median = np.empty((k, count)), np.empty((k, count))
    at_once = max(1, CACHE // n)
    for start in range(0, count, at_once):
        own = slice(start, start + at_once)
        stars = bootstrap.stars[own]
        mixes, mix = np.unique(share[own], axis=0, return_inverse=True)  # few seeds can be drawn in few ways
        place = stars + n * mix.reshape(-1, 1)
        drawn = np.empty(stars.shape)
        for i in range(k):
            # not a product of matrices: BLAS takes all cores, and this is done before they have woken up
            error = np.einsum("ij,jk->ik", mixes, about[i])
            np.take(error, place, out=drawn, mode="clip")  # none is beyond, which "raise" takes long to see
            drawn.sort(axis=1)
            scatter[i, own] = _of_sorted(drawn)
            median[i, own] = (drawn[:, (n - 1) // 2] + drawn[:, n // 2]) / 2 + centre[i]
    return scatter, median


def _ratio(error: Float, limit: Float) -> Float:
    """How many times the bound the errors (k, n) scatter: clipped scatter in units of each star's bound."""
    known = np.isfinite(limit) & (limit > 0)
    if np.count_nonzero(known) < LEAST:
        return np.full(len(error), np.nan)
    return clipped_scatter(error[:, known] / limit[known])
