"""Wavelengths in air and in vacuum, in Angstrom.

Vacuum to air: Morton (2000, ApJS 130, 403), after Birch and Downs (1994, Metrologia 31, 315): dry air at 15 C
and 1 atm, the IAU standard. Air to vacuum: N. Piskunov's fit of its inverse, as VALD uses it
(https://www.astro.uu.se/valdwiki/Air-to-vacuum%20conversion). Both hold for 2000-100000 A.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def air_to_vacuum(air: ArrayLike) -> NDArray[np.float64]:
    """Vacuum wavelengths of wavelengths in air, same shape."""
    wavelength = np.asarray(air, dtype=np.float64)
    s2 = (1e4 / wavelength) ** 2
    index = 1.00008336624212083 + 0.02408926869968 / (130.1065924522 - s2) + 0.0001599740894897 / (38.92568793293 - s2)
    return wavelength * index


def vacuum_to_air(vacuum: ArrayLike) -> NDArray[np.float64]:
    """Air wavelengths of wavelengths in vacuum, same shape."""
    wavelength = np.asarray(vacuum, dtype=np.float64)
    s2 = (1e4 / wavelength) ** 2
    index = 1.0000834254 + 0.02406147 / (130.0 - s2) + 0.00015998 / (38.9 - s2)
    return wavelength / index
