"""Correction: what a few stars with labels say of another method's zero points and slopes.

Scales of labels differ between catalogues, and models are wrong by amounts that depend on the kind of star: nothing,
an offset, an offset with a slope in [Fe/H], or with slopes in Teff, log g and [Fe/H]. The more terms, the
better for many stars and the worse for few: each step up has to lower the cross-validated mean absolute error by more
than the standard error of the difference, star by star.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

TERMS = ("teff", "logg", "feh")
STEPS: tuple[tuple[int, ...] | None, ...] = (None, (), (2,), (0, 1, 2))  # columns of the terms; None corrects nothing
HUBER = 1.345  # standard deviations beyond which a star counts less (Huber 1964, Ann. Math. Stat. 35, 73)
ROUNDS = 20


@dataclass(frozen=True)
class Correction:
    """value + offset + slopes . (terms - middle); columns None changes nothing. slopes, middle: (q,) by columns."""

    columns: tuple[int, ...] | None
    offset: float = 0.0
    slopes: Float = field(default_factory=lambda: np.zeros(0))
    middle: Float = field(default_factory=lambda: np.zeros(0))

    def __call__(self, value: Float, terms: Float) -> Float:
        """Corrected values (n,); terms (n, 3)."""
        if self.columns is None:
            return value
        corrected: Float = value + self.offset + (terms[:, list(self.columns)] - self.middle) @ self.slopes
        return corrected

    @classmethod
    def fit(cls, error: Float, terms: Float, columns: tuple[int, ...] | None) -> Correction:
        """From errors, label - value (n,), by least squares in which outliers count less."""
        if columns is None:
            return cls(None)
        own = terms[:, list(columns)]
        middle = np.median(own, axis=0)
        scatter = np.maximum(np.std(own, axis=0), 1e-12)
        design = np.column_stack([np.ones(len(error)), (own - middle) / scatter])
        found = np.zeros(design.shape[1])
        found[0] = np.median(error)
        for _ in range(ROUNDS):
            residual = error - design @ found
            typical = max(1.4826 * float(np.median(np.abs(residual))), 1e-12)
            root = np.sqrt(np.minimum(1.0, HUBER * typical / np.maximum(np.abs(residual), 1e-300)))
            found = np.linalg.lstsq(design * root[:, None], error * root, rcond=None)[0]
        return cls(columns, float(found[0]), found[1:] / scatter, middle)

    @classmethod
    def chosen(cls, value: Float, terms: Float, y: Float, fold: NDArray[np.int64]) -> tuple[Correction, Float]:
        """The correction that cross-validation chooses, and values (n,) corrected without the star's own fold.

        value, y: (n,) predictions and labels; terms (n, 3); fold: (n,), of which there are at least two
        """
        error = y - value
        best: tuple[int, ...] | None = None
        held = value
        for columns in STEPS[1:]:
            tried = np.empty(len(value))
            for number in np.unique(fold):
                own = fold == number
                tried[own] = cls.fit(error[~own], terms[~own], columns)(value[own], terms[own])
            gain = np.abs(y - held) - np.abs(y - tried)
            if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
                best, held = columns, tried
        return cls.fit(error, terms, best), held
