"""Standardisation of features and labels, learned from the training set alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
LIMIT = 8.0  # standard deviations beyond which a feature is a defect, not a star


@dataclass(frozen=True)
class Scaling:
    """mean, scatter (d,) of columns."""

    mean: Float
    scatter: Float

    @classmethod
    def of(cls, values: NDArray[np.floating], valid: NDArray[np.bool_]) -> Scaling:
        """Of values (n, d) where valid (n, d); a column without valid values gets 0 and 1."""
        d = values.shape[1]
        count, total, square = np.zeros(d), np.zeros(d), np.zeros(d)
        shift = np.zeros(d)
        for start in range(0, len(values), 1024):
            part = np.where(valid[start : start + 1024], values[start : start + 1024], np.nan).astype(np.float64)
            known = np.isfinite(part)
            if start == 0:
                shift = np.where(known.any(axis=0), np.nansum(part, axis=0) / np.maximum(known.sum(axis=0), 1), 0.0)
            centred = np.where(known, part - shift, 0.0)
            count += known.sum(axis=0)
            total += centred.sum(axis=0)
            square += (centred**2).sum(axis=0)
        mean = total / np.maximum(count, 1)
        variance = np.maximum(square / np.maximum(count, 1) - mean**2, 0.0)
        scatter = np.sqrt(variance)
        floor = 1e-6 * max(float(scatter.max(initial=0.0)), 1e-12)
        return cls(mean + shift, np.where(scatter > floor, scatter, 1.0))

    def __call__(self, values: NDArray[np.floating], valid: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Standardised (n, d), within +-LIMIT; 0, the mean, where not valid."""
        scaled = np.clip((values - self.mean) / self.scatter, -LIMIT, LIMIT).astype(np.float32)
        return scaled if valid is None else np.where(valid, scaled, np.float32(0))
