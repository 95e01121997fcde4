"""Maximum mean discrepancy: how far what is predicted of some stars is, as a distribution, from what is true of them.

Gretton et al. 2012, Journal of Machine Learning Research 13, 723: their unbiased estimator for samples of one size
(Lemma 6), a Gaussian kernel, its bandwidth by the median heuristic. The rows of the two samples are the same stars, so
that terms of a star with itself are left out and p-values come from exchanging the two values star by star; both
stay right for independent samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

PERMUTATIONS = 200
MOST = 1000  # stars; more are drawn from
LEAST = 10  # stars that it takes


@dataclass(frozen=True)
class Discrepancy:
    """squared: estimate of MMD^2, 0 on average for equal distributions, so it can be negative
    p: probability of as much or more by chance
    bandwidth: of the kernel, in standard deviations of the reference
    n: stars used
    """

    squared: float
    p: float
    bandwidth: float
    n: int


def discrepancy(
    value: Float, reference: Float, seed: int = 0, permutations: int = PERMUTATIONS, most: int = MOST
) -> Discrepancy | None:
    """Of value (n, d) to reference (n, d), row by row the same stars; None for fewer than 10 with finite values.

    Every coordinate counts in units of the reference's standard deviation.
    """
    random = np.random.default_rng(seed)
    known = np.flatnonzero(np.isfinite(value).all(axis=1) & np.isfinite(reference).all(axis=1))
    if len(known) < LEAST:
        return None
    if len(known) > most:
        known = np.sort(random.choice(known, most, replace=False))
    n = len(known)
    spread = reference[known].std(axis=0)
    both = np.concatenate([value[known], reference[known]]) / np.where(spread > 0, spread, 1)  # (2n, d)
    square = np.maximum(np.sum((both[:, None] - both) ** 2, axis=-1), 0)  # (2n, 2n)
    bandwidth = float(np.median(np.sqrt(square[np.triu_indices(2 * n, 1)]))) or 1.0
    kernel = np.exp(-square / (2 * bandwidth**2))
    h = kernel[:n, :n] + kernel[n:, n:] - kernel[:n, n:] - kernel[n:, :n]
    np.fill_diagonal(h, 0)
    # exchanging the values of star i turns the sign of all its terms
    signs = np.vstack([np.ones(n), random.choice([-1.0, 1.0], (permutations, n))])
    found = np.sum((signs @ h) * signs, axis=1) / (n * (n - 1))
    p = (1 + np.count_nonzero(found[1:] >= found[0])) / (1 + permutations)
    return Discrepancy(float(found[0]), float(p), bandwidth, n)
