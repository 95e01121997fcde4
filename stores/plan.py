"""The plan of a job: which rows of which files make up which shard.

Files are looked at once, cheaply, for the ids of their object rows. From then on every row has its place, so
shards can be made in any order, by any process, again and again, with the same content.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from stores.errors import OptionError
from stores.grid import Grid
from stores.listing import Listing
from stores.location import Url, location
from stores.prepare import Preparation
from stores.store import Array
from stores.surveys import ReadOptions
from stores.task import Task
from stores.velocities import Velocities


@dataclass(frozen=True)
class Plan:
    """Everything needed to make any shard of a job."""

    survey: str
    listing: Listing
    grid: Grid
    preparation: Preparation
    options: ReadOptions = ReadOptions()
    velocities: Velocities | None = None

    def __len__(self) -> int:
        return self.listing.totals[1]

    @property
    def job(self) -> dict[str, Any]:
        """What decides the content of the rows, for a store to remember."""
        files, rows, content = self.listing.totals
        return {
            "survey": self.survey,
            "grid": str(self.grid),
            "preprocessing": self.preparation.attributes(self.grid),
            "medium": self.options.medium,
            "at_rest": self.options.at_rest,
            "velocities": None if self.velocities is None else self.velocities.fingerprint,
            "files": files,
            "rows": rows,
            "content": content,
        }

    def task(self, rows: slice) -> Task:
        """The part of the job that makes these rows."""
        ids = self.listing.ids(rows)
        return Task(
            self.survey,
            rows.start,
            self.listing.sources(rows),
            ids,
            self.listing.repeated(rows),
            self.grid,
            self.preparation,
            self.options,
            None if self.velocities is None else self.velocities.of(ids),
        )

    def make(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """All rows at once, for a few: the columns of a spectra store, and where they came from."""
        return self.task(slice(0, len(self))).make()


def make_plan(
    survey: str,
    files: Iterable[Path],
    grid: Grid,
    preparation: Preparation,
    *,
    options: ReadOptions = ReadOptions(),
    velocities: Velocities | None = None,
    limit: int | None = None,
) -> Plan:
    """The plan of a job that is not kept, for a few files; `limit`: at most this many rows, from the first on."""
    listing = Listing()
    listing.look(files, survey, limit=limit)
    if velocities is not None:
        velocities.tell_joined(listing.all_ids())
    return Plan(survey, listing, grid, preparation, options, velocities)


def expand_files(names: Iterable[str], patterns: Sequence[str]) -> Iterator[Path]:
    """Paths from the command line.

    Files are taken as they are, of folders those files in them whose names fit one of `patterns`, and @LIST
    stands for the lines of a file.
    """
    for name in names:
        if isinstance(location(name), Url):
            raise OptionError(f"'{name}' lies in object storage, and survey files are read from disk; fetch it first.")
        if name.startswith("@"):
            yield from _listed(Path(name[1:]))
        elif Path(name).is_dir():
            inside = _inside(name, patterns)
            first = next(inside, None)
            if first is None:
                raise OptionError(f"folder '{name}' holds no file named {' or '.join(patterns)}; check the path.")
            yield first
            yield from inside
        else:
            yield Path(name)


def _listed(listing: Path) -> Iterator[Path]:
    if not listing.is_file():
        raise OptionError(f"'{listing}', named as a list of files, does not exist; check the path.")
    try:
        with listing.open(encoding="utf-8") as lines:
            yield from (Path(line.strip()) for line in lines if line.strip())
    except UnicodeDecodeError:
        raise OptionError(f"'{listing}' is not a text file with a path a line.") from None


def _inside(folder: str, patterns: Sequence[str]) -> Iterator[Path]:
    """Files below a folder, in the order of their paths."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _inside(entry.path, patterns)
        elif any(fnmatch(entry.name, one) for one in patterns):
            yield Path(entry.path)
