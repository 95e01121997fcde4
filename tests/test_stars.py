"""Which rows are of one star."""

from __future__ import annotations

import numpy as np

from stores.stars import same_stars


def test_near_positions_are_one_star_everywhere_on_the_sky() -> None:
    ra = np.array([0.0001, 359.9999, 10.0, 190.0, 50.0, 50.0])
    dec = np.array([0.0, 0.0, 89.9999, 89.9999, 20.0, 20.0 + 4 / 3600])
    star = same_stars(ra, dec)
    assert star[0] == star[1]
    assert star[2] == star[3]
    assert len(np.unique(star)) == 4
    assert len(np.unique(same_stars(ra, dec, radius=5.0))) == 3


def test_rows_without_a_position_are_stars_of_their_own() -> None:
    nothing = np.full(3, np.nan)
    assert len(np.unique(same_stars(nothing, nothing))) == 3


def test_keys_chain_rows_into_stars() -> None:
    far = np.arange(6) * 10.0
    gaia = np.array([2**62 + 1, 2**62 + 2, 2**62 + 1, 0, 0, 0])  # equal as floats, but not as ids
    star = same_stars(far, far, [gaia, np.array([0, 0, 0, 7, 8, 7])])
    assert star[0] == star[2] != star[1]
    assert star[3] == star[5] != star[4]
    assert len(np.unique(star)) == 4
    linked = same_stars(far, far, [gaia, np.array([0, 1, 1, 0, 0, 0])])
    assert len(set(linked[:3])) == 1
