"""What the noise of a twin's spectra lets anyone know of its stars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stores.progress import progress

if TYPE_CHECKING:
    from stores.simulate.instrument import Instrument
    from stores.simulate.observe import Fates
    from stores.simulate.population import Stars

Float = NDArray[np.float64]
AT_ONCE = 256


def covariances(
    instrument: Instrument, stars: Stars, fates: Fates, seed: int, wavelengths: tuple[float, float] | None
) -> Float:
    """The smallest covariances (n, 5, 5) of the five labels as an instrument measures them; inf where it cannot.

    The velocity and the continuum are not known. wavelengths: Angstrom, between which pixels count, if not all do
    """
    from stores.simulate.observe import observe
    from stores.simulate.truth import fisher_matrices
    from stores.simulate.twin import shared_emulator

    emulator = shared_emulator()
    parts = []
    starts = range(0, len(stars), AT_ONCE)
    for start in progress(starts, f"bounds of {instrument.name}", unit="block", total=len(starts)):
        rows = slice(start, min(start + AT_ONCE, len(stars)))
        seen = observe(stars.take(rows), instrument, emulator, seed, fates=fates.take(rows))
        parts.append(fisher_matrices(seen, emulator, wavelengths))
    matrices = np.concatenate(parts)
    empty = np.linalg.matrix_rank(matrices) < matrices.shape[-1]
    found = np.linalg.inv(np.where(empty[:, None, None], np.eye(matrices.shape[-1]), matrices))[:, :5, :5]
    return np.where(empty[:, None, None], np.inf, found)
