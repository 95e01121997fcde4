"""Pixels of the sphere in the nested HEALPix scheme (Gorski et al. 2005, ApJ 622, 759), as DESI groups its files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

MAX_NSIDE = 64  # DESI's


def pixel_of(nside: int, ra: Float, dec: Float) -> Int:
    """Nested pixel (n,) of positions (n,) in deg; nside is a power of two."""
    z, turn = np.sin(np.radians(dec)), (ra % 360.0) / 90.0  # turn: quarters of the circle
    equator = np.abs(z) <= 2 / 3
    # their section 5.2: in the belt, lines of constant x and y are the pixels' edges
    up, down = nside * (0.5 + turn - 0.75 * z), nside * (0.5 + turn + 0.75 * z)
    i, j = np.floor(up).astype(np.int64), np.floor(down).astype(np.int64)
    row_i, row_j = i // nside, j // nside
    belt = np.where(row_i == row_j, row_i % 4 + 4, np.where(row_i < row_j, row_i % 4, row_j % 4 + 8))
    x_belt, y_belt = j % nside, nside - 1 - i % nside
    # the caps: four triangles each, measured from the pole
    quarter = np.minimum(np.floor(turn), 3).astype(np.int64)
    within = turn - quarter
    radius = nside * np.sqrt(3 * (1 - np.abs(z)))
    a = np.minimum(np.floor(within * radius), nside - 1).astype(np.int64)
    b = np.minimum(np.floor((1 - within) * radius), nside - 1).astype(np.int64)
    north = z >= 0
    cap = np.where(north, quarter, quarter + 8)
    x_cap, y_cap = np.where(north, nside - 1 - b, a), np.where(north, nside - 1 - a, b)
    face = np.where(equator, belt, cap)
    x, y = np.where(equator, x_belt, x_cap), np.where(equator, y_belt, y_cap)
    return face * nside**2 + _spread(x) + 2 * _spread(y)


def _spread(value: Int) -> Int:
    """The bits of a number at the even places of another."""
    result = np.zeros_like(value)
    for bit in range(30):
        result |= ((value >> bit) & 1) << (2 * bit)
    return result


def fitting_nside(ra: Float, dec: Float, most: int) -> int:
    """The smallest nside, up to DESI's 64, whose pixels hold at most `most` of these positions."""
    nside = 1
    while nside < MAX_NSIDE and np.bincount(pixel_of(nside, ra, dec)).max(initial=0) > most:
        nside *= 2
    return nside
