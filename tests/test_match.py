"""Laws of the cross-match: the right star, whatever the order of rows, and no star where it is not certain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores_made import make_embeddings, make_spectra

from stores.catalogue import Catalogue
from stores.errors import InputError, OptionError
from stores.match import AMBIGUOUS, CONTRADICTED, GAIA, ID, POSITION, UNMATCHED, Spectra, match, moved

BIG_ID = 2**62 + 1
N = 200
ARCSEC = 1 / 3600


def sky(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.uniform(0, 360, n), np.degrees(np.arcsin(random.uniform(-0.99, 0.99, n)))


def spectra(n: int = N, **columns: Any) -> Spectra:
    ra, dec = sky(n)
    held = {
        "ra": ra,
        "dec": dec,
        "gaia": np.zeros(n, np.int64),
        "pmra": np.full(n, np.nan),
        "pmdec": np.full(n, np.nan),
    }
    return Spectra(BIG_ID + np.arange(n, dtype=np.int64), **(held | columns))


def stars(n: int = N, name: str = "made", **columns: Any) -> Catalogue:
    """A star at the place of each spectrum; feh says which."""
    ra, dec = sky(n)
    held = {"values": {"feh": -np.arange(n) / 100}, "sigmas": {"feh": np.full(n, 0.1)}, "ra": ra, "dec": dec}
    return Catalogue(name, **(held | columns))


def feh(n: int = N) -> np.ndarray:
    return -np.arange(n) / 100


# -- by id and Gaia id --------------------------------------------------------------------------------------


def test_ids_are_matched_to_the_last_bit() -> None:
    ours = spectra()
    found = match(stars(id=ours.id[::-1].copy(), ra=np.nan, dec=np.nan), ours)
    assert (found.fate == ID).all()
    np.testing.assert_array_equal(found.values["feh"], feh()[::-1])
    assert found.counts["by id"] == N
    # the neighbours in the last bits, which floats cannot tell apart, are others
    assert (match(stars(id=ours.id + N, ra=np.nan, dec=np.nan), ours).fate == UNMATCHED).all()


def test_gaia_ids_are_matched_to_the_last_bit() -> None:
    gaia = BIG_ID + 2 * np.arange(N, dtype=np.int64)
    found = match(stars(gaia=gaia[::-1].copy(), ra=np.nan, dec=np.nan), spectra(gaia=gaia))
    assert (found.fate == GAIA).all()
    np.testing.assert_array_equal(found.values["feh"], feh()[::-1])
    assert (match(stars(gaia=gaia + 1, ra=np.nan, dec=np.nan), spectra(gaia=gaia)).fate == UNMATCHED).all()


def test_no_gaia_id_is_no_match() -> None:
    none = np.zeros(N, np.int64)
    found = match(stars(gaia=none, ra=np.nan, dec=np.nan), spectra(gaia=none))
    assert (found.fate == UNMATCHED).all()
    assert np.isnan(found.values["feh"]).all()
    assert (found.star == -1).all()


def test_a_catalogue_with_the_spectras_ids_is_joined_by_nothing_else() -> None:
    ours = spectra()
    known = stars(id=ours.id).take(slice(100))
    found = match(known, replace(ours, ra=np.full(N, ours.ra[0]), dec=np.full(N, ours.dec[0])))
    assert (found.fate[100:] == UNMATCHED).all()  # though they lie on a star of the catalogue


def test_ids_of_another_survey_are_told_by_the_place() -> None:
    ours = spectra()
    elsewhere = stars(id=ours.id, ra=(ours.ra + 1.0), gaia=BIG_ID + np.arange(N, dtype=np.int64))
    found = match(elsewhere, ours)
    assert not (found.fate == ID).any()
    # some ids are right by place, one is not
    ra = ours.ra.copy()
    ra[7] += 1.0
    found = match(stars(id=ours.id, ra=ra), ours)
    assert found.fate[7] == CONTRADICTED
    assert np.isnan(found.values["feh"][7])
    assert found.counts["by id"] == N - 1


def test_labels_by_id_are_the_spectrums_and_not_its_stars() -> None:
    ours = spectra(4, ra=np.array([1.0, 1.0, 2.0, 3.0]), dec=np.zeros(4))
    twice = Catalogue("made", {"feh": np.array([-1.0, -2.0, -0.5])}, id=ours.id[:3], ra=ours.ra[:3], dec=ours.dec[:3])
    found = match(twice, ours)
    np.testing.assert_array_equal(found.values["feh"], [-1.0, -2.0, -0.5, np.nan])
    assert found.star[0] == found.star[1] != found.star[2]
    # of another survey they are two measurements of one star
    other = Spectra(ours.id + 100, ours.ra, ours.dec, ours.gaia, ours.pmra, ours.pmdec)
    np.testing.assert_array_equal(match(twice, other).values["feh"], [-1.5, -1.5, -0.5, np.nan])


def test_rows_that_disagree_on_a_spectrum_are_their_median_with_a_larger_sigma() -> None:
    ours = spectra(3, ra=np.arange(3.0), dec=np.zeros(3))
    ids = ours.id[[0, 0, 1, 1, 2]]
    feh, error = np.array([-1.0, -2.0, -0.5, -0.5, 0.1]), np.full(5, 0.05)
    made = Catalogue("made", {"feh": feh}, {"feh": error}, id=ids, ra=ours.ra[[0, 0, 1, 1, 2]], dec=np.zeros(5))
    found = match(made, ours)
    np.testing.assert_allclose(found.values["feh"], [-1.5, -0.5, 0.1])
    # the scatter of two values of a Gaussian is their difference times sqrt(pi) / 2
    np.testing.assert_allclose(found.sigmas["feh"], [np.sqrt(np.pi) / 2, 0.05, 0.05])
    assert found.several == 2


def test_rows_with_one_gaia_id_are_one_star() -> None:
    gaia = np.array([BIG_ID, BIG_ID, BIG_ID + 1])
    made = Catalogue("made", {"feh": np.array([-1.0, -1.2, -2.0])}, gaia=gaia, ra=np.zeros(3), dec=np.zeros(3))
    ours = spectra(2, gaia=np.array([BIG_ID, BIG_ID + 1]), ra=np.zeros(2), dec=np.zeros(2))
    found = match(made, ours)
    np.testing.assert_allclose(found.values["feh"], [-1.1, -2.0])
    assert (found.fate == GAIA).all()


def test_ways_can_be_left_out() -> None:
    ours = spectra(gaia=BIG_ID + np.arange(N, dtype=np.int64))
    whole = stars(id=ours.id, gaia=ours.gaia)
    assert (match(whole, ours).fate == ID).all()
    assert (match(whole, ours, by=("gaia", "position")).fate == GAIA).all()
    assert (match(whole, ours, by=("position",)).fate == POSITION).all()
    with pytest.raises(OptionError, match="'name' is no way to match; there are id, gaia, position"):
        match(whole, ours, by=("name",))
    for radius in (0.0, -1.0, 100.0, np.nan):
        with pytest.raises(OptionError, match="radius"):
            match(whole, ours, radius)


# -- by position --------------------------------------------------------------------------------------------


def test_the_nearest_star_within_the_radius() -> None:
    ours = spectra()
    shift = np.linspace(0, 2, N)  # arcsec
    found = match(stars(dec=ours.dec + shift * ARCSEC), ours)
    np.testing.assert_array_equal(found.fate == POSITION, shift < 1)
    np.testing.assert_array_equal(found.values["feh"][shift < 1], feh()[shift < 1])
    np.testing.assert_allclose(found.separation[shift < 1], shift[shift < 1], atol=1e-6)
    assert np.isnan(found.separation[shift > 1]).all()
    wide = match(stars(dec=ours.dec + shift * ARCSEC), ours, radius=2.1)
    assert (wide.fate == POSITION).all()


def test_the_poles_and_the_first_hour_are_no_edges() -> None:
    ours = spectra(3, ra=np.array([0.0, 100.0, 359.99999]), dec=np.array([0.0, 89.99999, 1.0]))
    theirs = Catalogue(
        "made", {"feh": np.arange(3.0)}, ra=np.array([359.9999, 280.0, 0.0001]), dec=np.array([0.0, 89.99999, 1.0])
    )
    found = match(theirs, ours, radius=0.9)
    np.testing.assert_array_equal(found.values["feh"], [0, 1, 2])


def test_rows_without_a_position_are_nowhere() -> None:
    ours = spectra(ra=np.where(np.arange(N) < 5, np.nan, sky()[0]))
    theirs = stars(dec=np.where(np.arange(N) > 190, np.nan, sky()[1]))
    found = match(theirs, ours)
    np.testing.assert_array_equal(found.fate == POSITION, (np.arange(N) >= 5) & (np.arange(N) <= 190))


def test_the_order_of_rows_does_not_matter() -> None:
    ours = spectra()
    random = np.random.default_rng(3)
    theirs = stars(
        ra=ours.ra + random.normal(0, 0.7, N) * ARCSEC,
        dec=ours.dec + random.normal(0, 0.7, N) * ARCSEC,
    )
    doubled = Catalogue(
        "made",
        {"feh": np.tile(theirs.values["feh"], 2)},
        ra=np.tile(theirs.ra, 2) + np.repeat([0, 1.5], N) * ARCSEC,
        dec=np.tile(theirs.dec, 2),
    )
    found = match(doubled, ours)
    assert 0 < found.counts["by position"] < N
    assert found.counts["ambiguous"] > 0
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(2 * N)
        again = match(doubled.take(order), ours)
        np.testing.assert_array_equal(again.values["feh"], found.values["feh"])
        np.testing.assert_array_equal(again.fate, found.fate)
    order = np.random.default_rng(9).permutation(N)
    turned = Spectra(*(getattr(ours, name)[order] for name in ("id", "ra", "dec", "gaia", "pmra", "pmdec")))
    np.testing.assert_array_equal(match(doubled, turned).values["feh"], found.values["feh"][order])


@pytest.mark.parametrize(
    ("neighbour", "fate"),
    [(0.5, AMBIGUOUS), (0.99, AMBIGUOUS), (1.3, AMBIGUOUS), (1.7, POSITION), (5.0, POSITION), (0.0, POSITION)],
)
def test_a_neighbour_that_is_as_good_removes_the_match(neighbour: float, fate: int) -> None:
    """The star lies 0.8 arcsec away, so up to 1.6 arcsec another is comparable; at its very place it is itself."""
    ours = spectra()
    theirs = stars(dec=ours.dec + 0.8 * ARCSEC)
    assert (match(theirs, ours).fate == POSITION).all()
    beside = ours.dec[7] + (0.8 if neighbour == 0 else -neighbour) * ARCSEC
    more = Catalogue(
        "made",
        {"feh": np.append(feh(), feh()[7] if neighbour == 0 else 0.3)},
        ra=np.append(theirs.ra, ours.ra[7]),
        dec=np.append(theirs.dec, beside),
    )
    found = match(more, ours)
    assert found.fate[7] == fate
    assert np.isnan(found.values["feh"][7]) == (fate == AMBIGUOUS)
    others = np.arange(N) != 7
    np.testing.assert_array_equal(found.values["feh"][others], feh()[others])


def test_a_star_of_the_catalogue_is_of_one_star_only() -> None:
    """Two targets that a wide radius brings to the same star: the nearer has it if it is much nearer, else none."""
    for near, far, fates in ((0.5, 6.0, (POSITION, AMBIGUOUS)), (4.0, 6.0, (AMBIGUOUS, AMBIGUOUS))):
        ours = spectra(2, ra=np.full(2, 10.0), dec=np.array([-near, far]) * ARCSEC)
        star = Catalogue("made", {"feh": np.array([-1.0])}, ra=np.array([10.0]), dec=np.array([0.0]))
        found = match(star, ours, radius=10.0)
        assert tuple(found.fate) == fates
        assert np.isfinite(found.values["feh"]).sum() == fates.count(POSITION)
    # two spectra of one star share it
    ours = spectra(2, ra=np.full(2, 10.0), dec=np.array([0.2, -0.2]) * ARCSEC)
    assert (match(star, ours).fate == POSITION).all()
    # but not if Gaia knows them as two
    apart = replace(ours, gaia=np.array([BIG_ID, BIG_ID + 1]))
    assert (match(star, apart).fate == AMBIGUOUS).all()


def test_no_star_is_given_to_two() -> None:
    random = np.random.default_rng(5)
    ra, dec = random.uniform(10, 10.02, 400), random.uniform(-0.01, 0.01, 400)  # crowded
    ours = spectra(400, ra=ra, dec=dec, gaia=BIG_ID + np.arange(400, dtype=np.int64))
    theirs = Catalogue(
        "made",
        {"feh": -np.arange(400) / 100},
        ra=ra + random.normal(0, 0.5, 400) * ARCSEC,
        dec=dec + random.normal(0, 0.5, 400) * ARCSEC,
    )
    found = match(theirs, ours, radius=3.0)
    given = found.star[found.star >= 0]
    assert len(given) > 20
    assert len(np.unique(given)) == len(given)
    # far apart there is nothing to confuse, and it is all right
    right = found.values["feh"][found.star >= 0] == theirs.values["feh"][found.star >= 0]
    assert right.mean() > 0.9


def test_gaia_ids_that_differ_contradict_the_place() -> None:
    ours = spectra(gaia=BIG_ID + np.arange(N, dtype=np.int64))
    gaia = ours.gaia.copy()
    gaia[:10] = BIG_ID + 1000 + np.arange(10)
    gaia[10:20] = 0
    found = match(stars(gaia=gaia), ours)
    assert (found.fate[:10] == CONTRADICTED).all()
    assert np.isnan(found.values["feh"][:10]).all()
    assert (found.fate[10:20] == POSITION).all()
    assert (found.fate[20:] == GAIA).all()


# -- motion -------------------------------------------------------------------------------------------------


def test_motion_is_astropys() -> None:
    from astropy import units as u
    from astropy.coordinates import SkyCoord
    from astropy.time import Time

    ra, dec = sky(50)
    random = np.random.default_rng(1)
    pmra, pmdec = random.normal(0, 1000, (2, 50))  # mas/yr
    at = SkyCoord(
        ra * u.deg,
        dec * u.deg,
        pm_ra_cosdec=pmra * u.mas / u.yr,
        pm_dec=pmdec * u.mas / u.yr,
        distance=np.full(50, 100.0) * u.pc,
        radial_velocity=np.zeros(50) * u.km / u.s,
        obstime=Time(2000.0, format="jyear", scale="tcb"),
    ).apply_space_motion(Time(2016.0, format="jyear", scale="tcb"))
    ours = moved(ra, dec, pmra, pmdec, np.full(50, 16.0))
    theirs = at.cartesian.xyz.value.T / 100.0
    gap = np.degrees(np.linalg.norm(ours - theirs / np.linalg.norm(theirs, axis=1, keepdims=True), axis=1)) * 3600
    assert gap.max() < 2e-3  # arcsec, of some 16
    np.testing.assert_allclose(
        moved(ra, dec, np.full(50, np.nan), pmdec, np.full(50, 16.0)), moved(ra, dec, pmra, pmdec, np.zeros(50))
    )


@pytest.mark.parametrize("side", ["catalogue", "spectra", "neither"])
def test_either_sides_motion_brings_both_to_one_epoch(side: str) -> None:
    ra, dec = sky()
    random = np.random.default_rng(2)
    pmra, pmdec = random.normal(0, 300, (2, N))
    at = moved(ra, dec, pmra, pmdec, np.full(N, 16.0))
    now_ra, now_dec = np.degrees(np.arctan2(at[:, 1], at[:, 0])) % 360, np.degrees(np.arcsin(at[:, 2]))
    known: dict[str, dict[str, Any]] = {"catalogue": {}, "spectra": {}, "neither": {}}
    known[side] = {"pmra": pmra, "pmdec": pmdec}
    theirs = stars(ra=ra, dec=dec, epoch=np.full(N, 2000.0), **known["catalogue"])
    ours = spectra(ra=now_ra, dec=now_dec, **known["spectra"])
    found = match(theirs, ours, radius=0.05)
    if side == "neither":
        assert found.counts["by position"] < 0.05 * N
    else:
        assert found.counts["by position"] == N
        np.testing.assert_array_equal(found.values["feh"], feh())
        # the wrong epoch is the wrong place
        late = replace(ours, epoch=2050.0)
        assert match(theirs, late, radius=0.05).counts["by position"] < 0.05 * N


def test_rows_of_several_epochs_are_each_moved_by_their_own_years() -> None:
    ra, dec = sky()
    pm = np.full(N, 1000.0)
    years = np.where(np.arange(N) % 2, 2000.0, 1990.0)
    at = moved(ra, dec, pm, pm, years - 2016.0)
    then_ra, then_dec = np.degrees(np.arctan2(at[:, 1], at[:, 0])) % 360, np.degrees(np.arcsin(at[:, 2]))
    for known in ({"pmra": pm, "pmdec": pm}, {}):
        theirs = stars(ra=then_ra, dec=then_dec, epoch=years, **known)
        ours = spectra(**({} if known else {"pmra": pm, "pmdec": pm}))
        assert match(theirs, ours, radius=0.05).counts["by position"] == N


# -- spectra of stores --------------------------------------------------------------------------------------


def test_spectra_come_from_either_kind_of_store(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "s.zarr", n=80, ids=np.repeat(BIG_ID + np.arange(40), 2))
    ours = Spectra.of(store)
    np.testing.assert_array_equal(np.sort(ours.id), BIG_ID + np.arange(40))  # each id once
    assert (ours.gaia == 0).all()
    embedded = make_embeddings(tmp_path / "e.zarr", n=80)
    assert len(Spectra.of(embedded)) == 80
    with pytest.raises(OptionError, match="epoch 20 is not a year"):
        Spectra.of(store, epoch=20.0)


def test_bridges_tell_gaia_ids_and_motions(tmp_path: Path) -> None:
    store = make_spectra(tmp_path / "s.zarr", n=6)
    ids = store.read("id")
    gaia = 2 * BIG_ID // 2 + 10 + np.arange(6)
    first = Catalogue(
        "first", {}, id=ids[[2, 1, 1, 3, 3]], gaia=np.array([gaia[2], gaia[1], gaia[1], gaia[3], gaia[4]])
    )
    second = Catalogue(
        "second", {}, id=ids[:2], gaia=np.array([gaia[0], BIG_ID + 77]), pmra=np.full(2, 5.0), pmdec=np.full(2, 6.0)
    )
    ours = Spectra.of(store, [first, second])
    # the first bridge that knows decides; two Gaia ids for one spectrum are none
    assert ours.gaia.tolist() == [gaia[0], gaia[1], gaia[2], 0, 0, 0]
    np.testing.assert_array_equal(ours.pmra, [5, 5, np.nan, np.nan, np.nan, np.nan])
    with pytest.raises(InputError, match="a bridge needs the spectra's ids, and the catalogue 'made' has none"):
        Spectra.of(store, [stars()])
