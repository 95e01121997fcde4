"""Interstellar extinction: the law of Cardelli, Clayton & Mathis (1989, ApJ 345, 245), R_V = 3.1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

R_V = 3.1
# their equations 3a and 3b, powers of x - 1.82 from 0 up, for 1.1 < x < 3.3 per micron
OPTICAL_A = (1.0, 0.17699, -0.50447, -0.02427, 0.72085, 0.01979, -0.77530, 0.32999)
OPTICAL_B = (0.0, 1.41338, 2.28305, 1.07233, -5.38434, -0.62251, 5.30260, -2.09002)
# their equations 2a and 2b, coefficients of x**1.61, for 0.3 < x < 1.1 per micron
INFRARED_A, INFRARED_B, INFRARED_POWER = 0.574, -0.527, 1.61


def extinction(wavelength: Float) -> Float:
    """A(lambda) / E(B-V) in magnitudes at wavelengths (n_pix,) from 3030 to 33000 Angstrom."""
    x = 1e4 / wavelength
    near = x**INFRARED_POWER
    y = x - 1.82
    a = np.where(x < 1.1, INFRARED_A * near, np.polynomial.polynomial.polyval(y, OPTICAL_A))
    b = np.where(x < 1.1, INFRARED_B * near, np.polynomial.polynomial.polyval(y, OPTICAL_B))
    return R_V * a + b
