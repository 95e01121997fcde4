"""Parts of the labels, such as train, valid and test: split by star, never by spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stores.errors import InputError, OptionError
from stores.labels import UNKNOWN, Labels, star_regimes

FRACTIONS = {"train": 0.8, "valid": 0.1, "test": 0.1}


def split(labels: Labels, fractions: Mapping[str, float] = FRACTIONS, seed: int = 0) -> Labels:
    """The same labels with every star in one part, stored with them.

    fractions: of stars, by part; they add up to 1. Each part gets its share of every [Fe/H] regime (that of a star's
    median), and at least one star of a regime that has as many stars as there are parts.
    seed: the same stars and seed give the same parts, whatever the order of rows and the numbers of stars.
    Raises OptionError for fractions that cannot work, InputError for fewer stars than parts.
    """
    shares = check(fractions, seed)
    # stars in the order of their smallest id: ids are sorted
    stars, first, index = np.unique(labels.star, return_index=True, return_inverse=True)
    if len(stars) < len(shares):
        raise InputError(f"{len(stars)} stars are too few for {len(shares)} parts; label more spectra.")
    regimes = star_regimes(labels)
    part = np.empty(len(stars), dtype=np.int64)
    for number in range(UNKNOWN + 1):
        members = np.flatnonzero(regimes == number)
        members = members[np.argsort(first[members])]
        members = np.random.default_rng([seed, number]).permutation(members)
        part[members] = np.repeat(np.arange(len(shares)), _sizes(len(members), shares))
    notes = {**labels.notes, "split": {"fractions": dict(fractions), "seed": seed}}
    return replace(labels, split=part[index], parts=tuple(fractions), notes=notes)


def check(fractions: Mapping[str, float], seed: int) -> np.ndarray:
    """The fractions as an array; raises OptionError if they or the seed cannot work."""
    shares = np.array(list(fractions.values()), dtype=np.float64)
    if len(shares) < 2 or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        shown = ", ".join(f"{name}={share:g}" for name, share in fractions.items())
        raise OptionError(f"parts {shown or 'none'} must be two or more fractions above 0 that add up to 1.")
    if seed < 0:
        raise OptionError(f"seed {seed} must be 0 or more.")
    return shares


def _sizes(n: int, shares: np.ndarray) -> np.ndarray:
    """How many of n go to each part: whole numbers nearest to the shares, none of them 0 if n allows."""
    sizes = np.floor(n * shares).astype(np.int64)
    rest = n * shares - sizes
    sizes[np.argsort(-rest, kind="stable")[: n - sizes.sum()]] += 1
    while n >= len(shares) and (sizes == 0).any():
        sizes[np.argmax(sizes)] -= 1
        sizes[np.argmin(sizes)] += 1
    return sizes
