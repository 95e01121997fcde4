"""Where stars of a metallicity lie in (Teff, log g), and what follows: mass, microturbulence, magnitude, reddening.

The loci are smooth curves with scatter, not isochrones: chosen here, giants so that they pass near some Gaia FGK
benchmark stars (Heiter et al. 2015; Jofre et al. 2014). Metal-poor giants are hotter at a given log g, as are
metal-poor turn-offs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stores.spectrum import Float

PHASES = ("dwarf", "turnoff", "subgiant", "giant", "horizontal_branch")
DWARF, TURNOFF, SUBGIANT, GIANT, HORIZONTAL_BRANCH = range(len(PHASES))
SUN_TEFF, SUN_LOGG, SUN_MBOL = 5772.0, 4.438, 4.74  # K, dex, mag: IAU 2015 nominal values
TURNOFF_FEH = np.array([-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5])
TURNOFF_TEFF = np.array([6620.0, 6570.0, 6500.0, 6400.0, 6250.0, 6050.0, 5850.0, 5700.0])  # K, old stars
COOLEST_DWARF = 4100.0  # K
GIANT_BASE = 3.4  # log g where the subgiants end
CLUMP_ENDS = -0.8  # [Fe/H] below which core helium burning is a horizontal branch and not a clump
BOLOMETRIC_G = (6.000e-2, 6.731e-5, -6.647e-8, 2.859e-11, -7.197e-15)  # 4000-8000 K, Andrae et al. (2018)
R_G = 2.740  # A_G / E(B-V), Casagrande & VandenBerg (2018)


def turnoff_teff(feh: Float) -> Float:
    """Effective temperature (K) of the turn-off of an old population."""
    return np.interp(feh, TURNOFF_FEH, TURNOFF_TEFF)


def giant_teff(logg: Float, feh: Float) -> Float:
    """Effective temperature (K) of the red giant branch at a surface gravity."""
    height = np.asarray(logg) - 2.5
    return 4650.0 + 400.0 * height - 40.0 * height**2 - 150.0 * np.maximum(feh, -2.5)


def place(
    phase: NDArray[np.uint8], feh: Float, youth: Float, mass: Float, random: np.random.Generator
) -> tuple[Float, Float]:
    """Teff (K) and log g (n,) of stars in a phase (n,), with scatter; `mass` (n,) is of evolved stars, in suns.

    youth: (n,) K by which the turn-off is hotter than that of an old population
    """
    n = len(phase)
    u, shape = random.random(n), random.beta(2.0, 1.1, n)
    normal, other = random.normal(size=(2, n))
    hottest = turnoff_teff(feh) + youth
    dwarf_teff = COOLEST_DWARF + (hottest - 200.0 - COOLEST_DWARF) * shape
    dwarf_logg = 4.46 - 1.3e-4 * (dwarf_teff - SUN_TEFF) - 0.03 * np.minimum(feh, 0.0)
    base = giant_teff(np.full(n, GIANT_BASE), feh)
    giant_logg = 0.7 + (GIANT_BASE - 0.7) * np.sqrt(u)  # fewer to the tip
    # luminosity 10^1.7 suns whatever the temperature: a horizontal branch
    branch_teff = 5300.0 + 1600.0 * u
    branch_logg = SUN_LOGG + np.log10(mass) + 4 * np.log10(branch_teff / SUN_TEFF) - 1.7
    clump = feh > CLUMP_ENDS
    teff = np.choose(
        phase,
        (
            dwarf_teff,
            hottest - 120.0 * np.abs(normal),
            hottest + u * (base - hottest),
            giant_teff(giant_logg, feh) + 70.0 * normal,
            np.where(clump, 4850.0 - 200.0 * feh + 60.0 * normal, branch_teff),
        ),
    )
    logg = np.choose(
        phase,
        (
            dwarf_logg + 0.04 * other,
            4.12 + 0.10 * other,
            3.98 - (3.98 - GIANT_BASE) * u + 0.05 * other,
            giant_logg,
            np.where(clump, 2.45, branch_logg) + 0.08 * other,
        ),
    )
    return teff, logg


def dwarf_mass(teff: Float, feh: Float) -> Float:
    """Mass in suns of a star on the main sequence; a power law chosen here."""
    return (teff / SUN_TEFF) ** 1.4 * 10 ** (0.07 * feh)


def microturbulence(teff: Float, logg: Float) -> Float:
    """Mean microturbulence in km/s, the relation of Dutra-Ferreira et al. (2016)."""
    x, y = teff - 5500.0, logg - 4.0
    return 0.998 + 3.16e-4 * x - 0.253 * y - 2.86e-4 * x * y + 0.165 * y**2


def absolute_magnitude(teff: Float, logg: Float, mass: Float) -> Float:
    """Absolute magnitude M_G: luminosity from mass, log g and Teff, bolometric correction by Andrae et al. (2018)."""
    log_luminosity = np.log10(mass) + 4 * np.log10(teff / SUN_TEFF) - (logg - SUN_LOGG)
    correction = np.polynomial.polynomial.polyval(teff - SUN_TEFF, BOLOMETRIC_G)
    return SUN_MBOL - 2.5 * log_luminosity - correction
