"""Nearest neighbours in the space of embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines import baseline
from benchmarks.baselines.held import FEWEST, Held, calibrating, refuse_empty
from benchmarks.task import Predicted, Task
from heads.sample import Sample
from heads.scaling import Scaling

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

COUNTS = (1, 2, 3, 5, 8, 12, 20, 30)  # of neighbours, from which one is chosen
FEWEST_KNOWN = 10  # stars with a label from which it can be learned
FEWEST_OFFSET = 5  # stars of the target that tell an offset
CLOSE = 1e-3  # of the typical distance: nearer ones are as good as that


@baseline("knn")
def knn(task: Task) -> Predicted:
    """The mean label of the nearest stars in embedding space, weighted by 1 / distance.

    Embeddings are standardised on the source. Stars of the target to learn from stand beside those of the source,
    whose labels are first shifted by the median difference that they show for the target's stars: catalogues have
    zero points of their own, and a mean over both would lie anywhere between. How many neighbours, of 1 to 30, is
    chosen label by label by the leave-one-out error (mean absolute) of the target's stars, if 20 have the label,
    else of all stars; no spectrum is its own star's neighbour.

    The predicted sigma is the neighbours' scatter, with the typical leave-one-out error in quadrature; sigmas and
    bounds are then set by the leave-one-out errors of the target's stars, if 20 have the label, else of the source's.
    """
    source, tuning, test = task.source, task.tuning, task.test
    refuse_empty(len(source), "source survey")
    scaling = Scaling.of(*source.blocks["embedding"])
    pool = Sample.concatenated([source, tuning]) if len(tuning) else source
    x, x_new = (scaling(*sample.blocks["embedding"]) for sample in (pool, test))
    n, k, counted = len(source), len(test.targets), calibrating(pool)
    value, sigma = (np.full((len(test), k), np.nan) for _ in range(2))
    left, left_sigma, y = (np.full((len(pool), k), np.nan) for _ in range(3))
    for j in range(k):
        known = np.flatnonzero(np.isfinite(pool.y[:, j]))
        if len(known) < FEWEST_KNOWN:
            continue
        own = _Neighbours(x[known], pool.worth[known], pool.star[known])
        label = pool.y[known, j].copy()
        foreign = known >= n  # stars of the target
        label[~foreign] += _offset(x[known], pool.star[known], pool.worth[known], label, foreign)
        near = own.of(x[known], pool.star[known])
        counts = [count for count in COUNTS if count < len(known)]
        judges = foreign if foreign.sum() >= FEWEST else counted[known, j]
        tried = [near.mean(label, count) for count in counts]
        errors = [np.nanmean(np.abs(mean - label)[judges]) for mean, _ in tried]
        best = int(np.argmin(errors))
        typical = 1.4826 * float(np.nanmedian(np.abs(tried[best][0] - label)[judges]))
        left[known, j], left_sigma[known, j] = tried[best][0], np.hypot(tried[best][1], max(typical, 1e-9))
        y[known, j] = np.where(counted[known, j], label, np.nan)
        mean, scatter = own.of(x_new).mean(label, counts[best])
        value[:, j], sigma[:, j] = mean, np.hypot(scatter, max(typical, 1e-9))
    empty = ~test.blocks["embedding"][1].any(axis=1)
    value[empty], sigma[empty] = np.nan, np.nan
    # errors of the source's stars are those about their shifted labels
    held = Held.chosen(Held(y[:n], left[:n], left_sigma[:n]), Held(y[n:], left[n:], left_sigma[n:]))
    return held.judge(test.targets, value, sigma)


def _offset(x: Float32, star: NDArray[np.int64], worth: Float, label: Float, foreign: NDArray[np.bool_]) -> float:
    """What to add to the source's labels so that they agree with the target's, by the target's stars."""
    if foreign.sum() < FEWEST_OFFSET or (~foreign).sum() < FEWEST_KNOWN:
        return 0.0
    source = _Neighbours(x[~foreign], worth[~foreign], star[~foreign])
    mean, _ = source.of(x[foreign]).mean(label[~foreign], COUNTS[3])
    return float(np.median(label[foreign] - mean))


class _Near:
    """The nearest of m rows to n others: row (n, c), weight (n, c), 0 where there is none; nearest first."""

    def __init__(self, row: NDArray[np.int64], weight: Float) -> None:
        self.row = row
        self.weight = weight

    def mean(self, label: Float, count: int) -> tuple[Float, Float]:
        """Weighted mean and scatter (n,) of the labels (m,) of so many neighbours; NaN without any."""
        weight = np.where(np.cumsum(self.weight > 0, axis=1) <= count, self.weight, 0.0)
        total = weight.sum(axis=1)
        total = np.where(total > 0, total, np.nan)
        own = label[self.row]
        mean = np.sum(weight * own, axis=1) / total
        scatter = np.sqrt(np.sum(weight * (own - mean[:, None]) ** 2, axis=1) / total)
        return mean, scatter


class _Neighbours:
    """Rows (m, d) with their worth and star (m,), to be searched by Euclidean distance."""

    def __init__(self, x: Float32, worth: Float, star: NDArray[np.int64]) -> None:
        import faiss

        self.index = faiss.IndexFlatL2(x.shape[1])
        self.index.add(np.ascontiguousarray(x, dtype=np.float32))
        self.worth = worth
        self.star = star

    def of(self, x: Float32, star: NDArray[np.int64] | None = None) -> _Near:
        """Neighbours of rows (n, d); with their stars (n,), none of the same star."""
        most = COUNTS[-1]
        if star is not None:  # as many more as the star may have spectra
            most += int(np.unique(self.star, return_counts=True)[1].max())
        square, row = self.index.search(np.ascontiguousarray(x, dtype=np.float32), min(most, self.index.ntotal))
        distance = np.sqrt(np.maximum(square, 0.0)).astype(np.float64)
        typical = float(np.median(distance)) if distance.size else 1.0
        weight = self.worth[row] / np.maximum(distance, CLOSE * max(typical, 1e-30))
        if star is not None:
            weight = np.where(self.star[row] == star[:, None], 0.0, weight)
        return _Near(row, weight)
