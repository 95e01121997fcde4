"""Task: what a method of a comparison is given, and Predicted: what it says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heads.sample import Sample
from stores.spectra import SpectraStore

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """Labelled stars of the source, labelled stars of the target, and stars of the target to predict.

    source, tuning, test: samples with blocks `pixels` and `embedding`; the labels y of `test` are all NaN
    tuning: may be empty
    spectra: the target's spectra store, which has what samples lack (ivar), by id
    """

    source: Sample
    tuning: Sample
    test: Sample
    spectra: SpectraStore
    seed: int


@dataclass(frozen=True)
class Predicted:
    """What a method says of the stars of `test`, in the order of its targets.

    value, sigma: (n, k) in the labels' units; NaN where a method gives none
    low90, high90: (n, k), bounds of 90 per cent; NaN likewise
    members: (m, n, k), values by seed; m = 1 for methods without chance
    """

    value: Float
    sigma: Float
    low90: Float
    high90: Float
    members: Float
