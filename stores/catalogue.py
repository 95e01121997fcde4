"""Catalogue: the one typed thing that readers of label catalogues give and everything else takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError
from stores.provenance import array_digest
from stores.spectrum import Float, as_id

UNITS = {"teff": "K", "logg": "dex", "feh": "dex", "alphafe": "dex", "vmic": "km/s"}
# what lies outside is no measurement; labels that are not listed lose what stands for "no value" only
SENSIBLE = {"teff": (0.0, 1e5), "logg": (-5.0, 10.0), "feh": (-10.0, 10.0), "alphafe": (-10.0, 10.0)}
LOWEST_GAIA = 2**32  # Gaia's begin there; what is lower stands for "none", such as -1 or 999999
FILL = -999.0  # -999, -9999 and the like
POSITIONS = ("ra", "dec", "pmra", "pmdec", "epoch")


class Cut(NamedTuple):
    """What a cut asks for, as a sentence, and how many rows it took out (or took a label from)."""

    sentence: str
    rows: int


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Labels of `n` stars or spectra. Built from arrays or single numbers for all rows; kept as (n,) arrays.

    name: of the kind of catalogue, such as 'apogee'
    values: label -> (n,) float64, NaN where unknown; teff in K, logg, feh, alphafe in dex, others as they come; none
        in a catalogue that only says which spectrum is of which star
    sigmas: label -> (n,) one-sigma errors in the label's unit, NaN where unknown
    id: (n,) int64, the survey's identifiers of the spectra; None if rows are stars
    gaia: (n,) int64, Gaia DR3 source ids, 0 where none; None if the catalogue has none
    ra, dec: (n,) deg, ICRS; pmra (with cos dec), pmdec: (n,) mas/yr; epoch: (n,) Julian years; NaN where unknown
    cuts: what was taken out, and of how many rows

    Values that cannot be (Teff of 0, [Fe/H] of -9999) become NaN and are told as a cut.
    """

    name: str
    values: Mapping[str, Float]
    sigmas: Mapping[str, Float] = field(default_factory=dict)
    id: NDArray[np.int64] | None = None
    gaia: NDArray[np.int64] | None = None
    ra: Float = np.nan  # type: ignore[assignment]
    dec: Float = np.nan  # type: ignore[assignment]
    pmra: Float = np.nan  # type: ignore[assignment]
    pmdec: Float = np.nan  # type: ignore[assignment]
    epoch: Float = np.nan  # type: ignore[assignment]
    cuts: tuple[Cut, ...] = ()

    def __post_init__(self) -> None:
        given = (*self.values.values(), self.id, self.gaia, self.ra)
        n = len(np.atleast_1d(next(column for column in given if column is not None)))
        values = {label: _column(self.name, label, value, n) for label, value in self.values.items()}
        sigmas = {
            label: _column(self.name, f"sigma of {label}", self.sigmas.get(label, np.nan), n) for label in values
        }
        cuts = [Cut(*cut) for cut in self.cuts]
        for label, value in values.items():
            absurd = np.isfinite(value) & ~_sensible(label, value)
            if absurd.any():
                cuts.append(Cut(f"{label} is a number that cannot be: taken as unknown", int(absurd.sum())))
            values[label] = np.where(np.isfinite(value) & ~absurd, value, np.nan)
            good = np.isfinite(sigmas[label]) & (sigmas[label] > 0) & np.isfinite(values[label])
            sigmas[label] = np.where(good, sigmas[label], np.nan)
        positions = {name: _column(self.name, name, getattr(self, name), n) for name in POSITIONS}
        off = ~((np.abs(positions["dec"]) <= 90) & (np.abs(positions["ra"]) <= 360))
        positions["ra"] = np.where(off, np.nan, positions["ra"] % 360)
        positions["dec"] = np.where(off, np.nan, positions["dec"])
        still = ~(np.isfinite(positions["pmra"]) & np.isfinite(positions["pmdec"]))
        still |= (np.abs(positions["pmra"]) > 2e4) | (np.abs(positions["pmdec"]) > 2e4)  # Barnard's star has 1e4
        positions["pmra"] = np.where(still, np.nan, positions["pmra"])
        positions["pmdec"] = np.where(still, np.nan, positions["pmdec"])
        ids = {name: _ids(self.name, name, getattr(self, name), n) for name in ("id", "gaia")}
        gaia = ids["gaia"]
        if gaia is not None:
            ids["gaia"] = np.where(gaia >= LOWEST_GAIA, gaia, 0)
        kept: dict[str, Any] = {**ids, **positions, "values": values, "sigmas": sigmas, "cuts": tuple(cuts)}
        for name, column in kept.items():
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        return len(self.ra)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.values)

    def take(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_] | slice) -> Catalogue:
        """Only these rows, in this order."""
        held: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("name", "cuts")}
        for name, value in held.items():
            if isinstance(value, Mapping):
                held[name] = {label: column[rows] for label, column in value.items()}
            elif value is not None:
                held[name] = value[rows]
        return replace(self, **held)

    @property
    def fingerprint(self) -> str:
        """A hash of the content, row by row."""
        columns = [*self.values.values(), *self.sigmas.values(), *(getattr(self, name) for name in POSITIONS)]
        columns += [column for column in (self.id, self.gaia) if column is not None]
        names = np.frombuffer(" ".join((self.name, *self.values)).encode(), dtype=np.uint8)
        return array_digest(names, *columns)


def _sensible(label: str, value: Float) -> NDArray[np.bool_]:
    low, high = SENSIBLE.get(label, (FILL, np.inf))
    return (value > low) & (value <= high)


def _column(catalogue: str, name: str, value: Any, n: int) -> Float:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.shape not in ((), (n,)):
        raise InputError(f"the catalogue '{catalogue}' has {name} that is not one number in each of its {n} rows.")
    return np.array(np.broadcast_to(array, (n,)), dtype=np.float64)


def _ids(catalogue: str, name: str, value: Any, n: int) -> NDArray[np.int64] | None:
    if value is None:
        return None
    ids = as_id(value)
    if ids.shape != (n,):
        raise InputError(f"the catalogue '{catalogue}' has {len(ids)} {name} for {n} rows.")
    return ids
