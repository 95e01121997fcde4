"""The files of a job, in order, with the ids of their rows: on disk, so that their number costs no memory.

A listing is an SQLite database beside the store that its files fill. A run that is interrupted leaves it there,
and the next one looks only at files that it lacks or that have changed since; a finished store needs it no more.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError, OptionError, StoreError
from stores.processes import in_processes
from stores.progress import progress
from stores.surveys import check_ids, get_survey

FILES_AT_ONCE = 64  # that a process looks at before it reports
FILES_ALONE = 256  # that one process has looked at before another is started
FILES_AT_RISK = 1024  # that a kill can make a next run look at again
IDS_AT_ONCE = 2**22  # compared with each other in one pass

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY, path TEXT NOT NULL, size INTEGER, modified INTEGER,
    start INTEGER, count INTEGER, ids BLOB, reason TEXT
);
CREATE INDEX IF NOT EXISTS starts ON files (start) WHERE start IS NOT NULL;
CREATE TABLE IF NOT EXISTS repeated (row INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS totals (files INTEGER, rows INTEGER, content TEXT);
"""


@dataclass(frozen=True)
class Source:
    """A file and the rows it gives: `count` of them, from row `start` of the job on."""

    path: Path
    start: int
    count: int
    size: int


class Look(NamedTuple):
    """What a look at a file gave: `ids` (int64 as bytes), or why there are none; neither if it is unchanged."""

    path: str
    size: int = 0
    modified: int = 0
    ids: bytes | None = None
    reason: str | None = None


class Listing:
    """All files of a job; `look` fills it.

    path: where it is kept; in memory without one, for a few files
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.found = path is not None and path.exists()
        try:
            self._database = _database(path)
        except sqlite3.DatabaseError as error:
            mend = "delete it" if self.found else "choose another --out"
            raise StoreError(f"the list of files '{path}' cannot be opened ({error}); {mend}.") from None

    @classmethod
    def open(cls, path: Path) -> Listing:
        """One that another process has filled."""
        if not path.is_file():
            raise StoreError(f"the list of files '{path}' is not there; all processes need a folder that they share.")
        listing = cls.__new__(cls)
        listing.path, listing.found = path, True
        # no locks, which network file systems are bad at: nobody writes to it any more
        listing._database = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
        return listing

    def look(
        self,
        files: Iterable[Path],
        survey: str,
        *,
        limit: int | None = None,
        workers: int = 1,
        scheduler: str | None = None,
    ) -> None:
        """Look at all files, in order; one that cannot be used is recorded, and refused only if none is left.

        limit: at most this many rows, from the first on
        """
        try:
            try:
                number, rows = self._fill(files, survey, limit, (workers, scheduler))
            finally:
                self._database.commit()  # what was seen need not be looked at again, however this ends
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"the list of files '{self.path}' cannot be written ({error}); if no other run of this job is at "
                "work, delete it."
            ) from None
        if number == 0:
            raise OptionError("no files were given; name at least one.")
        if rows == 0:
            raise InputError(f"none of {number} files can be used; the first: {next(self.failed())['reason']}")

    def _fill(
        self, files: Iterable[Path], survey: str, limit: int | None, workers: tuple[int, str | None]
    ) -> tuple[int, int]:
        """Enter all files, the totals and the repeated ids; gives the numbers of files and of rows."""
        number = rows = 0
        content = hashlib.blake2b(digest_size=16)
        for look in progress(self._looks(files, survey, workers), "looking at files", unit="file"):
            if limit is not None and rows >= limit:
                break
            ids = self._enter(number, rows, look, None if limit is None else limit - rows)
            if ids is not None:
                content.update(np.array([look.size, len(ids)]).tobytes() + ids)
                rows += len(ids) // 8
            number += 1
            if number % FILES_AT_RISK == 0:
                self._database.commit()
        self._database.execute("DELETE FROM files WHERE number >= ?", (number,))
        self._database.execute("DELETE FROM totals")
        self._database.execute("INSERT INTO totals VALUES (?, ?, ?)", (number, rows, content.hexdigest()))
        self._mark_repeated(rows)
        return number, rows

    def _looks(self, files: Iterable[Path], survey: str, workers: tuple[int, str | None]) -> Iterator[Look]:
        tasks = self._tasks(iter(files), survey)
        few = islice(tasks, FILES_ALONE // FILES_AT_ONCE)
        for looks in in_processes(_look, few, 1):
            yield from looks
        task = next(tasks, None)
        if task is None:
            return  # without a start of processes
        shared = [Path(task[1][0])]
        for looks in in_processes(_look, chain([task], tasks), *workers, named=_named, shared=shared):
            yield from looks

    def _tasks(self, files: Iterator[Path], survey: str) -> Iterator[tuple[str, list[str], list[tuple[int, int]]]]:
        """Files to look at, and the size and time of those that are listed already."""
        first = 0
        while paths := [str(path) for path in islice(files, FILES_AT_ONCE)]:
            rows = self._database.execute(
                "SELECT number, path, size, modified FROM files WHERE ids IS NOT NULL AND number BETWEEN ? AND ?",
                (first, first + len(paths) - 1),
            )
            known = {(number, path): (size, modified) for number, path, size, modified in rows}
            yield survey, paths, [known.get(place, (-1, -1)) for place in enumerate(paths, first)]
            first += len(paths)

    def _enter(self, number: int, start: int, look: Look, most: int | None) -> bytes | None:
        """Write what was seen of a file; gives the ids of its rows, None if it has failed."""
        if look.reason is not None:
            self._database.execute(
                "REPLACE INTO files (number, path, reason) VALUES (?, ?, ?)", (number, look.path, look.reason)
            )
            return None
        ids = look.ids
        if ids is None:
            [(ids,)] = self._database.execute("SELECT ids FROM files WHERE number = ?", (number,))
        assert ids is not None
        count = len(ids) // 8 if most is None else min(len(ids) // 8, most)
        self._database.execute(
            "REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (number, look.path, look.size, look.modified, start, count, ids),
        )
        return ids[: 8 * count]

    def _mark_repeated(self, rows: int) -> None:
        """Find rows whose id stands in an earlier row, in passes over ids of one remainder each."""
        self._database.execute("DELETE FROM repeated")
        passes = 1 + rows // IDS_AT_ONCE
        for remainder in range(passes):
            ids, places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
            row = 0
            for own in self._all_ids():
                chosen = np.flatnonzero(own % passes == remainder)
                ids.append(own[chosen])
                places.append(row + chosen)
                row += len(own)
            repeated = np.concatenate(places)[repeated_ids(np.concatenate(ids))]
            self._database.executemany("INSERT INTO repeated VALUES (?)", ((int(row),) for row in repeated))

    def _all_ids(self) -> Iterator[NDArray[np.int64]]:
        found = self._database.execute("SELECT count, ids FROM files WHERE start IS NOT NULL ORDER BY start")
        while many := found.fetchmany(1024):  # an array for each file would cost more than the ids
            yield np.frombuffer(b"".join(blob[: 8 * count] for count, blob in many), np.int64)

    # -- what it holds -----------------------------------------------------------------------------------

    @property
    def totals(self) -> tuple[int, int, str]:
        """Number of files and of rows, and a digest of ids and sizes."""
        [(files, rows, content)] = self._asked("SELECT files, rows, content FROM totals")
        return files, rows, content

    def sources(self, rows: slice) -> list[Source]:
        """The files that hold these rows."""
        [(first,)] = self._asked("SELECT max(start) FROM files WHERE start <= ?", rows.start)
        found = self._asked(
            "SELECT path, start, count, size FROM files WHERE start >= ? AND start < ? ORDER BY start",
            first,
            rows.stop,
        )
        return [Source(Path(path), start, count, size) for path, start, count, size in found]

    def ids(self, rows: slice) -> NDArray[np.int64]:
        """The ids (n,) of rows."""
        parts = [np.zeros(0, np.int64)]
        for source in self.sources(rows):
            first, last = max(rows.start, source.start), min(rows.stop, source.start + source.count)
            [(number,)] = self._asked("SELECT number FROM files WHERE start = ?", source.start)
            with self._reading(), self._database.blobopen("files", "ids", number, readonly=True) as blob:
                blob.seek(8 * (first - source.start))
                parts.append(np.frombuffer(blob.read(8 * (last - first)), np.int64))
        return np.concatenate(parts)

    def all_ids(self) -> Iterator[NDArray[np.int64]]:
        """The ids of all rows, in order, those of some files at a time."""
        with self._reading():
            yield from self._all_ids()

    def repeated(self, rows: slice) -> NDArray[np.bool_]:
        """(n,) True where the same id stands in an earlier row of the job."""
        repeated = np.zeros(rows.stop - rows.start, dtype=bool)
        for (row,) in self._asked("SELECT row FROM repeated WHERE row >= ? AND row < ?", rows.start, rows.stop):
            repeated[row - rows.start] = True
        return repeated

    def first(self) -> list[Path]:
        """The first file that gives rows, in a list."""
        return [Path(path) for (path,) in self._asked("SELECT path FROM files WHERE start = 0 AND count > 0")]

    def failed(self) -> Iterator[dict[str, str]]:
        """Files that could not be used, {file, reason}."""
        for path, reason in self._asked("SELECT path, reason FROM files WHERE reason IS NOT NULL ORDER BY number"):
            yield {"file": path, "reason": reason}

    def _asked(self, question: str, *values: int) -> Iterator[Any]:
        with self._reading():
            yield from self._database.execute(question, values)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"the list of files '{self.path}' cannot be read ({error}); if another run of this job is at work, "
                "leave it to that, else run the same command again."
            ) from None

    def discard(self) -> None:
        """Close and delete it: its store is finished, or not to be."""
        self._database.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def discard_new(self) -> None:
        """Close it, and delete it if it was not there before: its store is refused, and may be another run's."""
        self._database.close()
        if self.path is not None and not self.found:
            self.path.unlink(missing_ok=True)


def repeated_ids(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) True where the same id stands in an earlier row."""
    repeated = np.ones(len(ids), dtype=bool)
    repeated[np.unique(ids, return_index=True)[1]] = False
    return repeated


def _database(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(":memory:" if path is None else path)
    database.executescript(SCHEMA)
    return database


def _named(_: str, paths: list[str], __: object) -> str:
    return f"one of the {len(paths)} files from '{paths[0]}' on"


def _look(survey: str, paths: list[str], known: list[tuple[int, int]]) -> list[Look]:
    """Look at files, unless size and time are the known ones."""
    return [_look_at(survey, path, was) for path, was in zip(paths, known, strict=True)]


def _look_at(survey: str, path: str, known: tuple[int, int]) -> Look:
    try:
        if not Path(path).exists():
            raise InputError(f"'{path}' does not exist; check the path.")
        about: Any = Path(path).stat()
        now = (about.st_size, about.st_mtime_ns)
        if now == known:
            return Look(path, *now)
        ids = check_ids(Path(path), get_survey(survey).ids(Path(path)))
        return Look(path, *now, ids=np.ascontiguousarray(ids, np.int64).tobytes())
    except (InputError, OSError) as error:
        return Look(path, reason=str(error))
