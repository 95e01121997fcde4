"""The Payne: labels from a fit of model spectra to the pixels (Ting et al. 2019, ApJ 879, 69; arXiv:1804.01530)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines import baseline
from benchmarks.baselines.correction import TERMS, Correction
from benchmarks.baselines.held import FEWEST, Held, excess
from benchmarks.baselines.survey import fits_of
from benchmarks.task import Predicted, Task
from heads.sample import Sample
from stores.spectra import SpectraStore

Float = NDArray[np.float64]

FOLDS = 10


@baseline("payne")
def payne(task: Task) -> Predicted:
    """Fit the emulator's spectrum to each star: its labels, microturbulence among them, velocity and line spread.

    Model and data are prepared alike (`renderer`); chi^2 has the store's ivar and the model's own errors (`survey`).
    Bounds are those of the emulator; three starts guard against local minima (`starts`); sigma is that of the
    curvature, scaled by the square root of the reduced chi^2 and for neighbouring pixels that err alike (`fitter`).
    No label of the source is used, and a star's result does not depend on those beside it.

    Of labels that at least 20 stars of the target have, a correction is learned, as simple as cross-validation
    allows (`correction`), and sigmas and bounds are set by the cross-validated errors, with a scatter in
    quadrature that the curvature knows nothing of. Without them sigmas are formal: they have the noise, not what is
    wrong with the models. Labels that the emulator does not have are NaN, as are stars without pixels.
    """
    tuning, test = task.tuning, task.test
    value, sigma, terms = _read(task.spectra, test)
    k = len(test.targets)
    y, held, held_sigma = (np.full((len(tuning), k), np.nan) for _ in range(3))
    if len(tuning) >= FEWEST:
        known_value, known_sigma, known_terms = _read(task.spectra, tuning)
        fold = tuning.folds(FOLDS, task.seed)
        for j in range(k):
            rows = np.flatnonzero(np.isfinite(tuning.y[:, j]) & np.isfinite(known_value[:, j]))
            if len(rows) < FEWEST:
                continue
            correction, held[rows, j] = Correction.chosen(
                known_value[rows, j], known_terms[rows], tuning.y[rows, j], fold[rows]
            )
            y[rows, j] = tuning.y[rows, j]
            value[:, j] = correction(value[:, j], terms)
        more = excess(y - held, known_sigma)
        held_sigma, sigma = np.hypot(known_sigma, more), np.hypot(sigma, more)
    return Held(y, held, held_sigma).judge(test.targets, value, sigma)


def _read(spectra: SpectraStore, sample: Sample) -> tuple[Float, Float, Float]:
    """Values and sigmas (n, k) of a sample's targets, and the labels that corrections are functions of (n, 3)."""
    from stores.simulate.emulator import LABELS

    parameters, sigma = fits_of(spectra)(sample.id)
    value, error = (np.full((len(sample), len(sample.targets)), np.nan) for _ in range(2))
    for j, target in enumerate(sample.targets):
        if target in LABELS:
            place = LABELS.index(target)
            value[:, j], error[:, j] = parameters[:, place], sigma[:, place]
    return value, error, parameters[:, [LABELS.index(name) for name in TERMS]]
