"""Survey readers: files of a survey -> SpectrumBatch. One file a survey; this file is the registry.

A reader is any callable that fits `Reader`; `@survey("name", ids=...)` makes it known. A package of its own adds
one by naming its module under the entry-point group `spectrabridge.surveys`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError, OptionError
from stores.spectrum import SpectrumBatch

ALL_ROWS = slice(None)
FITS_FILES = ("*.fits", "*.fits.gz", "*.fit", "*.fit.gz")


@dataclass(frozen=True)
class ReadOptions:
    """What a file may leave unsaid.

    medium: 'air' or 'vacuum', the medium of the wavelengths where the file does not say
    at_rest: the spectra are in the rest frame already (stellar libraries): their velocity is 0, not missing
    """

    medium: str | None = None
    at_rest: bool = False


class Reader(Protocol):
    """Reads the object rows of one file, in the order of its ids; `rows` selects among them."""

    def __call__(self, path: Path, options: ReadOptions, rows: slice = ALL_ROWS) -> SpectrumBatch: ...


@dataclass(frozen=True)
class Survey:
    """A reader and the cheap look at a file's ids, (n,) int64, that plans are made from.

    files: patterns of the names of its files, to find them in a folder
    medium: of the wavelengths of all its files; None where it is for them or for options to say
    velocities: whether its files come with velocities
    """

    name: str
    read: Reader
    ids: Callable[[Path], NDArray[np.int64]]
    files: tuple[str, ...]
    medium: str | None = None
    velocities: bool = False

    def refuse_medium(self, medium: str | None) -> None:
        """Raise OptionError for a medium that is not that of its files."""
        if None not in (self.medium, medium) and medium != self.medium:
            raise OptionError(
                f"the wavelengths of {self.name} files are in {self.medium}; leave --medium {medium} out."
            )

    @property
    def summary(self) -> str:
        """The first line of the reader's docstring."""
        return (self.read.__doc__ or "").strip().split("\n")[0]


SURVEYS: dict[str, Survey] = {}
BUILT_IN = ("desi", "lamost", "sdss", "fits1d", "table", "specutils_any")


def survey(
    name: str,
    ids: Callable[[Path], NDArray[np.int64]],
    files: tuple[str, ...] = FITS_FILES,
    *,
    medium: str | None = None,
    velocities: bool = False,
) -> Callable[[Reader], Reader]:
    """Register a reader under `name`.

    ids: gives the ids of a file's object rows without reading spectra; the others are those of Survey
    """

    def register(read: Reader) -> Reader:
        SURVEYS[name] = Survey(name, read, ids, files, medium, velocities)
        return read

    return register


def load_surveys() -> dict[str, Survey]:
    """All surveys: the built-in ones and those of other packages."""
    for module in BUILT_IN:
        import_module(f"stores.surveys.{module}")
    for point in entry_points(group="spectrabridge.surveys"):
        point.load()
    return SURVEYS


def get_survey(name: str) -> Survey:
    """A survey by name."""
    known = load_surveys()
    if name not in known:
        raise OptionError(f"survey '{name}' is unknown; known ones are {', '.join(sorted(known))}.")
    return known[name]


def check_ids(path: Path, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The ids of a file, refused if there are none."""
    if len(ids) == 0:
        raise InputError(f"'{path}' holds no object spectra.")
    return ids
