"""The plan of a job: which rows of which files make up which shard.

Files are looked at once, cheaply, for the ids of their object rows. From then on every row has its place, so
shards can be made in any order, by any process, again and again, with the same content.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.errors import InputError, OptionError
from stores.flags import Flag
from stores.grid import Grid
from stores.prepare import Preparation, prepare
from stores.progress import progress
from stores.provenance import array_digest, file_checksum
from stores.spectra import spectra_values
from stores.spectrum import Arm, Float, SpectrumBatch
from stores.store import Array
from stores.surveys import ReadOptions, get_survey
from stores.velocities import Velocities

BLOCK_ROWS = 256  # prepared at once: what bounds the memory of a shard that is being made


@dataclass(frozen=True)
class Source:
    """A file and the rows it gives: `count` of them, from row `start` of the job on."""

    path: Path
    start: int
    count: int
    size: int


@dataclass(frozen=True)
class Plan:
    """Everything needed to make any shard of a job.

    ids: (n,) int64 of all rows; repeated: (n,) True where an earlier row has the same id
    failed: files that could not be planned, [{file, reason}]
    offset: the row that ids and repeated begin with, in a plan of chosen rows
    """

    survey: str
    sources: Sequence[Source]
    ids: NDArray[np.int64]
    repeated: NDArray[np.bool_]
    grid: Grid
    preparation: Preparation
    options: ReadOptions = ReadOptions()
    velocities: Velocities | None = None
    failed: Sequence[dict[str, str]] = field(default_factory=tuple)
    offset: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def job(self) -> dict[str, Any]:
        """What decides the content of the rows, for a store to remember."""
        return {
            "survey": self.survey,
            "grid": str(self.grid),
            "preprocessing": self.preparation.attributes(self.grid),
            "medium": self.options.medium,
            "at_rest": self.options.at_rest,
            "velocities": None if self.velocities is None else self.velocities.fingerprint,
            "files": len(self.sources) + len(self.failed),
            "rows": len(self),
            "content": array_digest(self.ids, np.array([source.size for source in self.sources])),
        }

    def chosen(self, rows: slice) -> Plan:
        """The plan of only these rows, small enough to be sent to another process."""
        first = bisect_right(self.sources, rows.start, key=_start) - 1
        parts = self.sources[first : bisect_left(self.sources, rows.stop, key=_start)]
        own = slice(rows.start - self.offset, rows.stop - self.offset)
        velocities = None if self.velocities is None else self.velocities.of(self.ids[own])
        return replace(
            self,
            sources=parts,
            ids=self.ids[own],
            repeated=self.repeated[own],
            velocities=velocities,
            failed=(),
            offset=rows.start,
        )

    def make(self, rows: slice) -> tuple[dict[str, Array], dict[str, Any]]:
        """Read and prepare rows: the columns of a spectra store, and the record of where they came from.

        A file that fails gives masked rows flagged UNREADABLE, and an entry in the record's `failed`.
        """
        read = get_survey(self.survey).read
        columns: dict[str, Array] = {}
        done = 0
        waiting: list[SpectrumBatch] = []
        sources, failed = [], []
        for source in self.sources:
            first, last = max(rows.start, source.start), min(rows.stop, source.start + source.count)
            if first >= last:
                continue
            own = slice(first - self.offset, last - self.offset)
            wanted = self.ids[own]
            try:
                batch = read(source.path, self.options, slice(first - source.start, last - source.start))
                if not np.array_equal(batch.id, wanted):
                    raise InputError(f"'{source.path}' changed while it was read; write it into another store.")
                # once a file, by whoever makes its first row
                checksum = file_checksum(source.path) if first == source.start else ""
            except (InputError, OSError) as error:
                failed.append({"file": str(source.path), "reason": str(error)})
                batch, checksum = _unreadable(wanted, self.grid), ""
            if self.velocities is not None:
                batch.set_rv(self.velocities.lookup(batch.id, _known_rv(batch)))
            batch.flag(self.repeated[own], Flag.DUPLICATE_ID)
            for start in range(0, len(batch), BLOCK_ROWS):
                waiting.append(batch.take(slice(start, start + BLOCK_ROWS)))
                if sum(map(len, waiting)) >= BLOCK_ROWS:
                    done = self._prepare_into(columns, waiting, rows, done)
            entry = {"file": str(source.path), "size": source.size, "sha256": checksum, "rows": last - first}
            sources.append(entry)
        if waiting:
            self._prepare_into(columns, waiting, rows, done)
        return columns, {"sources": sources, "failed": failed}

    def _prepare_into(self, columns: dict[str, Array], waiting: list[SpectrumBatch], rows: slice, done: int) -> int:
        """Prepare the waiting batches into the next rows of the columns, and forget them."""
        values = spectra_values(prepare(waiting, self.grid, self.preparation))
        waiting.clear()
        end = done + len(values["id"])
        for name, value in values.items():
            if name not in columns:
                dtype = np.float32 if name in ("flux", "ivar") else value.dtype
                columns[name] = np.empty((rows.stop - rows.start, *value.shape[1:]), dtype=dtype)
            columns[name][done:end] = value
        return end


def make_plan(
    survey: str,
    files: Sequence[Path],
    grid: Grid,
    preparation: Preparation,
    *,
    options: ReadOptions = ReadOptions(),
    velocities: Velocities | None = None,
    limit: int | None = None,
) -> Plan:
    """Look at all files; one that cannot be used is recorded, and refused only if none is left.

    limit: at most this many rows, from the first on.
    """
    if not files:
        raise OptionError("no files were given; name at least one.")
    look = get_survey(survey).ids
    sources: list[Source] = []
    ids: list[NDArray[np.int64]] = []
    failed: list[dict[str, str]] = []
    total = 0
    for path in progress(files, "looking at files", unit="file"):
        if limit is not None and total >= limit:
            break
        try:
            if not path.exists():
                raise InputError(f"'{path}' does not exist; check the path.")
            found = look(path)
            size = path.stat().st_size
        except (InputError, OSError) as error:
            failed.append({"file": str(path), "reason": str(error)})
            continue
        found = found[: None if limit is None else limit - total]
        sources.append(Source(path, total, len(found), size))
        ids.append(found)
        total += len(found)
    if not sources:
        raise InputError(f"none of {len(failed)} files can be used; the first: {failed[0]['reason']}")
    all_ids = np.concatenate(ids)
    return Plan(survey, sources, all_ids, repeated_ids(all_ids), grid, preparation, options, velocities, tuple(failed))


def _start(source: Source) -> int:
    return source.start


def repeated_ids(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) True where the same id stands in an earlier row."""
    repeated = np.ones(len(ids), dtype=bool)
    repeated[np.unique(ids, return_index=True)[1]] = False
    return repeated


def expand_files(names: Iterable[str], patterns: Sequence[str]) -> Iterator[Path]:
    """Paths from the command line.

    Files are taken as they are, of folders those files in them whose names fit one of `patterns`, and @LIST
    stands for the lines of a file.
    """
    for name in names:
        if name.startswith("@"):
            listing = Path(name[1:])
            if not listing.is_file():
                raise OptionError(f"'{listing}', named as a list of files, does not exist; check the path.")
            try:
                lines = listing.read_text().splitlines()
            except UnicodeDecodeError:
                raise OptionError(f"'{listing}' is not a text file with a path a line.") from None
            yield from (Path(line.strip()) for line in lines if line.strip())
        elif Path(name).is_dir():
            inside = [path for path in Path(name).rglob("*") if any(fnmatch(path.name, one) for one in patterns)]
            if not inside:
                raise OptionError(f"folder '{name}' holds no file named {' or '.join(patterns)}; check the path.")
            yield from sorted(inside)
        else:
            yield Path(name)


def _unreadable(ids: NDArray[np.int64], grid: Grid) -> SpectrumBatch:
    zeros = np.zeros((len(ids), grid.n_pix))
    nowhere = np.full(len(ids), np.nan)
    batch = SpectrumBatch([Arm(grid.wavelength, zeros, zeros.copy())], ids, nowhere, nowhere, nowhere)
    batch.flag(np.ones(len(ids), dtype=bool), Flag.UNREADABLE)
    return batch


def _known_rv(batch: SpectrumBatch) -> Float:
    """Velocities with NaN or inf where they are missing or absurd, so that they stay flagged so."""
    rv = np.where(batch.flags & np.uint32(Flag.RV_MISSING), np.nan, batch.rv)
    return np.where(batch.flags & np.uint32(Flag.RV_ABSURD), np.inf, rv)
