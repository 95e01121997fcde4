"""Ridge regression on principal components of the spectra."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines import baseline
from benchmarks.baselines.held import Held, calibrating, refuse_empty
from benchmarks.task import Predicted, Task
from embed.probe import Ridge
from heads.sample import Sample
from heads.scaling import Scaling

Float = NDArray[np.float64]

COMPONENTS = 64
SHARE = 0.5  # of the say that the target's stars have together
MOST = 20.0  # source stars that a star of the target may weigh as much as: a handful must not outweigh a survey
FEWEST = 10  # stars with a label from which it can be learned


@baseline("ridge_pca64")
def ridge_pca64(task: Task) -> Predicted:
    """A ridge on 64 principal components of the standardised pixels, fitted to source and target stars together.

    With few stars of the target there is no fitting 64 coefficients to them alone, and a correction of the source's
    answers can only mend what is a function of those answers. So both are fitted at once, with weights that give the
    target half of the say, and one more feature that tells the surveys apart, as their scales have zero points of
    their own. Components and standardisation are the source's. Label by label, stars without the label are left out;
    the penalty is chosen by leave-one-out errors in closed form.

    Sigmas and bounds are set by the leave-one-out errors of the target's stars, if at least 20 have the label, else by
    those of the source's: then they know nothing of what changes from one survey to the other.
    """
    source, tuning, test = task.source, task.tuning, task.test
    refuse_empty(len(source), "source survey")
    scaling = Scaling.of(*source.blocks["pixels"])
    components = _Components(_scaled(source, scaling))
    x, x_tuning, x_new = (components(_scaled(one, scaling)) for one in (source, tuning, test))
    x, x_tuning, x_new = (
        np.column_stack([values, np.full(len(values), survey)])
        for values, survey in ((x, 0.0), (x_tuning, 1.0), (x_new, 1.0))
    )
    k = len(test.targets)
    value = np.full((len(test), k), np.nan)
    left_source, left_tuning = np.full((len(source), k), np.nan), np.full((len(tuning), k), np.nan)
    for j in range(k):
        own, other = (np.flatnonzero(np.isfinite(one.y[:, j]) & (one.worth > 0)) for one in (source, tuning))
        if len(own) + len(other) < FEWEST:
            continue
        worth = shared(source.worth[own], tuning.worth[other])
        found = Ridge.fit(
            np.concatenate([x[own], x_tuning[other]]),
            np.concatenate([source.y[own, j], tuning.y[other, j]]),
            worth,
        )
        value[:, j] = found(x_new)
        left_source[own, j], left_tuning[other, j] = np.split(found.left_out, [len(own)])
    value[~test.blocks["pixels"][1].any(axis=1)] = np.nan
    y = np.where(calibrating(source), source.y, np.nan)
    held = Held.chosen(
        Held(y, left_source, np.ones_like(left_source)), Held(tuning.y, left_tuning, np.ones_like(left_tuning))
    )
    return held.judge(test.targets, value, np.where(np.isfinite(value), 1.0, np.nan))


def shared(source: Float, tuning: Float) -> Float:
    """Weights (n + m,) of stars worth source (n,) and tuning (m,), of which the latter get SHARE, within MOST."""
    if not len(source) or not len(tuning):
        return np.concatenate([source, tuning])
    factor = SHARE / (1 - SHARE) * source.sum() / tuning.sum()
    return np.concatenate([source, tuning * min(factor, MOST * source.mean() / tuning.mean())])


def _scaled(sample: Sample, scaling: Scaling) -> Float:
    return scaling(*sample.blocks["pixels"]).astype(np.float64)


class _Components:
    """Coordinates (n, c) of features (n, d) along the first principal components of others."""

    def __init__(self, x: Float) -> None:
        self.mean = x.mean(axis=0)
        centred = x - self.mean
        if len(x) > x.shape[1]:
            axes = np.linalg.eigh(centred.T @ centred)[1].T[::-1]  # much quicker than the same by its singular values
        else:
            axes = np.linalg.svd(centred, full_matrices=False)[2]
        self.axes = axes[: min(COMPONENTS, len(x) - 1)]

    def __call__(self, x: Float) -> Float:
        projected: Float = (x - self.mean) @ self.axes.T
        return projected
