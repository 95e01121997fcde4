"""Readers of label catalogues: files -> Catalogue. One file a catalogue; this file is the registry.

A reader is any callable that fits `Reader`; `@catalogue("name", cuts=...)` makes it known. A package of its own adds
one by naming its module under the entry-point group `spectrabridge.catalogues`.

    from stores.catalogues import read_catalogue
    apogee = read_catalogue("apogee", "allStar-dr17-synspec_rev1.fits")
    apogee.values["feh"], apogee.gaia, apogee.cuts
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stores.catalogue import Catalogue, Cut
from stores.errors import InputError, OptionError
from stores.spectrum import Float

ALL = "all"  # of the cuts, to be turned off


@dataclass(frozen=True)
class CatalogueOptions:
    """How to read a catalogue.

    off: names of cuts that are not made; 'all' for none at all
    columns: what a column stands for -> its name, for readers that cannot know (`table`)
    epoch: of the positions, in Julian years, where the file does not say
    """

    off: frozenset[str] = frozenset()
    columns: Mapping[str, str] = field(default_factory=dict)
    epoch: float | None = None


class Reader(Protocol):
    """Reads a whole catalogue and makes its cuts, but those that are turned off."""

    def __call__(self, path: Path, options: CatalogueOptions) -> Catalogue: ...


@dataclass(frozen=True)
class Kind:
    """A reader and the cuts it makes: name -> what a row must have."""

    name: str
    read: Reader
    cuts: Mapping[str, str]

    @property
    def summary(self) -> str:
        """The first line of the reader's docstring."""
        return (self.read.__doc__ or "").strip().split("\n")[0]


CATALOGUES: dict[str, Kind] = {}
BUILT_IN = ("apogee", "desi", "jinabase", "lasp", "pastel", "saga", "table")


def catalogue(name: str, cuts: Mapping[str, str] | None = None) -> Callable[[Reader], Reader]:
    """Register a reader under `name`; cuts: name -> what a row must have, as a sentence without full stop."""

    def register(read: Reader) -> Reader:
        CATALOGUES[name] = Kind(name, read, dict(cuts or {}))
        return read

    return register


def load_catalogues() -> dict[str, Kind]:
    """All kinds of catalogues: the built-in ones and those of other packages."""
    for module in BUILT_IN:
        import_module(f"stores.catalogues.{module}")
    for point in entry_points(group="spectrabridge.catalogues"):
        point.load()
    return CATALOGUES


def get_catalogue(name: str) -> Kind:
    """A kind of catalogue by name."""
    known = load_catalogues()
    if name not in known:
        raise OptionError(f"catalogue '{name}' is unknown; known ones are {', '.join(sorted(known))}.")
    return known[name]


def read_catalogue(
    name: str,
    path: str | Path,
    *,
    off: Collection[str] = (),
    columns: Mapping[str, str] | None = None,
    epoch: float | None = None,
) -> Catalogue:
    """Read a catalogue of a kind.

    off: names of cuts that are not made, 'all' for none at all; columns: e.g. {'feh': 'FE_H', 'id': 'OBSID'} for
    `table`; epoch: of the positions where the file does not say, Julian years.
    Raises OptionError for unknown names, InputError for a file that cannot be used or gives no label.
    """
    kind = get_catalogue(name)
    unknown = sorted(set(off) - set(kind.cuts) - {ALL})
    if unknown:
        known = ", ".join(kind.cuts) or "none"
        raise OptionError(f"catalogue '{name}' has no cut '{unknown[0]}' to turn off; its cuts are {known}.")
    if columns and name != "table":
        raise OptionError(f"catalogue '{name}' knows its columns; name columns for the catalogue 'table' only.")
    read = kind.read(Path(path), CatalogueOptions(frozenset(off), columns or {}, epoch))
    if not any(np.isfinite(value).any() for value in read.values.values()):
        removed = " after its cuts" if len(read.cuts) else ""
        raise InputError(f"'{path}' gives no label{removed}; check the file and the kind of catalogue.")
    return read


class Sieve:
    """Rows (n,) of a file that pass the cuts of its kind, and what each cut took."""

    def __init__(self, cuts: Mapping[str, str], n: int, options: CatalogueOptions) -> None:
        self.kept = np.ones(n, dtype=bool)
        self.told: list[Cut] = []
        self._cuts, self._off = cuts, options.off

    def made(self, name: str) -> bool:
        """Whether a cut is to be made."""
        return name not in self._off and ALL not in self._off

    def drop(self, name: str, bad: NDArray[np.bool_]) -> None:
        """Make a cut, unless it is turned off; rows (n,) that an earlier one took are not counted again."""
        if self.made(name):
            self.told.append(Cut(self._cuts[name], int(np.count_nonzero(self.kept & bad))))
            self.kept &= ~bad

    def withhold(self, name: str, bad: NDArray[np.bool_], *values: NDArray[np.float64]) -> None:
        """Make a cut that takes values (n,) and not rows: they become NaN, in place."""
        if self.made(name):
            self.told.append(Cut(self._cuts[name], int(np.count_nonzero(self.kept & bad))))
            for value in values:
                value[bad] = np.nan

    def catalogue(
        self,
        name: str,
        values: Mapping[str, Float],
        sigmas: Mapping[str, Float],
        told: Sequence[Cut] = (),
        **columns: Any,
    ) -> Catalogue:
        """The rows that are left; columns (n,) of Catalogue, None where there is none; told: cuts to tell first."""
        left: dict[str, Any] = {key: None if column is None else column[self.kept] for key, column in columns.items()}
        return Catalogue(
            name,
            {label: value[self.kept] for label, value in values.items()},
            {label: sigma[self.kept] for label, sigma in sigmas.items()},
            cuts=(*told, *self.told),
            **left,
        )
