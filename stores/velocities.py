"""Radial velocities from a catalogue, joined to spectra by id."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stores.command import say
from stores.errors import InputError
from stores.flags import Flag
from stores.grid import SPEED_OF_LIGHT
from stores.id_table import IdTable
from stores.provenance import array_digest
from stores.spectrum import NO_VELOCITY, Float, SpectrumBatch

ID_NAMES = ("targetid", "id", "obsid", "source_id")
VELOCITY_NAMES = ("vrad", "rv", "radial_velocity")
WARNINGS = ("rvs_warn", "zwarn", "zwarning")  # not 0 where the pipeline that measured a velocity warns of it
REDSHIFT = "z"  # only beside a warning of redrock's or SDSS's kind, else it may be a magnitude
OTHER_PIPELINE = "bestgrid"  # beside it, `success` is that of DESI's SP pipeline, which measures no velocities


@dataclass(frozen=True)
class Velocities:
    """What a catalogue says of spectra.

    ids: (n,) int64, sorted and unique
    rv: (n,) km/s; NaN where the catalogue has none that can be trusted
    warned: (n,) True where it has one that its own pipeline warns of, and no other
    path: the catalogue's; why: the columns that warn
    """

    ids: NDArray[np.int64]
    rv: Float
    warned: NDArray[np.bool_]
    path: Path = Path()
    why: str = ""

    @classmethod
    def read(cls, path: Path) -> Velocities:
        """From DESI's mwsall, rvtab or redrock files (HDU RVTAB or REDSHIFTS), or a table with ids and velocities.

        Velocities with RVS_WARN, ZWARN or ZWARNING other than 0 or a false SUCCESS are passed over, and of several
        rows with the same id the first that is left counts.
        """
        wanted = (*VELOCITY_NAMES, REDSHIFT, *WARNINGS, "success", OTHER_PIPELINE)
        table = IdTable.read(path, ID_NAMES, wanted, parts=("RVTAB", "REDSHIFTS"))
        rv = _velocities(table)
        doubted, why = doubtful(table)
        warned = doubted & np.isfinite(rv)
        # stable: within an id those that can be used come first, then those that are warned of
        order = np.lexsort((np.where(warned, 1, np.where(np.isfinite(rv), 0, 2)), table.ids))
        ids = table.ids[order]
        first = np.ones(len(ids), dtype=bool)
        first[1:] = ids[1:] != ids[:-1]
        chosen = order[first]
        return cls(table.ids[chosen], np.where(warned, np.nan, rv)[chosen], warned[chosen], path, why)

    def tell_joined(self, ids: Iterable[NDArray[np.int64]]) -> None:
        """Say how many spectra, of these ids, get a velocity; raises InputError if the catalogue has none of them."""
        spectra = known = used = passed = 0
        example = ""
        for part in ids:
            example = example or "".join(f", such as {one}," for one in part[:1])
            spectra += len(part)
            if len(self.ids):
                place, found = self._places(part)
                known += int(np.count_nonzero(found))
                used += int(np.count_nonzero(found & np.isfinite(self.rv[place])))
                passed += int(np.count_nonzero(found & self.warned[place]))
        if known == 0:
            theirs = "".join(f", such as {one}" for one in self.ids[:1])
            raise InputError(
                f"none of the {spectra} spectra is in '{self.path}': their ids{example} are not those there{theirs}; "
                "give a catalogue with their survey's ids, or leave --rv out."
            )
        say(f"velocities for {used} of {spectra} spectra come from '{self.path}'.")
        if passed:
            say(
                f"note: {passed} of {used + passed} velocities of these spectra in '{self.path}' are passed over, "
                f"because their pipeline warns of them ({self.why}); the spectra keep the velocity of their own file, "
                "where it has one, and are flagged SURVEY_WARNING."
            )

    @property
    def fingerprint(self) -> str:
        """Of all that decides what spectra get."""
        return array_digest(self.ids, self.rv, self.warned)

    def of(self, ids: NDArray[np.int64]) -> Velocities:
        """Only the entries of these ids."""
        wanted = np.unique(ids)
        place = np.searchsorted(self.ids, wanted)
        place = place[place < len(self.ids)]
        keep = place[self.ids[place] == wanted[: len(place)]]  # both are sorted
        return Velocities(self.ids[keep], self.rv[keep], self.warned[keep], self.path, self.why)

    def lookup(self, ids: NDArray[np.int64], default: Float) -> Float:
        """rv (n,) of ids (n,); the default's value where the catalogue has none that can be trusted."""
        if len(self.ids) == 0:
            return default
        place, known = self._places(ids)
        return np.where(known & np.isfinite(self.rv[place]), self.rv[place], default)

    def give(self, batch: SpectrumBatch) -> None:
        """Give a batch the velocities of its ids, and flag those that were passed over."""
        batch.set_rv(self.lookup(batch.id, _known_rv(batch)))
        batch.flag(self.warns_of(batch.id), Flag.SURVEY_WARNING)

    def warns_of(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) True for ids (n,) whose velocity was passed over."""
        if len(self.ids) == 0:
            return np.zeros(len(ids), dtype=bool)
        place, known = self._places(ids)
        return known & self.warned[place]

    def _places(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Where ids (n,) stand, if they do."""
        place = np.clip(np.searchsorted(self.ids, ids), 0, len(self.ids) - 1)
        return place, self.ids[place] == ids


def _known_rv(batch: SpectrumBatch) -> Float:
    """Velocities with NaN or inf where they are missing or absurd, so that they stay flagged so."""
    rv = np.where(batch.flags & np.uint32(Flag.RV_MISSING), np.nan, batch.rv)
    return np.where(batch.flags & np.uint32(Flag.RV_ABSURD), np.inf, rv)


def _velocities(table: IdTable) -> Float:
    """Velocities (n,) in km/s, NaN where there is none. Raises InputError."""
    redshifts = table.part == "REDSHIFTS" or table.first(*WARNINGS[1:]) is not None
    if table.first(*VELOCITY_NAMES) is None and redshifts and table.first(REDSHIFT):
        z = table.numbers(REDSHIFT)
        return np.where(z > -1.0, SPEED_OF_LIGHT * z, np.nan)
    rv = table.numbers(*VELOCITY_NAMES)
    return np.where(rv <= NO_VELOCITY, np.nan, rv)


def doubtful(table: IdTable) -> tuple[NDArray[np.bool_], str]:
    """(n,) True where the pipeline that measured a row's velocity warns of it, and the columns that say so."""
    doubted, why = np.zeros(len(table), dtype=bool), []
    name = table.first(*WARNINGS)
    if name is not None:
        doubted |= np.nan_to_num(table.numbers(name)) != 0
        why.append(name.upper())
    if "success" in table.columns and (table.part == "RVTAB" or table.first(OTHER_PIPELINE) is None):
        failed = table.false("success")
        doubted |= failed
        why += ["SUCCESS"] if failed.any() else []
    return doubted, " and ".join(why)
