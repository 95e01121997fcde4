"""Writers of simulated spectra in the surveys' own formats. One file a layout; this file is the registry.

A layout is a class that fits `Layout`; `@layout("name")` makes it known to instruments, whose TOML files name it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError, OptionError

if TYPE_CHECKING:
    from stores.simulate.observe import Observation, ObservedArm
    from stores.simulate.population import Stars
    from stores.spectrum import SpectrumBatch

BLOCK = 256  # stars observed at once: what bounds the memory
SERIAL = np.int64(2**34)  # a star's id modulo this is its number in its population, from 1
Cards = Mapping[str, str | int | bool]
NO_CARDS: Cards = MappingProxyType({})


@dataclass(frozen=True)
class Group:
    """Rows of a population that are written together; place: what the layout names their files by."""

    rows: NDArray[np.int64]
    place: tuple[int, ...]


class Layout(Protocol):
    """How a survey numbers, groups and writes spectra.

    ids: (n,) int64 of the spectra of stars; groups: all rows of a population, in the order they are made
    write: the files of one group in a folder, with cards of provenance in their headers
    batch: what the survey's reader gives of those files, up to their rounding
    """

    @staticmethod
    def ids(stars: Stars, seed: int) -> NDArray[np.int64]: ...

    @staticmethod
    def groups(stars: Stars) -> list[Group]: ...

    @staticmethod
    def write(observation: Observation, place: tuple[int, ...], folder: Path, cards: Cards) -> None: ...

    @staticmethod
    def batch(observation: Observation) -> SpectrumBatch: ...


LAYOUTS: dict[str, Layout] = {}
BUILT_IN = ("lamost_dr10", "desi_coadd", "table")
Kind = TypeVar("Kind", bound=Layout)


def layout(name: str) -> Callable[[type[Kind]], type[Kind]]:
    """Register a layout under `name`."""

    def register(kind: type[Kind]) -> type[Kind]:
        LAYOUTS[name] = kind()
        return kind

    return register


def get_layout(name: str) -> Layout:
    """A layout by name."""
    for module in BUILT_IN:
        import_module(f"stores.simulate.layouts.{module}")
    if name not in LAYOUTS:
        raise OptionError(f"layout '{name}' is unknown; known ones are {', '.join(sorted(LAYOUTS))}.")
    return LAYOUTS[name]


def only_arm(observation: Observation) -> ObservedArm:
    """The one arm of a layout that holds one. Raises InputError."""
    if len(observation.arms) != 1:
        raise InputError(
            f"instrument {observation.instrument.name} has {len(observation.arms)} arms and its layout, "
            f"{observation.instrument.layout}, holds one: join them (joined = true) or describe each as an instrument."
        )
    return observation.arms[0]


def blocks(n: int) -> list[Group]:
    """Rows 0 to n in blocks of BLOCK, numbered."""
    rows = np.arange(n)
    return [Group(rows[start : start + BLOCK], (start // BLOCK,)) for start in range(0, n, BLOCK)]


def serial(stars: Stars) -> NDArray[np.int64]:
    """Numbers (n,) of stars in their population, from 0."""
    number: NDArray[np.int64] = stars.id % SERIAL - 1
    return number


# coolest Teff of subclass 0 of each class, dwarfs of Pecaut & Mamajek (2013, ApJS 208, 9)
CLASSES = (
    ("M", 2300.0, 3850.0),
    ("K", 3850.0, 5280.0),
    ("G", 5280.0, 5930.0),
    ("F", 5930.0, 7220.0),
    ("A", 7220.0, 9700.0),
)


def spectral_class(teff: float) -> str:
    """Spectral class and subclass of a temperature in K, such as G2."""
    for letter, low, high in CLASSES:
        if teff < high:
            return f"{letter}{int(np.clip(10 * (high - teff) / (high - low), 0, 9))}"
    return "A0"
