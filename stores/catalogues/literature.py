"""Stars as several papers have measured them, combined to one row a star."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stores.catalogue import Catalogue, Cut
from stores.catalogues import Sieve
from stores.spectrum import Float
from stores.stars import chord, directions

SAME_PLACE = 10.0  # arcsec
EPOCH = 2000.0  # of positions in catalogues of the literature
FROM_DIFFERENCE = np.sqrt(np.pi) / 2  # sigma of a Gaussian in units of the mean difference of two of its values
DISCORDANT = 0.5  # dex
DISCORDANT_CUT = {"discordant": f"measurements of [Fe/H] scatter by no more than {DISCORDANT:g} dex"}


def combine_papers(
    name: str,
    star: NDArray[np.int64],
    values: Mapping[str, Float],
    errors: Mapping[str, Float],
    ra: Float,
    dec: Float,
    sieve: Sieve,
) -> Catalogue:
    """One row for each star from rows (m,) of papers; `sieve` is one of stars, with the cut 'discordant'.

    star: number of the star of each row, from 0 on. A value is the median of the papers' values, whatever their
    order, its sigma their scatter or, if that is larger, the median of the errors they give.
    """
    n = len(sieve.kept)
    combined, sigmas = {}, {}
    for label, value in values.items():
        sensible = np.where(np.isfinite(value) & (np.abs(value) < 1e6), value, np.nan)
        error = np.where(errors[label] > 0, errors[label], np.nan) if label in errors else np.full(len(star), np.nan)
        combined[label], scatter = median_and_scatter(sensible, star, n)
        given = median_and_scatter(np.where(np.isfinite(sensible), error, np.nan), star, n)[0]
        sigmas[label] = np.fmax(np.where(scatter > 0, scatter, np.nan), given)
        if label == "feh":
            sieve.drop("discordant", scatter > DISCORDANT)
    points = directions(ra, dec)
    place = np.stack([median_and_scatter(axis, star, n)[0] for axis in points.T], axis=1)
    # between two positions that disagree lies nothing
    near = np.zeros(n, dtype=bool)
    near[star[np.linalg.norm(points - place[star], axis=1) < chord(SAME_PLACE)]] = True
    torn = ~near & np.isfinite(place[:, 0])
    place[torn] = np.nan
    x, y, z = place.T
    told = [Cut("several measurements of a star are one row", len(star) - n)]
    if torn.any():
        told.append(Cut("positions of a star disagree: taken as unknown", int(torn.sum())))
    return sieve.catalogue(
        name,
        combined,
        sigmas,
        told,
        ra=np.degrees(np.arctan2(y, x)) % 360,
        dec=np.degrees(np.arctan2(z, np.hypot(x, y))),
        epoch=np.full(n, EPOCH),
    )


def median_and_scatter(values: Float, star: NDArray[np.int64], n: int) -> tuple[Float, Float]:
    """Median (n,) and scatter (n,) of the finite values (m,) of each star; NaN without one, scatter 0 of one alone.

    The scatter is the mean difference between two values, scaled so that it is the standard deviation of a Gaussian
    however few values there are; an outlier adds to it in proportion, not squared.
    """
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.lexsort((values[known], star[known]))]
    sorted_values, of = values[order], star[order]
    count = np.bincount(of, minlength=n)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    has = count > 0
    median = np.full(n, np.nan)
    low, high = (first + (count - 1) // 2)[has], (first + count // 2)[has]
    median[has] = (sorted_values[low] + sorted_values[high]) / 2
    # in order, value k of c is the larger one in k pairs and the smaller one in c - 1 - k
    rank = np.arange(len(of)) - first[of]
    total = np.bincount(of, weights=(2 * rank - count[of] + 1) * (sorted_values - median[of]), minlength=n)
    scatter = np.where(has, FROM_DIFFERENCE * total / np.maximum(count * (count - 1) / 2, 1), np.nan)
    return median, scatter


def numbered(names: NDArray[np.str_]) -> NDArray[np.int64]:
    """A key (m,) for each name, from 1 on; 0 where blank. Case, blanks and underscores do not matter."""
    plain = np.array(["".join(name.upper().replace("_", " ").split()) for name in names.tolist()], dtype=str)
    key = np.unique(plain, return_inverse=True)[1].astype(np.int64) + 1
    return np.where(plain == "", 0, key)
