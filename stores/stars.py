"""Which rows are of one star: by position, and by anything else that names stars."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
SAME_STAR = 3.0  # arcsec; about a fibre, which cannot tell closer stars apart


def directions(ra: Float, dec: Float) -> Float:
    """Unit vectors (n, 3) of positions (n,) in deg."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)


def chord(arcsec: float) -> float:
    """The distance between two unit vectors that are so far apart on the sky."""
    return float(2 * np.sin(np.radians(arcsec / 3600) / 2))


def same_stars(
    ra: Float, dec: Float, keys: Iterable[NDArray[np.int64]] = (), radius: float = SAME_STAR
) -> NDArray[np.int64]:
    """A number (n,) for each star, from 0 on: rows that are near one another or share a key are of one.

    ra, dec: (n,) deg; rows without a position are near nothing
    keys: each (n,), what a catalogue calls the star; 0 where it has no name
    radius: arcsec
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    located = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    near = cKDTree(directions(ra[located], dec[located])).query_pairs(chord(radius), output_type="ndarray")
    pairs = [located[near], *(_equal(key) for key in keys)]
    first, second = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(len(ra), len(ra)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _equal(key: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs (m, 2) of rows that chain together all rows of each key but 0."""
    named = np.flatnonzero(key != 0)
    order = named[np.argsort(key[named], kind="stable")]
    same = key[order][1:] == key[order][:-1]
    return np.stack([order[:-1][same], order[1:][same]], axis=1).astype(np.int64)
