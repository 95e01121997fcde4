"""Which star of a catalogue each spectrum is of: by the spectrum's id, by Gaia source id, or by position.

    spectra = Spectra.of(open_store("desi.zarr"), bridges=[mwsall])
    found = match(apogee, spectra, radius=1.0)
    found.values["feh"], found.counts               # (n,) for the n spectra, NaN without a match

A catalogue that has the spectra's own ids is joined by them and by nothing else. Otherwise Gaia ids decide where both
sides have them, then positions, moved to a common epoch by the proper motion that either side knows. What is not
certain is left out and counted: see `by_position`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stores.catalogue import Catalogue, Cut
from stores.errors import InputError, OptionError
from stores.flags import Flag
from stores.spectrum import Float
from stores.stars import chord, directions, same_stars

if TYPE_CHECKING:
    from stores.store import Store

Ids = NDArray[np.int64]
BY = ("id", "gaia", "position")
# what befell a spectrum; the first three are matches, in the order of BY
FATES = ("by id", "by Gaia id", "by position", "ambiguous", "contradicted", "unmatched")
ID, GAIA, POSITION, AMBIGUOUS, CONTRADICTED, UNMATCHED = range(len(FATES))
EPOCH, RADIUS, LARGEST_RADIUS = 2016.0, 1.0, 60.0  # Julian years; arcsec
SAME_ENTRY = 0.2  # arcsec; rows of a catalogue that are nearer are one star
OTHER_PLACE = 60.0  # arcsec; spectra and catalogue rows with one id that are so far apart are not of one star
COMPARABLE = 2.0  # a second star is as good a match up to so many times the distance of the first


def check(radius: float = RADIUS, by: Sequence[str] = BY, epoch: float = EPOCH) -> None:
    """Raise OptionError for a radius, a way to match or an epoch that cannot work."""
    if not 0 < radius <= LARGEST_RADIUS:
        raise OptionError(f"radius {radius:g} must lie above 0 and not above {LARGEST_RADIUS:g} arcsec.")
    if unknown := [way for way in by if way not in BY]:
        raise OptionError(f"'{unknown[0]}' is no way to match; there are {', '.join(BY)}.")
    if not 1900 <= epoch <= 2100:
        raise OptionError(f"epoch {epoch:g} is not a year between 1900 and 2100.")


@dataclass(frozen=True, eq=False)
class Spectra:
    """What is known of where `n` spectra point; rows have unique ids.

    id: (n,) int64; gaia: (n,) int64 Gaia DR3 source ids, 0 where unknown
    ra, dec: (n,) deg at `epoch`, NaN where unknown; pmra (with cos dec), pmdec: (n,) mas/yr, NaN where unknown
    """

    id: Ids
    ra: Float
    dec: Float
    gaia: Ids
    pmra: Float
    pmdec: Float
    epoch: float = EPOCH

    @classmethod
    def of(cls, store: Store, bridges: Sequence[Catalogue] = (), epoch: float = EPOCH) -> Spectra:
        """The spectra of a store of either kind, each id once.

        bridges: catalogues with the spectra's ids that tell their Gaia ids or proper motions; of several that tell
        the first does. An id with different Gaia ids in one bridge has none.
        epoch: Julian year of the store's positions
        """
        check(epoch=epoch)
        flags = store.read("flags")
        first = np.flatnonzero((flags & np.uint32(Flag.DUPLICATE_ID)) == 0)
        ids = store.read("id")[first]
        gaia = np.zeros(len(ids), dtype=np.int64)
        pmra, pmdec = np.full((2, len(ids)), np.nan)
        for bridge in bridges:
            if bridge.id is None:
                raise InputError(f"a bridge needs the spectra's ids, and the catalogue '{bridge.name}' has none.")
            row = _first_row(bridge.id, ids)
            found = row >= 0
            if bridge.gaia is not None:
                told = np.where(found, _unanimous(bridge.id, bridge.gaia)[row], 0)
                gaia = np.where(gaia == 0, told, gaia)
            moves = found & np.isnan(pmra)
            pmra, pmdec = np.where(moves, bridge.pmra[row], pmra), np.where(moves, bridge.pmdec[row], pmdec)
        return cls(ids, store.read("ra")[first], store.read("dec")[first], gaia, pmra, pmdec, float(epoch))

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, eq=False)
class Match:
    """What a catalogue says of `n` spectra, in their order.

    star: (n,) int64, number of the catalogue's star, -1 without a match; fate: (n,) int64, index into FATES
    values, sigmas: label -> (n,) float64, NaN where unknown; separation: (n,) arcsec of matches by position
    cuts: those of the catalogue; several: spectra that more than one row speaks of, and whose labels are the median
    """

    name: str
    id: Ids
    star: Ids
    fate: Ids
    values: dict[str, Float]
    sigmas: dict[str, Float]
    separation: Float
    cuts: tuple[Cut, ...] = ()
    several: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many spectra met each fate."""
        return dict(zip(FATES, np.bincount(self.fate, minlength=len(FATES)).tolist(), strict=True))


def match(
    catalogue: Catalogue, spectra: Spectra, radius: float = RADIUS, by: Sequence[str] = BY, *, name: str = ""
) -> Match:
    """Find the star of a catalogue that each spectrum is of.

    radius: arcsec, of matches by position; by: ways to match that are allowed; name: in the place of the catalogue's
    Raises OptionError for a radius or a way that cannot work.
    """
    check(radius, by)
    n = len(spectra)
    star_of_row = _stars(catalogue, radius)
    row = np.full(n, -1, dtype=np.int64)  # of the catalogue
    fate, separation = np.full(n, UNMATCHED, dtype=np.int64), np.full(n, np.nan)
    if "id" in by and catalogue.id is not None:
        row = _first_row(catalogue.id, spectra.id)
        apart = _apart(catalogue, row, spectra) > OTHER_PLACE  # False where a position is unknown
        fate = np.where(row < 0, UNMATCHED, np.where(apart, CONTRADICTED, ID))
    if (fate == ID).any():
        assert catalogue.id is not None
        group = np.unique(catalogue.id, return_inverse=True)[1]  # labels of the spectrum, not of its star
    else:
        group = star_of_row
        row, fate = np.full(n, -1, dtype=np.int64), np.full(n, UNMATCHED, dtype=np.int64)
        if "gaia" in by and catalogue.gaia is not None:
            key = np.where(spectra.gaia > 0, spectra.gaia, -1)
            row = _first_row(catalogue.gaia, key)
            fate = np.where(row >= 0, GAIA, UNMATCHED)
        if "position" in by:
            by_position(catalogue, star_of_row, spectra, radius, row, fate, separation)
    matched = fate <= POSITION
    values, sigmas = _combined(catalogue, group)
    where = np.where(matched, group[row], 0)
    return Match(
        name or catalogue.name,
        spectra.id,
        np.where(matched, star_of_row[row], -1),
        fate,
        {label: np.where(matched, value[where], np.nan) for label, value in values.items()},
        {label: np.where(matched, value[where], np.nan) for label, value in sigmas.items()},
        separation,
        catalogue.cuts,
        int(np.count_nonzero(matched & (np.bincount(group, minlength=1)[where] > 1))),
    )


def by_position(
    catalogue: Catalogue,
    star_of_row: Ids,
    spectra: Spectra,
    radius: float,
    row: Ids,
    fate: Ids,
    separation: Float,
) -> None:
    """Match those spectra that have no match yet by position; fills row, fate, separation (n,) in place.

    A spectrum is ambiguous if a second star of the catalogue lies within the radius, or no more than twice as far as
    the nearest. Of spectra of different stars that claim one star of the catalogue, the nearest has it if the others
    are more than twice as far; otherwise none. Where both sides know Gaia ids and they differ, the spectrum is
    contradicted if there is no other candidate.
    """
    spectrum, candidate, distance = _near(catalogue, spectra, COMPARABLE * radius)
    free = fate[spectrum] == UNMATCHED
    spectrum, candidate, distance = spectrum[free], candidate[free], distance[free]
    if catalogue.gaia is not None:
        theirs, ours = catalogue.gaia[candidate], spectra.gaia[spectrum]
        other = (theirs > 0) & (ours > 0) & (theirs != ours)
        fate[spectrum[other & (distance <= radius)]] = CONTRADICTED
        spectrum, candidate, distance = spectrum[~other], candidate[~other], distance[~other]
    # the nearest row of each star near each spectrum, nearest star first; star numbers break ties
    star = star_of_row[candidate]
    order = np.lexsort((distance, star, spectrum))
    spectrum, candidate, distance, star = spectrum[order], candidate[order], distance[order], star[order]
    nearest = np.ones(len(star), dtype=bool)
    nearest[1:] = (spectrum[1:] != spectrum[:-1]) | (star[1:] != star[:-1])
    order = np.lexsort((distance[nearest], spectrum[nearest]))
    spectrum, candidate, distance = (a[nearest][order] for a in (spectrum, candidate, distance))
    first = np.ones(len(spectrum), dtype=bool)
    first[1:] = spectrum[1:] != spectrum[:-1]
    second = np.full(len(spectrum), np.inf)
    second[:-1] = np.where(first[1:], np.inf, distance[1:])
    inside = first & (distance <= radius)
    doubtful = inside & (second <= np.maximum(radius, COMPARABLE * distance))
    fate[spectrum[doubtful]] = AMBIGUOUS
    clear = inside & ~doubtful
    row[spectrum[clear]], fate[spectrum[clear]] = candidate[clear], POSITION
    separation[spectrum[clear]] = distance[clear]
    _settle_claims(star_of_row, spectra, row, fate, separation)


def _settle_claims(star_of_row: Ids, spectra: Spectra, row: Ids, fate: Ids, separation: Float) -> None:
    """Leave a star of the catalogue to the spectra of one star; see `by_position`."""
    place = same_stars(spectra.ra, spectra.dec, [spectra.gaia])
    matched = np.flatnonzero(row >= 0)
    star = star_of_row[row[matched]]
    order = matched[np.argsort(star, kind="stable")]
    for claims in np.split(order, np.flatnonzero(np.diff(np.sort(star))) + 1):
        if len(claims) < 2:
            continue
        gaia = np.unique(spectra.gaia[claims][spectra.gaia[claims] > 0])
        if len(np.unique(place[claims])) == 1 and len(gaia) < 2:
            continue
        distance = np.where(fate[claims] == GAIA, 0.0, separation[claims])
        best = claims[np.argmin(distance)]
        same = (place[claims] == place[best]) & (
            (spectra.gaia[claims] == spectra.gaia[best]) | (spectra.gaia[claims] * spectra.gaia[best] == 0)
        )
        sure = distance.min() * COMPARABLE < distance[~same].min() if (~same).any() else True
        lost = claims[~same] if sure else claims
        lost = lost[fate[lost] == POSITION]
        row[lost], fate[lost], separation[lost] = -1, AMBIGUOUS, np.nan


def _near(catalogue: Catalogue, spectra: Spectra, radius: float) -> tuple[Ids, Ids, Float]:
    """Pairs of spectrum and catalogue row within a radius in arcsec, at the epoch where either's motion is known."""
    from scipy.spatial import cKDTree

    placed = np.isfinite(catalogue.ra) & np.isfinite(catalogue.dec)
    moves = placed & np.isfinite(catalogue.pmra) & np.isfinite(catalogue.epoch)
    pointed = np.flatnonzero(np.isfinite(spectra.ra) & np.isfinite(spectra.dec))
    found: list[tuple[Ids, Ids, Float]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]

    def search(rows: Ids, years_of_rows: Float, years_of_spectra: float) -> None:
        theirs = _moved(catalogue, rows, years_of_rows)
        ours = _moved(spectra, pointed, np.full(len(pointed), years_of_spectra))
        pairs = cKDTree(ours).sparse_distance_matrix(cKDTree(theirs), chord(radius), output_type="ndarray")
        arcsec = np.degrees(2 * np.arcsin(pairs["v"] / 2)) * 3600
        found.append((pointed[pairs["i"]], rows[pairs["j"]], arcsec))

    if moves.any():
        rows = np.flatnonzero(moves)
        search(rows, spectra.epoch - catalogue.epoch[rows], 0.0)
    still = np.flatnonzero(placed & ~moves)
    years = np.where(np.isfinite(catalogue.epoch[still]), catalogue.epoch[still] - spectra.epoch, 0.0)
    for year in np.unique(years):
        rows = still[years == year]
        search(rows, np.zeros(len(rows)), float(year))
    spectrum, row, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    return spectrum.astype(np.int64), row.astype(np.int64), distance


def _moved(of: Catalogue | Spectra, rows: Ids, years: Float) -> Float:
    return moved(of.ra[rows], of.dec[rows], of.pmra[rows], of.pmdec[rows], years)


def moved(ra: Float, dec: Float, pmra: Float, pmdec: Float, years: Float) -> Float:
    """Unit vectors (n, 3) of positions (n,) in deg after years (n,) of proper motion (n,) in mas/yr; NaN stands still.

    Straight motion on the tangent plane: the change of perspective as a star comes nearer is left out.
    """
    towards = directions(ra, dec)
    a, d = np.radians(ra), np.radians(dec)
    east = np.stack([-np.sin(a), np.cos(a), np.zeros_like(a)], axis=1)
    north = np.stack([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)], axis=1)
    known = np.isfinite(pmra) & np.isfinite(pmdec)
    along, up = (np.radians(np.where(known, pm, 0.0) * years / 3.6e6)[:, None] for pm in (pmra, pmdec))
    at = towards + along * east + up * north
    return np.asarray(at / np.linalg.norm(at, axis=1, keepdims=True))


def _apart(catalogue: Catalogue, row: Ids, spectra: Spectra) -> Float:
    """Arcsec (n,) between each spectrum and its row of the catalogue; NaN where either has no position."""
    theirs = directions(catalogue.ra[row], catalogue.dec[row])
    gap = np.linalg.norm(theirs - directions(spectra.ra, spectra.dec), axis=1)
    return np.asarray(np.degrees(2 * np.arcsin(np.minimum(gap / 2, 1.0))) * 3600)


def _stars(catalogue: Catalogue, radius: float) -> Ids:
    """A number (m,) for each star of a catalogue: rows with one Gaia id, one spectrum id, or one place.

    Without Gaia ids, spectra of a catalogue within the radius are of one star, as a fibre cannot tell; of a catalogue
    of stars only rows at the very same place are.
    """
    named = np.zeros(len(catalogue), dtype=bool) if catalogue.gaia is None else catalogue.gaia > 0
    keys = [key for key in (catalogue.gaia, catalogue.id) if key is not None]
    nearness = SAME_ENTRY if catalogue.id is None else max(SAME_ENTRY, radius)
    return same_stars(np.where(named, np.nan, catalogue.ra), catalogue.dec, keys, nearness)


def _combined(catalogue: Catalogue, group: Ids) -> tuple[dict[str, Float], dict[str, Float]]:
    """Labels of each group of rows: the median, its sigma their scatter or, if that is larger, the median error."""
    from stores.catalogues.literature import median_and_scatter

    n = int(group.max()) + 1 if len(group) else 0
    values, sigmas = {}, {}
    for label, value in catalogue.values.items():
        values[label], scatter = median_and_scatter(value, group, n)
        given = median_and_scatter(np.where(np.isfinite(value), catalogue.sigmas[label], np.nan), group, n)[0]
        sigmas[label] = np.fmax(np.where(scatter > 0, scatter, np.nan), given)
    return values, sigmas


def _first_row(keys: Ids, wanted: Ids) -> Ids:
    """The first row (n,) of each wanted key; -1 where there is none. A key of 0 names nothing."""
    order = np.argsort(keys, kind="stable")
    place = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    return np.where((keys[order][place] == wanted) & (wanted != 0), order[place], -1)


def _unanimous(ids: Ids, gaia: Ids) -> Ids:
    """Gaia ids (m,) by row, 0 on all rows of an id that has several."""
    known = np.where(gaia > 0, gaia, 0)
    group = np.unique(ids, return_inverse=True)[1]
    n = int(group.max()) + 1
    high = np.zeros(n, dtype=np.int64)
    np.maximum.at(high, group, known)
    low = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(low, group, np.where(known > 0, known, np.iinfo(np.int64).max))
    return np.where(low == high, high, 0)[group]
